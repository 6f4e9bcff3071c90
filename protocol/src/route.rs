//! Route records: where a device is reachable now, signed by the key it uses now.

use crate::address::DeviceId;
use crate::head::MAX_CLOCK_SKEW;
use crate::keys::{PublicKey, SecretKey, Signature};
use crate::record::DeviceRecord;
use crate::spec::ChainSpec;
use crate::whereabouts::{NoPlace, check_direct, check_relay};
use crate::wire;
use alloc::vec::Vec;
use alloy_primitives::{B256, Bytes, keccak256};
use rlp::{Decodable, DecoderError, Encodable, Rlp, RlpStream};

/// Most bytes of a signed record.
pub const MAX_ROUTE_BYTES: usize = 1_024;
/// Longest life of a record, in seconds.
pub const MAX_ROUTE_TTL: u64 = 3_600;
/// Most relays, and most direct multiaddrs, in one record.
pub const MAX_ROUTE_ADDRESSES: usize = 12;

const VERSION: u64 = 1;
const PREFIX: &[u8] = b"\x19Windlass Route\n";

/// What a device states about where it is. RLP `[version, chainId, genesisHash, device, seq, issuedAt,
/// ttl, relays, direct]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The hash of block 0.
    pub genesis_hash: B256,
    /// The device.
    pub device: DeviceId,
    /// Unix milliseconds when it was made; the highest wins.
    pub seq: u64,
    /// Unix seconds when it was made.
    pub issued_at: u64,
    /// Seconds it is good for, at most [`MAX_ROUTE_TTL`].
    pub ttl: u64,
    /// Multiaddr bytes, each ending in `/p2p/<node>`; see [`check_relay`].
    pub relays: Vec<Bytes>,
    /// Multiaddr bytes without `/p2p`, see [`check_direct`]; empty unless the device opts in.
    pub direct: Vec<Bytes>,
}

impl Encodable for Route {
    fn rlp_append(&self, s: &mut RlpStream) {
        s.begin_list(9).append(&VERSION).append(&self.chain_id).append(&self.genesis_hash.as_slice());
        s.append(&self.device.0.as_slice()).append(&self.seq).append(&self.issued_at).append(&self.ttl);
        wire::append_slices(s, &self.relays);
        wire::append_slices(s, &self.direct);
    }
}

impl Decodable for Route {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        let f = wire::fields(rlp, 9)?;
        if f[0].as_val::<u64>()? != VERSION {
            return Err(DecoderError::Custom("a route record of another version"));
        }
        Ok(Self {
            chain_id: f[1].as_val()?,
            genesis_hash: wire::word(&f[2])?,
            device: DeviceId(wire::address(&f[3])?),
            seq: f[4].as_val()?,
            issued_at: f[5].as_val()?,
            ttl: f[6].as_val()?,
            relays: wire::byte_strings(&f[7], MAX_ROUTE_ADDRESSES)?,
            direct: wire::byte_strings(&f[8], MAX_ROUTE_ADDRESSES)?,
        })
    }
}

/// A route and its device's signature, as exchanged: RLP `[rlp bytes, signature]`, the signature over
/// `keccak256("\x19Windlass Route\n" ‖ rlp bytes as received)`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedRoute {
    route: Bytes,
    signature: Signature,
}

impl SignedRoute {
    /// Signs a route with the key the device uses now.
    pub fn sign(route: &Route, key: &SecretKey) -> Self {
        let route = wire::encode(route);
        let signature = key.sign(&digest(&route));
        Self { route: route.into(), signature }
    }

    /// The bytes to store or send.
    pub fn to_bytes(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// Decodes stored or received bytes; nothing is verified yet.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, wire::DecodeError> {
        wire::decode(bytes, MAX_ROUTE_BYTES)
    }

    /// What it claims, before anything is verified.
    pub fn claimed(&self) -> Result<Route, wire::DecodeError> {
        wire::decode(&self.route, MAX_ROUTE_BYTES)
    }
}

impl Encodable for SignedRoute {
    fn rlp_append(&self, s: &mut RlpStream) {
        s.begin_list(2).append(&self.route.as_ref()).append(&self.signature.as_bytes().as_slice());
    }
}

impl Decodable for SignedRoute {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        let items = wire::fields(rlp, 2)?;
        Ok(Self { route: Bytes::copy_from_slice(items[0].data()?), signature: wire::signature(&items[1])? })
    }
}

fn digest(route: &[u8]) -> B256 {
    let mut bytes = Vec::with_capacity(PREFIX.len() + route.len());
    bytes.extend_from_slice(PREFIX);
    bytes.extend_from_slice(route);
    keccak256(bytes)
}

/// Why a route is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// Not a route record.
    #[error("not a route record: {0}")]
    Decode(#[from] wire::DecodeError),
    /// Of another chain.
    #[error("the route belongs to another chain")]
    OtherChain,
    /// Of another device than asked for.
    #[error("the route is of {0}, another device")]
    OtherDevice(DeviceId),
    /// Signed by a key that is not the device's now.
    #[error("the route of {device} is not signed by its key")]
    NotItsKey {
        /// The device.
        device: DeviceId,
    },
    /// Past its life, dated ahead of our clock, or with a longer life than allowed.
    #[error("the route of {0} is expired, dated in the future, or longer lived than allowed")]
    Time(DeviceId),
    /// With a multiaddr that nobody should dial or print.
    #[error("the route of {device} holds a multiaddr that is not allowed: {reason}")]
    Place {
        /// The device.
        device: DeviceId,
        /// What is wrong with it.
        reason: NoPlace,
    },
}

/// A route signed by the key its device proves to use now; made only by [`verify_route`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedRoute {
    route: Route,
    key: PublicKey,
}

