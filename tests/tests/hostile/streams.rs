//! Streams of strangers: half-said requests that never go on, and frames that are wrong in every way. Real nodes and a
//! real device serve everybody else meanwhile, in memory that stays bounded.

use super::{calm, node, vitals};
use anyhow::{Context, ensure};
use futures::future::{join_all, try_join_all};
use futures::{AsyncReadExt, AsyncWriteExt};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::time::{Duration, Instant};
use windlass_p2p::libp2p::multiaddr::Protocol;
use windlass_p2p::{Multiaddr, PeerStream};
use windlass_protocol::message::names;
use windlass_protocol::message::resolve::{Request, Response};
use windlass_protocol::wire;
use windlass_tests::story::{Actor, SOON, Story};
use windlass_tests::stranger::Stranger;

const HOP: &str = "/libp2p/circuit/relay/0.2.0/hop";
/// Everything a node serves.
const OF_NODES: [&str; 5] = [names::RESOLVE, names::WATCH, names::ROUTE, names::HEAD, HOP];
/// Strangers that say half a request.
const MUTE: usize = 24;
/// Streams that each of them opens for each protocol.
const EACH: usize = 32;
/// KiB that a node may take more while they are at it: their swarms' buffers are bounded, and so is each frame.
const MEMORY: u64 = 96 * 1024;
/// Time for whoever asks properly meanwhile.
const ANSWER: Duration = Duration::from_secs(5);
/// After so long a request that is not complete is over, the node's deadline and some.
const OVER: Duration = Duration::from_secs(15);

/// Half a frame: it claims a kibibyte and holds three bytes.
const HALF: [u8; 5] = [0x80, 0x08, 0xc0, 0xc0, 0xc0];

async fn half_said(stranger: &Stranger, node: &Multiaddr, protocol: &'static str) -> Option<PeerStream> {
    let mut stream = stranger.stream(node, protocol).await.ok()?;
    stream.write_all(&HALF).await.ok()?;
    stream.flush().await.ok()?;
    Some(stream)
}

/// Reads until the other end is done with it.
async fn is_over(mut stream: PeerStream) -> bool {
    let mut rest = Vec::new();
    tokio::time::timeout(OVER, stream.read_to_end(&mut rest)).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_said_requests_of_many_keys_hold_up_nobody_and_end() -> anyhow::Result<()> {
    let (story, _a, b) = Story::published().await?;
    let (at, _) = node(&story, 0)?;
    let before = vitals(&story, 0)?;
    let mute: Vec<Stranger> = (0..MUTE).map(|_| Stranger::new()).collect::<Result<_, _>>()?;
    let wanted = mute.iter().flat_map(|stranger| OF_NODES.map(|protocol| (stranger, protocol)));
    let opening = wanted.flat_map(|wanted| std::iter::repeat_n(wanted, EACH));
    let held = join_all(opening.map(async |(stranger, protocol)| {
        half_said(stranger, &at, protocol).await.map(|stream| (stream, protocol))
    }));
    let held: Vec<_> = held.await.into_iter().flatten().collect();
    // Those beyond a peer's share are reset at once, which is as good.
    ensure!(held.len() > MUTE * 8, "only {} streams were opened", held.len());

    let since = Instant::now();
    let honest = Stranger::new()?;
    let answer = honest.ask(&at).await.context("asking beside them")?;
    ensure!(matches!(answer, Response::Proven { .. }), "{answer:?}");
    let asked = since.elapsed();
    let forward = story.forward(&b).await?;
    story.fetch_page(&forward).await.context("a page beside them")?;
    let during = vitals(&story, 0)?;
    eprintln!(
        "{} half-said requests: an answer in {asked:?}, {} KiB more",
        held.len(),
        during.memory.saturating_sub(before.memory)
    );
    ensure!(asked < ANSWER, "an answer took {asked:?}");
    ensure!(during.memory < before.memory + MEMORY, "{before:?}, then {during:?}");

    // The few places for attestations of strangers are theirs for a minute; everything else ends by the deadline.
    let (_heads, others): (Vec<_>, Vec<_>) =
        held.into_iter().partition(|(_, protocol)| *protocol == names::HEAD);
    let ended =
        join_all(others.into_iter().map(async |(stream, protocol)| (is_over(stream).await, protocol)));
    let held: Vec<_> = ended.await.into_iter().filter(|(over, _)| !over).map(|(_, what)| what).collect();
    ensure!(held.is_empty(), "{} half-said requests are still held after {OVER:?}: {held:?}", held.len());
    calm(&story, 0)?;
    story.shutdown().await;
    Ok(())
}

/// Frames that are wrong, with what is wrong with each.
fn malformed(random: &mut StdRng) -> Vec<(&'static str, Vec<u8>)> {
    let framed = |payload: &[u8]| {
        let mut frame = length(payload.len());
        frame.extend(payload);
        frame
    };
    let nested = |depth: usize| {
        let mut list = vec![0xc0u8];
        while list.len() < depth {
            let header = match list.len() {
                short @ ..56 => vec![0xc0 + short as u8],
                medium @ ..256 => vec![0xf8, medium as u8],
                long => vec![0xf9, (long >> 8) as u8, long as u8],
            };
            list.splice(0..0, header);
        }
        list
    };
    let mut noise = |bytes: usize| (0..bytes).map(|_| random.random()).collect::<Vec<u8>>();
    let good = wire::encode(&Request::default()).to_vec();
    vec![
        ("nothing at all", Vec::new()),
        ("an empty frame", vec![0]),
        ("a frame over the bound", length(1 << 20)),
        ("a length without end", vec![0xff; 32]),
        ("a length that is not canonical", vec![0x81, 0x00, 0xc0]),
        ("noise", framed(&noise(1_000))),
        ("as much noise as there may be", framed(&noise(65_536))),
        ("lists in lists", framed(&nested(60_000))),
        ("a list that claims more than there is", framed(&[0xf9, 0xff, 0xff, 0xc0])),
        ("a length of eight bytes", framed(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])),
        ("a good request cut short", framed(&good[..good.len() - 1])),
        ("a good request with bytes behind it", framed(&[&good[..], &[0xc0; 3]].concat())),
        ("an unknown message", framed(&[0xc2, 0x7f, 0x80])),
        ("a number of many bytes", framed(&[&[0xea, 0xa8][..], &[0xff; 40]].concat())),
    ]
}

