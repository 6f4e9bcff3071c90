//! Finding each other in the same local network, for devices that both opted in: the caller asks by multicast, the device that
//! is meant answers with its ports.
//!
//! The question holds a hash that only who knows the peer id can make or recognise: whoever listens learns neither who is
//! looked for nor who is there. The answer names ports alone; the address is the one that it came from. It proves nothing and
//! decides nothing: it is one more way to dial, and whoever is found there has to be the peer that is meant, and let in like
//! by any other way. IPv4 alone; nothing passes a router.

use crate::limits::{LAN_ANSWERS, LAN_ANSWERS_PER_SECOND, LAN_HOLDS, LAN_INTERFACES, LAN_PEERS, LAN_WAIT};
use futures::future::{join_all, poll_fn};
use if_watch::{IfEvent, tokio::IfWatcher};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use socket2::{Domain, Socket, Type};
use std::{
    collections::{BTreeSet, VecDeque},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};
use tokio::{net::UdpSocket, sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use windlass_protocol::{B256, keccak256};

/// Where questions are asked: an address of the organisation-local range (RFC 2365), and a port of nobody's.
const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 87, 76), 45_187);

const MAGIC: [u8; 8] = *b"windlass";
const QUESTION: u8 = 0;
const ANSWER: u8 = 1;
/// Bytes of a question, filled up: an answer is never longer, so nobody gains by asking in another's name.
const QUESTION_BYTES: usize = 64;
const ANSWER_BYTES: usize = 29;

type Nonce = [u8; 16];

/// Which ports a device may be dialled at; 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Ports {
    tcp: u16,
    quic: u16,
}

/// Asks for peers.
#[derive(Default)]
pub(crate) struct Lan {
    /// Where this machine has an address.
    interfaces: watch::Sender<BTreeSet<Ipv4Addr>>,
    /// What was found lately, the newest last.
    recent: Mutex<VecDeque<(PeerId, Instant, Vec<Multiaddr>)>>,
}

impl Lan {
    /// Where a peer says it is, within [`LAN_WAIT`]: nowhere if it isn't in this network, or doesn't want to be found.
    pub(crate) async fn find(&self, peer: PeerId) -> Vec<Multiaddr> {
        if let Some(found) = self.recently(peer) {
            return found;
        }
        let nonce: Nonce = rand::random();
        let question = encode_question(nonce, peer);
        let interfaces = self.interfaces.borrow().clone();
        let asked = interfaces.into_iter().map(|interface| ask(interface, &question, nonce));
        let mut found: Vec<Multiaddr> = join_all(asked).await.into_iter().flatten().collect();
        found.truncate(2 * LAN_ANSWERS);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|(known, _, _)| *known != peer);
        recent.push_back((peer, Instant::now(), found.clone()));
        if recent.len() > LAN_PEERS {
            recent.pop_front();
        }
        found
    }

    fn recently(&self, peer: PeerId) -> Option<Vec<Multiaddr>> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, at, found) = recent.iter().find(|(known, _, _)| *known == peer)?;
        (at.elapsed() < LAN_HOLDS).then(|| found.clone())
    }

    /// Answers for this device, and knows its interfaces, until stopped.
    pub(crate) async fn run(
        self: Arc<Self>,
        own: PeerId,
        listening: watch::Receiver<Vec<Multiaddr>>,
        published: watch::Receiver<usize>,
        stop: CancellationToken,
    ) {
        let serving = async {
            let (socket, watcher) = (hear()?, IfWatcher::new()?);
            tokio::select! {
                failed = self.follow(watcher, &socket) => failed,
                failed = answer(&socket, own, &listening, &published) => failed,
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            ended = serving => if let Err(error) = ended {
                tracing::warn!(%error, "this device neither finds nor is found in its local network");
            },
        }
    }

    /// Joins the group on each interface as it comes.
    async fn follow(&self, mut watcher: IfWatcher, socket: &UdpSocket) -> io::Result<()> {
        loop {
            let event = poll_fn(|cx| watcher.poll_if_event(cx)).await?;
            let (IfEvent::Up(network) | IfEvent::Down(network)) = &event;
            let IpAddr::V4(address) = network.addr() else { continue };
            if matches!(event, IfEvent::Down(_)) {
                self.interfaces.send_if_modified(|known| known.remove(&address));
                continue;
            }
            let joined = socket.join_multicast_v4(*GROUP.ip(), address);
            // An interface that has joined already, or can't.
            if let Err(error) = joined {
                tracing::debug!(%address, %error, "no multicast on an interface");
            }
            self.interfaces.send_modify(|known| {
                if known.len() < LAN_INTERFACES {
                    known.insert(address);
                }
            });
        }
    }
}