impl VerifiedRoute {
    /// Where the device is.
    pub fn route(&self) -> &Route {
        &self.route
    }

    /// The device's key: its PeerId follows from it.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }
}

/// Believes a route of `device` if it is signed by the key in the device's proven record and alive.
pub fn verify_route(
    spec: &ChainSpec,
    signed: &SignedRoute,
    device: DeviceId,
    record: &DeviceRecord,
    now: u64,
) -> Result<VerifiedRoute, RouteError> {
    let (route, key) = signer(spec, signed, now)?;
    if route.device != device {
        return Err(RouteError::OtherDevice(route.device));
    }
    if key.address() != record.key {
        return Err(RouteError::NotItsKey { device });
    }
    Ok(VerifiedRoute { route, key })
}

/// The route and the key that signed it, if it is of this chain and alive. Whether the key is the device's
/// is decided by its proven record: nodes look that up in their mirror, devices in a proof.
fn signer(spec: &ChainSpec, signed: &SignedRoute, now: u64) -> Result<(Route, PublicKey), RouteError> {
    let route = signed.claimed()?;
    if (route.chain_id, route.genesis_hash) != (spec.chain_id, spec.genesis_hash) {
        return Err(RouteError::OtherChain);
    }
    let ends = route.issued_at.saturating_add(route.ttl);
    if route.ttl > MAX_ROUTE_TTL || ends <= now || route.issued_at > now.saturating_add(MAX_CLOCK_SKEW) {
        return Err(RouteError::Time(route.device));
    }
    let relays = route.relays.iter().try_for_each(|relay| check_relay(relay));
    relays
        .and_then(|()| route.direct.iter().try_for_each(|direct| check_direct(direct)))
        .map_err(|reason| RouteError::Place { device: route.device, reason })?;
    let key = signed
        .signature
        .recover(&digest(&signed.route))
        .map_err(|_| RouteError::NotItsKey { device: route.device })?;
    Ok((route, key))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::record::{DeviceStatus, NEVER};
    use crate::spec::tests::{example, key};

    const NOW: u64 = 1_800_000_000;

    fn route() -> Route {
        let spec = example();
        Route {
            chain_id: spec.chain_id,
            genesis_hash: spec.genesis_hash,
            device: key(1).address().as_first_key(),
            seq: NOW * 1000,
            issued_at: NOW,
            ttl: 600,
            relays: alloc::vec![Bytes::from_static(&[4, 127, 0, 0, 1, 6, 0, 80, 0xa5, 3, 2, 0, 0])],
            direct: Vec::new(),
        }
    }

    #[test]
    fn a_multiaddr_that_could_forge_a_line_is_refused() {
        let forged = b"\x36\x09x\n\x1b[2Klie\x06\x00\x01\xa5\x03\x02\x00\x00";
        let relays = alloc::vec![Bytes::from_static(forged)];
        let refused = check(&Route { relays, ..route() }, 1, NOW);
        assert!(matches!(refused, Err(RouteError::Place { reason: NoPlace::Host, .. })), "{refused:?}");
        // A device's own multiaddr names no peer: the signer is who is there.
        let refused = check(&Route { direct: route().relays, ..route() }, 1, NOW);
        assert!(matches!(refused, Err(RouteError::Place { reason: NoPlace::PeerId, .. })), "{refused:?}");
    }

    fn record() -> DeviceRecord {
        DeviceRecord { key: key(1).address(), fleet: 1, valid_until: NEVER, status: DeviceStatus::Active }
    }

    fn check(route: &Route, signer: u8, now: u64) -> Result<VerifiedRoute, RouteError> {
        let signed = SignedRoute::from_bytes(&SignedRoute::sign(route, &key(signer)).to_bytes()).unwrap();
        verify_route(&example(), &signed, key(1).address().as_first_key(), &record(), now)
    }

    #[test]
    fn the_devices_own_route_is_believed() {
        let verified = check(&route(), 1, NOW).unwrap();
        assert_eq!((verified.route(), verified.key().address()), (&route(), key(1).address()));
    }

    #[test]
    fn somebody_elses_signature_is_refused() {
        assert!(matches!(check(&route(), 2, NOW), Err(RouteError::NotItsKey { .. })));
    }

    #[test]
    fn another_chain_or_device_is_refused() {
        assert_eq!(check(&Route { chain_id: 5, ..route() }, 1, NOW), Err(RouteError::OtherChain));
        assert_eq!(
            check(&Route { genesis_hash: B256::ZERO, ..route() }, 1, NOW),
            Err(RouteError::OtherChain)
        );
        let other = key(2).address().as_first_key();
        assert_eq!(check(&Route { device: other, ..route() }, 1, NOW), Err(RouteError::OtherDevice(other)));
    }

    #[test]
    fn a_stale_early_or_immortal_route_is_refused() {
        assert!(matches!(check(&route(), 1, NOW + 600), Err(RouteError::Time(_))));
        assert!(matches!(check(&route(), 1, NOW - 61), Err(RouteError::Time(_))));
        assert!(matches!(check(&Route { ttl: 3_601, ..route() }, 1, NOW), Err(RouteError::Time(_))));
        assert!(matches!(check(&Route { issued_at: u64::MAX, ..route() }, 1, NOW), Err(RouteError::Time(_))));
    }

    #[test]
    fn more_addresses_than_allowed_are_refused() {
        let relays = alloc::vec![Bytes::from_static(&[4]); MAX_ROUTE_ADDRESSES + 1];
        assert!(matches!(check(&Route { relays, ..route() }, 1, NOW), Err(RouteError::Decode(_))));
    }
}
