//! The multiaddrs that a route may hold, checked byte by byte without a multiaddr library: the verifier needs none.
//!
//! A host, a port, and who is there; nothing else. What a stranger signs ends up in dials, logs and terminals, so a
//! host name is plain ASCII. It never dials and never resolves.

use core::fmt;

/// Longest host name, as in DNS.
pub const MAX_HOST_BYTES: usize = 253;
/// Longest peer id: an inlined key or a hash, with room to spare.
pub const MAX_PEER_ID_BYTES: usize = 64;

/// Why bytes are no multiaddr that a route may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPlace {
    /// They end within a part.
    Truncated,
    /// A part of a kind, or in a place, that is not allowed.
    Part(u64),
    /// A host name that isn't letters, digits, hyphens and dots.
    Host,
    /// No peer id where one is due, or one where none is.
    PeerId,
}

impl fmt::Display for NoPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("it is cut off"),
            Self::Part(code) => write!(f, "part {code} is not allowed in its place"),
            Self::Host => f.write_str("its host name is not plain"),
            Self::PeerId => f.write_str("its peer id is missing or out of place"),
        }
    }
}

impl core::error::Error for NoPlace {}

/// A relay: `/ip4|ip6|dns|dns4|dns6/…/tcp/…/p2p/<node>`, or over `udp/…/quic-v1`.
pub fn check_relay(bytes: &[u8]) -> Result<(), NoPlace> {
    let mut parts = Parts(bytes);
    parts.host_and_port()?;
    match parts.next()? {
        Some(Part::PeerId) if parts.0.is_empty() => Ok(()),
        _ => Err(NoPlace::PeerId),
    }
}

/// The device itself: as a relay, without a peer id, since the route's signer is who is there.
pub fn check_direct(bytes: &[u8]) -> Result<(), NoPlace> {
    let mut parts = Parts(bytes);
    parts.host_and_port()?;
    match parts.next()? {
        None => Ok(()),
        Some(_) => Err(NoPlace::PeerId),
    }
}

/// One part of a multiaddr, by its number in the multiformats table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Host,
    Tcp,
    Udp,
    QuicV1,
    PeerId,
}

struct Parts<'a>(&'a [u8]);

impl<'a> Parts<'a> {
    fn host_and_port(&mut self) -> Result<(), NoPlace> {
        let missing = |part: Option<Part>| part.map(|_| ()).ok_or(NoPlace::Truncated);
        let start = self.0;
        let misplaced = || NoPlace::Part(Parts(start).number().unwrap_or_default());
        match self.next()? {
            Some(Part::Host) => {}
            other => return missing(other).and(Err(misplaced())),
        }
        match self.next()? {
            Some(Part::Tcp) => Ok(()),
            Some(Part::Udp) if self.next()? == Some(Part::QuicV1) => Ok(()),
            other => missing(other).and(Err(misplaced())),
        }
    }

    fn next(&mut self) -> Result<Option<Part>, NoPlace> {
        if self.0.is_empty() {
            return Ok(None);
        }
        Ok(Some(match self.number()? {
            4 => self.skip(4, Part::Host)?,
            41 => self.skip(16, Part::Host)?,
            53..=55 => self.host()?,
            6 => self.skip(2, Part::Tcp)?,
            273 => self.skip(2, Part::Udp)?,
            461 => Part::QuicV1,
            421 => {
                let length = self.length(MAX_PEER_ID_BYTES).ok_or(NoPlace::PeerId)?;
                self.skip(length, Part::PeerId)?
            }
            code => return Err(NoPlace::Part(code)),
        }))
    }

    fn host(&mut self) -> Result<Part, NoPlace> {
        let length = self.length(MAX_HOST_BYTES).ok_or(NoPlace::Host)?;
        let host = self.take(length)?;
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
        if host.is_empty() || !host.iter().all(plain) { Err(NoPlace::Host) } else { Ok(Part::Host) }
    }