/// The socket on which questions come; other processes on this machine have one, too.
fn hear() -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::V4(GROUP).into())?;
    UdpSocket::from_std(socket.into())
}

/// Answers questions for this device, so many a second.
async fn answer(
    socket: &UdpSocket,
    own: PeerId,
    listening: &watch::Receiver<Vec<Multiaddr>>,
    published: &watch::Receiver<usize>,
) -> io::Result<()> {
    let out = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    let (mut since, mut answered) = (Instant::now(), 0);
    let mut datagram = [0; QUESTION_BYTES + 1];
    loop {
        let (length, from) = socket.recv_from(&mut datagram).await?;
        let Some(nonce) = decode_question(&datagram[..length], own) else { continue };
        if since.elapsed().as_secs() >= 1 {
            (since, answered) = (Instant::now(), 0);
        }
        // Who publishes nothing isn't to be found.
        let ports = if *published.borrow() > 0 { ports(&listening.borrow()) } else { Ports::default() };
        if answered < LAN_ANSWERS_PER_SECOND && ports != Ports::default() {
            answered += 1;
            // Who doesn't get it asks again, or goes another way.
            let _ = out.send_to(&encode_answer(nonce, ports), from).await;
        }
    }
}

/// Asks on one interface; nowhere is what it comes to where that isn't possible.
async fn ask(interface: Ipv4Addr, question: &[u8], nonce: Nonce) -> Vec<Multiaddr> {
    let mut found = Vec::new();
    let asking = async {
        let socket = speak(interface)?;
        socket.send_to(question, GROUP).await?;
        let mut datagram = [0; ANSWER_BYTES + 1];
        let mut answers = 0;
        while answers < LAN_ANSWERS {
            let (length, from) = socket.recv_from(&mut datagram).await?;
            if let Some(ports) = decode_answer(&datagram[..length], nonce) {
                answers += 1;
                found.extend(multiaddrs(from.ip(), ports));
            }
        }
        Ok::<(), io::Error>(())
    };
    if let Ok(Err(error)) = timeout(LAN_WAIT, asking).await {
        tracing::debug!(%interface, %error, "nobody could be asked in a local network");
    }
    found
}

fn speak(interface: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    socket.set_multicast_if_v4(&interface)?;
    socket.set_multicast_ttl_v4(1)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((interface, 0)).into())?;
    UdpSocket::from_std(socket.into())
}

/// What only who knows the peer id can say of a nonce.
fn mark(nonce: Nonce, peer: PeerId) -> B256 {
    keccak256([&nonce[..], &peer.to_bytes()].concat())
}

fn encode_question(nonce: Nonce, peer: PeerId) -> Vec<u8> {
    let mut question = [&MAGIC[..], &[QUESTION], &nonce, mark(nonce, peer).as_slice()].concat();
    question.resize(QUESTION_BYTES, 0);
    question
}

/// The nonce of a question after this peer.
fn decode_question(datagram: &[u8], own: PeerId) -> Option<Nonce> {
    let rest = datagram.strip_prefix(&MAGIC)?.strip_prefix(&[QUESTION])?;
    if datagram.len() != QUESTION_BYTES {
        return None;
    }
    let (nonce, rest) = rest.split_first_chunk()?;
    (rest.get(..32)? == mark(*nonce, own).as_slice()).then_some(*nonce)
}

fn encode_answer(nonce: Nonce, ports: Ports) -> Vec<u8> {
    [&MAGIC[..], &[ANSWER], &nonce, &ports.tcp.to_be_bytes(), &ports.quic.to_be_bytes()].concat()
}