fn length(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// Sends every malformed frame on a stream of its own; all of them end.
async fn send_all(at: &Multiaddr, protocol: &'static str, seed: u64) -> anyhow::Result<usize> {
    let mut random = StdRng::seed_from_u64(seed);
    let frames = malformed(&mut random);
    let stranger = Stranger::new()?;
    let sent = try_join_all(frames.iter().map(async |(what, frame)| {
        let mut stream =
            stranger.stream(at, protocol).await.with_context(|| format!("{protocol}: {what}"))?;
        // Whoever has heard enough may close before all is said.
        let _ = stream.write_all(frame).await;
        let _ = stream.close().await;
        ensure!(is_over(stream).await, "{protocol}: {what} is still held after {OVER:?}");
        anyhow::Ok(())
    }))
    .await?;
    Ok(sent.len())
}

/// The device's own service, as a stranger reaches it: through the first relay.
async fn device(story: &Story, a: &Actor) -> anyhow::Result<Multiaddr> {
    let (at, _) = node(story, 0)?;
    let key: windlass_protocol::KeyAddress = a.id.parse()?;
    let secret = windlass_keyfile::read(
        &a.files.key,
        std::fs::read_to_string(story.testnet.passphrase_file())?.trim_end(),
    )?;
    ensure!(secret.address() == key, "the key file is another's");
    let peer = windlass_p2p::identity::peer_id_of(&secret.public_key());
    Ok(at.with(Protocol::P2pCircuit).with(Protocol::P2p(peer)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_frames_on_every_protocol_cost_a_bounded_time_and_nobody_else_anything()
-> anyhow::Result<()> {
    let (story, a, b) = Story::published().await?;
    let (at, _) = node(&story, 0)?;
    let circuit = device(&story, &a).await?;
    let before = vitals(&story, 0)?;
    let mut sent = 0;
    for round in 0..3 {
        for protocol in OF_NODES {
            sent += send_all(&at, protocol, round).await?;
        }
        sent += send_all(&circuit, names::STREAM, round).await?;
    }
    // Versions that nobody speaks are refused at once.
    let stranger = Stranger::new()?;
    for unknown in ["/windlass/resolve/2", "/windlass/resolve/0", "/windlass/nothing/1"] {
        let refused =
            stranger.stream(&at, unknown).await.err().with_context(|| format!("{unknown} is spoken"))?;
        ensure!(format!("{refused:#}").contains("speak"), "{unknown}: {refused:#}");
    }
    let after = vitals(&story, 0)?;
    eprintln!("{sent} malformed frames, {} KiB more", after.memory.saturating_sub(before.memory));
    ensure!(after.memory < before.memory + MEMORY, "{before:?}, then {after:?}");
    let since = Instant::now();
    let answer = stranger.ask(&at).await?;
    ensure!(matches!(answer, Response::Proven { .. }) && since.elapsed() < ANSWER, "{answer:?}");
    let mut forward = story.forward(&b).await?;
    story.fetch_page(&forward).await?;
    forward.running.event(SOON, |event| event["event"] == "opened").await?;
    for index in 0..3 {
        calm(&story, index)?;
    }
    story.shutdown().await;
    Ok(())
}