    fn skip(&mut self, count: usize, part: Part) -> Result<Part, NoPlace> {
        self.take(count).map(|_| part)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], NoPlace> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(NoPlace::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn length(&mut self, most: usize) -> Option<usize> {
        self.number().ok().and_then(|length| usize::try_from(length).ok()).filter(|length| *length <= most)
    }

    /// An unsigned varint of at most two bytes: none that is allowed here has more.
    fn number(&mut self) -> Result<u64, NoPlace> {
        match *self.0 {
            [low, ref rest @ ..] if low < 0x80 => {
                self.0 = rest;
                Ok(u64::from(low))
            }
            [low, high, ref rest @ ..] => {
                self.0 = rest;
                let code = u64::from(low & 0x7f) | u64::from(high) << 7;
                // A third byte follows, or the second one was padding.
                if high == 0 || high >= 0x80 { Err(NoPlace::Part(code)) } else { Ok(code) }
            }
            _ => Err(NoPlace::Truncated),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const IP4: &[u8] = &[4, 127, 0, 0, 1];
    const TCP: &[u8] = &[6, 0x1f, 0x90];
    const QUIC: &[u8] = &[0x91, 0x02, 0x1f, 0x90, 0xcd, 0x03];
    const PEER: &[u8] = &[0xa5, 0x03, 4, 0, 2, 8, 2];

    fn dns(host: &[u8]) -> Vec<u8> {
        [&[54, host.len() as u8], host].concat()
    }

    #[test]
    fn a_host_a_port_and_for_a_relay_who_is_there() {
        let ip6 = [&[41][..], &[0; 16]].concat();
        for host in [IP4, &ip6, &dns(b"node-1.example.org")] {
            for port in [TCP, QUIC] {
                assert_eq!(check_relay(&[host, port, PEER].concat()), Ok(()));
                assert_eq!(check_direct(&[host, port].concat()), Ok(()));
                assert_eq!(check_relay(&[host, port].concat()), Err(NoPlace::PeerId));
                assert_eq!(check_direct(&[host, port, PEER].concat()), Err(NoPlace::PeerId));
            }
        }
    }

    #[test]
    fn what_could_forge_lines_in_a_terminal_is_refused() {
        for host in [&b"x\n\x1b[2Ktrust 5"[..], b"a b", b"", "caf\u{e9}".as_bytes(), "\u{202e}gro".as_bytes()]
        {
            let relay = [&dns(host), TCP, PEER].concat();
            assert_eq!(check_relay(&relay), Err(NoPlace::Host), "{host:x?}");
        }
    }

    #[test]
    fn nothing_else_passes() {
        // /ip4/…/tcp/…/p2p/…/p2p-circuit, /unix, /ip4 alone, a port before its host, two peers.
        let circuit = [IP4, TCP, PEER, &[0xa2, 0x02]].concat();
        assert_eq!(check_relay(&circuit), Err(NoPlace::PeerId));
        assert_eq!(check_relay(&[0x90, 0x03, 1, b'/']), Err(NoPlace::Part(400)));
        assert_eq!(check_relay(IP4), Err(NoPlace::Truncated));
        assert_eq!(check_relay(&[]), Err(NoPlace::Truncated));
        assert_eq!(check_relay(&[TCP, IP4, PEER].concat()), Err(NoPlace::Part(6)));
        assert_eq!(check_relay(&[IP4, TCP, PEER, PEER].concat()), Err(NoPlace::PeerId));
        // A padded number, and one that doesn't end.
        assert_eq!(check_relay(&[0x84, 0x00, 127, 0, 0, 1]), Err(NoPlace::Part(4)));
        assert!(check_relay(&[0xff; 12]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(check_relay(&bytes).is_err() || check_direct(&bytes).is_err());
        }

        #[test]
        fn every_proper_prefix_is_refused(cut in 0..100usize) {
            let relay = [&dns(b"a.b")[..], QUIC, PEER].concat();
            prop_assert!(check_relay(&relay[..cut % relay.len()]).is_err());
        }
    }
}