/// The ports in the answer to a question with this nonce.
fn decode_answer(datagram: &[u8], nonce: Nonce) -> Option<Ports> {
    let rest = datagram.strip_prefix(&MAGIC)?.strip_prefix(&[ANSWER])?.strip_prefix(&nonce)?;
    let (tcp, rest) = rest.split_first_chunk()?;
    let (quic, rest) = rest.split_first_chunk()?;
    rest.is_empty().then(|| Ports { tcp: u16::from_be_bytes(*tcp), quic: u16::from_be_bytes(*quic) })
}

/// The ports of IPv4 at which this device listens.
fn ports(listening: &[Multiaddr]) -> Ports {
    let mut ports = Ports::default();
    for address in listening {
        match address.iter().collect::<Vec<_>>()[..] {
            [Protocol::Ip4(_), Protocol::Tcp(port)] => ports.tcp = port,
            [Protocol::Ip4(_), Protocol::Udp(port), Protocol::QuicV1] => ports.quic = port,
            _ => {}
        }
    }
    ports
}

/// Where an answer says that a peer is: QUIC first, where it is compiled in.
fn multiaddrs(ip: IpAddr, ports: Ports) -> Vec<Multiaddr> {
    let at = || Multiaddr::from(ip);
    let quic = (cfg!(feature = "quic") && ports.quic != 0)
        .then(|| at().with(Protocol::Udp(ports.quic)).with(Protocol::QuicV1));
    let tcp = (ports.tcp != 0).then(|| at().with(Protocol::Tcp(ports.tcp)));
    quic.into_iter().chain(tcp).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NONCE: Nonce = [7; 16];
    const PORTS: Ports = Ports { tcp: 4_001, quic: 4_002 };

    #[test]
    fn a_question_is_recognised_by_whom_it_is_about_and_by_nobody_else() {
        let (own, other) = (PeerId::random(), PeerId::random());
        let question = encode_question(NONCE, own);
        assert_eq!(question.len(), QUESTION_BYTES);
        assert_eq!(decode_question(&question, own), Some(NONCE));
        assert_eq!(decode_question(&question, other), None);
        let id = own.to_bytes();
        assert!(!question.windows(id.len()).any(|window| window == id), "nobody reads whom it is about");
        for at in 0..57 {
            let mut flipped = question.clone();
            flipped[at] ^= 1;
            assert_eq!(decode_question(&flipped, own), None, "byte {at}");
        }
        for length in 0..QUESTION_BYTES {
            assert_eq!(decode_question(&question[..length], own), None);
        }
        assert_eq!(decode_question(&[&question[..], &[0]].concat(), own), None);
    }

    #[test]
    fn an_answer_counts_for_its_question_alone_and_is_shorter() {
        let answer = encode_answer(NONCE, PORTS);
        assert_eq!(answer.len(), ANSWER_BYTES);
        const { assert!(ANSWER_BYTES <= QUESTION_BYTES) };
        assert_eq!(decode_answer(&answer, NONCE), Some(PORTS));
        assert_eq!(decode_answer(&answer, [8; 16]), None);
        assert_eq!(decode_answer(&answer[..28], NONCE), None);
        assert_eq!(decode_answer(&[&answer[..], &[0]].concat(), NONCE), None);
    }

    #[test]
    fn ports_become_addresses_of_whoever_answered() {
        let parse = |text: &str| text.parse::<Multiaddr>().unwrap();
        let listening = [
            "/ip4/10.0.0.1/udp/4002/quic-v1",
            "/ip6/fd00::1/tcp/9",
            "/ip4/127.0.0.1/tcp/4001",
            "/ip4/10.0.0.1/tcp/4001",
        ];
        assert_eq!(ports(&listening.map(parse)), PORTS);
        let tcp = Ports { quic: 0, ..PORTS };
        assert_eq!(multiaddrs([10, 0, 0, 2].into(), tcp), [parse("/ip4/10.0.0.2/tcp/4001")]);
        assert_eq!(multiaddrs([10, 0, 0, 2].into(), Ports::default()), [] as [Multiaddr; 0]);
    }
}
