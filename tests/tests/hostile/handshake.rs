//! Somebody on the wire between a peer and a node: who changes, cuts or repeats what passes gets nobody a connection that
//! anything could be believed of.

use super::{calm, node, vitals};
use anyhow::{Context, ensure};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use windlass_p2p::Multiaddr;
use windlass_p2p::libp2p::multiaddr::Protocol;
use windlass_protocol::message::resolve::Response;
use windlass_tests::story::Story;
use windlass_tests::stranger::{Stranger, peer_of};

/// Between two bytes that are tried: each is one attempt. `WINDLASS_EVERY_BYTE` tries all.
const STRIDE: usize = 5;
/// Bytes from the start, each way, that are tried: both handshakes and the first words over the connection.
const BYTES: usize = 500;
/// How long an attempt may hang before it counts as failed: what waits for bytes that were cut off waits longer.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Attempts at a time.
const AT_ONCE: usize = 24;

/// What is done to one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tampering {
    None,
    /// One bit of this byte of what the caller sends.
    FlipSent(usize),
    /// One bit of this byte of what the node answers.
    FlipAnswered(usize),
    /// Everything the caller sends after so many bytes is lost, and the connection closed.
    CutSent(usize),
}

/// Everything that passed, each way.
#[derive(Clone, Debug, Default)]
struct Seen {
    sent: Vec<u8>,
    answered: Vec<u8>,
}

/// Stands between: whoever connects here is connected to the node, with each of their bytes in its hands.
struct Between {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Drop for Between {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Between {
    async fn start(node: SocketAddr, tampering: Tampering) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let noted = seen.clone();
        let task = tokio::spawn(async move {
            // The first connection alone: another attempt would have other bytes.
            let Ok((near, _)) = listener.accept().await else { return };
            let Ok(far) = TcpStream::connect(node).await else { return };
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            let (flip_sent, flip_answered, cut) = match tampering {
                Tampering::None => (None, None, None),
                Tampering::FlipSent(at) => (Some(at), None, None),
                Tampering::FlipAnswered(at) => (None, Some(at), None),
                Tampering::CutSent(at) => (None, None, Some(at)),
            };
            let note = |sent: bool| {
                let noted = noted.clone();
                move |bytes: &[u8]| {
                    let mut seen = noted.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    if sent { seen.sent.extend(bytes) } else { seen.answered.extend(bytes) }
                }
            };
            tokio::select! {
                () = pass(near_in, far_out, flip_sent, cut, note(true)) => {}
                () = pass(far_in, near_out, flip_answered, None, note(false)) => {}
            }
        });
        Ok(Self { address, seen, task })
    }

    /// Where to dial instead of the node.
    fn instead_of(&self, node: &Multiaddr) -> anyhow::Result<Multiaddr> {
        let here: Multiaddr = format!("/ip4/127.0.0.1/tcp/{}", self.address.port()).parse()?;
        Ok(here.with(Protocol::P2p(peer_of(node)?)))
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    flip: Option<usize>,
    cut: Option<usize>,
    note: impl Fn(&[u8]),
) {
    let (mut buffer, mut passed) = (vec![0; 4096], 0);
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let mut bytes = buffer[..count].to_vec();
        if let Some(at) = flip.filter(|at| (passed..passed + count).contains(at)) {
            bytes[at - passed] ^= 1 << (at % 8);
        }
        let left = cut.map_or(count, |cut| count.min(cut - passed));
        note(&bytes[..left]);
        if to.write_all(&bytes[..left]).await.is_err() || left < count {
            return;
        }
        passed += count;
    }
}

/// The TCP socket address of a node.
fn socket_of(node: &Multiaddr) -> anyhow::Result<SocketAddr> {
    let port = node.iter().find_map(|part| match part {
        Protocol::Tcp(port) => Some(port),
        _ => None,
    });
    Ok(SocketAddr::from(([127, 0, 0, 1], port.context("no TCP port")?)))
}

/// A stranger's question to the node over a wire that is tampered with, and what passed.
async fn attempt(node: &Multiaddr, tampering: Tampering) -> anyhow::Result<(bool, Seen)> {
    let between = Between::start(socket_of(node)?, tampering).await?;
    let stranger = Stranger::new()?;
    let at = between.instead_of(node)?;
    let answered = tokio::time::timeout(ATTEMPT, stranger.ask(&at)).await;
    let answered = matches!(answered, Ok(Ok(Response::Proven { .. })));
    let seen = between.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    Ok((answered, seen))
}

async fn all_fail(node: &Multiaddr, tamperings: Vec<Tampering>) -> anyhow::Result<usize> {
    use futures::{StreamExt, TryStreamExt, stream};
    let count = tamperings.len();
    stream::iter(tamperings)
        .map(|tampering| async move {
            let (answered, _) = attempt(node, tampering).await?;
            ensure!(!answered, "an answer came in spite of {tampering:?}");
            anyhow::Ok(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_with_any_bit_flipped_or_cut_anywhere_connects_nobody() -> anyhow::Result<()> {
    let story = Story::over(windlass_tests::story::network(1)?).await?;
    let (node, _) = node(&story, 0)?;
    let (answered, seen) = attempt(&node, Tampering::None).await?;
    ensure!(answered, "without tampering there is no answer either");
    let stride = if std::env::var_os("WINDLASS_EVERY_BYTE").is_some() { 1 } else { STRIDE };
    let places = |bytes: &[u8]| (0..bytes.len().min(BYTES)).step_by(stride);
    let sent = places(&seen.sent).flat_map(|at| [Tampering::FlipSent(at), Tampering::CutSent(at)]);
    let tamperings: Vec<_> = sent.chain(places(&seen.answered).map(Tampering::FlipAnswered)).collect();
    let tried = all_fail(&node, tamperings).await?;
    eprintln!("{tried} connections tampered with, none served");
    ensure!(tried > 100, "only {tried} were tried");
    // The node serves on, and nobody who failed is connected.
    let (answered, _) = attempt(&node, Tampering::None).await?;
    ensure!(answered, "the node serves nobody any more");
    calm(&story, 0)?;
    story.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_recorded_handshake_played_again_connects_nobody() -> anyhow::Result<()> {
    let story = Story::over(windlass_tests::story::network(1)?).await?;
    let (node, _) = node(&story, 0)?;
    let (answered, seen) = attempt(&node, Tampering::None).await?;
    ensure!(answered, "the recorded one was none");
    let before = vitals(&story, 0)?;
    for _ in 0..20 {
        let mut again = TcpStream::connect(socket_of(&node)?).await?;
        again.write_all(&seen.sent).await?;
        let mut came = Vec::new();
        // The node's own ephemeral key is another this time, so nothing that follows fits; it hangs up.
        let ended = tokio::time::timeout(Duration::from_secs(10), again.read_to_end(&mut came)).await;
        ended.context("the node keeps a connection that was played again")?.ok();
        ensure!(came.len() < seen.answered.len(), "{} bytes came as an answer", came.len());
    }
    let after = vitals(&story, 0)?;
    ensure!(after.descriptors <= before.descriptors + 5, "{before:?}, then {after:?}");
    calm(&story, 0)?;
    story.shutdown().await;
    Ok(())
}
