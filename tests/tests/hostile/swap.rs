//! A relay that connects a caller to somebody else than it asked for: the handshake through the circuit names whoever
//! is really there.

use anyhow::{Context, ensure};
use futures::{AsyncWriteExt, StreamExt};
use std::num::NonZeroUsize;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::compat::FuturesAsyncReadCompatExt;
use windlass_p2p::frame::{read_frame, write_frame};
use windlass_p2p::libp2p::multiaddr::Protocol;
use windlass_p2p::libp2p::swarm::SwarmEvent;
use windlass_p2p::relay::{HOP, STOP};
use windlass_p2p::swarm::{NodeConfig, node_swarm};
use windlass_p2p::{Control, Multiaddr, OpenError, PeerId, PeerStream, StreamProtocol};
use windlass_protocol::SecretKey;
use windlass_tests::stranger::Stranger;

const WITHIN: Duration = Duration::from_secs(10);
const QUEUE: NonZeroUsize = NonZeroUsize::new(16).expect("16 is not zero");
/// A protocol that nobody speaks: what counts is whose word says so.
const NOTHING: &str = "/windlass-test/nothing/1";

/// A field of a protobuf message.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2, u8::try_from(value.len()).expect("shorter than 128 bytes")];
    field.extend(value);
    field
}

fn number(field: u8, value: u64) -> Vec<u8> {
    let mut bytes = vec![field << 3];
    let mut left = value;
    while left >= 0x80 {
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes
}

/// A relay that leads every circuit to one peer, whoever was asked for.
struct Swapping {
    at: Multiaddr,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Swapping {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Swapping {
    async fn start() -> anyhow::Result<(Self, tokio::sync::watch::Sender<Option<PeerId>>)> {
        let key = SecretKey::from_bytes(&rand::random()).context("no key")?;
        let (mut swarm, control) = node_swarm(&key, &NodeConfig::new("swapping relay"))?;
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
        let at = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address.with(Protocol::P2p(*swarm.local_peer_id()));
            }
        };
        let mut asked = control.accept(HOP, QUEUE)?;
        let (sender, leads_to) = tokio::sync::watch::channel(None);
        let own = at.clone();
        let serving = tokio::spawn(async move {
            while let Some(stream) = asked.next().await {
                let (control, own, to) = (control.clone(), own.clone(), *leads_to.borrow());
                tokio::spawn(async move { answer(stream, control, own, to).await });
            }
        });
        let driving = tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        Ok((Self { at, tasks: [serving, driving] }, sender))
    }
}

/// Grants a reservation while nobody is led anywhere; from then on leads every circuit there.
async fn answer(
    mut stream: PeerStream,
    control: Control,
    own: Multiaddr,
    to: Option<PeerId>,
) -> anyhow::Result<()> {
    let _request = read_frame(&mut stream).await?;
    let Some(to) = to else {
        let expire = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs() + 3_600;
        let reservation = [number(1, expire), field(2, &own.to_vec())].concat();
        let granted = [number(1, 2), field(3, &reservation), number(5, 100)].concat();
        write_frame(&mut stream, &granted).await?;
        stream.close().await?;
        return Ok(());
    };
    let caller = stream.peer();
    let mut stop = control.open(to, Vec::new(), STOP, WITHIN).await?;
    let peer = field(1, &caller.to_bytes());
    write_frame(&mut stop, &[number(1, 0), field(2, &peer)].concat()).await?;
    let _status = read_frame(&mut stop).await?;
    write_frame(&mut stream, &[number(1, 2), number(5, 100)].concat()).await?;
    tokio::io::copy_bidirectional(&mut stream.compat(), &mut stop.compat()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_swaps_the_peer_is_found_out_by_the_handshake() -> anyhow::Result<()> {
    let (relay, lead) = Swapping::start().await?;
    let swapped_in = Stranger::reserved_at(&relay.at).await?;
    lead.send_replace(Some(swapped_in.peer));

    // Whoever is asked for by its own name is found: the circuit itself works.
    let protocol = StreamProtocol::new(NOTHING);
    let circuit = |peer| relay.at.clone().with(Protocol::P2pCircuit).with(Protocol::P2p(peer));
    let honest = Stranger::new()?;
    let found =
        honest.control.open(swapped_in.peer, vec![circuit(swapped_in.peer)], protocol.clone(), WITHIN).await;
    ensure!(matches!(found, Err(OpenError::Unsupported { .. })), "asked for by name: {found:?}");

    let wanted = Stranger::new()?;
    let caller = Stranger::new()?;
    match caller.control.open(wanted.peer, vec![circuit(wanted.peer)], protocol, WITHIN).await {
        Err(OpenError::PeerIsNot { expected, got, .. }) => {
            ensure!((expected, got) == (wanted.peer, swapped_in.peer), "{got} instead of {expected}");
        }
        other => anyhow::bail!("the swap was not found out: {other:?}"),
    }
    ensure!(caller.control.connections(&swapped_in.peer).is_empty(), "a connection to the wrong one is left");
    ensure!(caller.control.connections(&wanted.peer).is_empty(), "a connection to nobody is left");
    Ok(())
}
