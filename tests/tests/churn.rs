//! Streams, clients and connections that come and go by the thousand: what a node, a publisher and a caller take of their
//! machine stays as it was. Read from outside, of processes as they are shipped.
//!
//! `WINDLASS_CYCLES` says how many streams; of clients and strangers there are as many less as each costs more.

#![allow(missing_docs)]

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use windlass_client::{Client, Service, verify_spec};
use windlass_p2p::Multiaddr;
use windlass_protocol::SecretKey;
use windlass_protocol::message::resolve::Response;
use windlass_testnet::network::{Device, Testnet};
use windlass_tests::story::SOON;
use windlass_tests::stranger::{Stranger, Vitals};
use windlass_tests::windlass::{Running, Windlass, program};

const PORT: u16 = 8080;
/// Streams, if nobody says how many.
const CYCLES: usize = 1_000;
/// Streams for each client that comes, opens one and is dropped, and for each stranger that asks once and is dropped.
const PER_CLIENT: usize = 20;
const PER_STRANGER: usize = 10;
/// The share of each that comes before anything is measured: pools and tables have their size after it.
const WARM: usize = 4;
/// At a time.
const AT_ONCE: usize = 8;
/// KiB that a process may take more afterwards: less than 100 bytes for each of 10^5 streams, more than an allocator that
/// keeps what it once had.
const MEMORY: u64 = 8 * 1024;
/// Descriptors that it may hold more: another file of the database, another path to somebody. Less than one for each client.
const DESCRIPTORS: usize = 12;
/// Time for what is over to be let go: strangers' connections, and clients' that said no farewell.
const LET_GO: Duration = Duration::from_secs(60);
/// Time for one stream, on a machine that is busy with everything else.
const STREAM: Duration = Duration::from_secs(60);
/// How often one may be tried: on such a machine a dial or an answer may miss its own deadline, which is no matter here.
const TRIES: usize = 20;
/// The pause between two tries, times how many there were.
const PAUSE: Duration = Duration::from_millis(200);

/// Echoes whatever comes, each connection until it is half closed.
async fn echo() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                tokio::io::copy(&mut reader, &mut writer).await?;
                writer.shutdown().await
            });
        }
    });
    Ok(address)
}

/// Sends some bytes, closes its half and has to have them back.
async fn echoed(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, number: usize) -> anyhow::Result<()> {
    let (sent, mut back) = (vec![number as u8; 64 + number % 1024], Vec::new());
    stream.write_all(&sent).await?;
    stream.shutdown().await?;
    stream.read_to_end(&mut back).await?;
    ensure!(back == sent, "{} bytes of {} came back", back.len(), sent.len());
    Ok(())
}

/// Tries until it works.
async fn tried<T>(what: &str, attempt: impl AsyncFn() -> anyhow::Result<T>) -> anyhow::Result<T> {
    for tries in 1.. {
        match attempt().await {
            Err(error) if tries < TRIES => eprintln!("{what}, tried again: {error:#}"),
            outcome => return outcome.with_context(|| format!("{what}, tried {tries} times")),
        }
        tokio::time::sleep(PAUSE * u32::try_from(tries)?).await;
    }
    anyhow::bail!("{what} was never tried")
}

/// A node, who publishes, who forwards, and one more device.
struct Scene {
    testnet: Testnet,
    forward: SocketAddr,
    processes: [(&'static str, u32); 3],
    key: SecretKey,
}

fn passphrase(testnet: &Testnet) -> anyhow::Result<String> {
    Ok(std::fs::read_to_string(testnet.passphrase_file())?.trim_end().to_owned())
}

/// Starts a command of the device's, waits for this event, and reads on so that it never waits for a reader.
async fn start(device: &Device, arguments: &[&str], event: &str) -> anyhow::Result<(u32, serde_json::Value)> {
    let mut running: Running = Windlass::new(&device.files.profile)?.start(arguments)?;
    let said = running.event(SOON, |said| said["event"] == event).await?;
    let process = running.process_id().context("it has ended")?;
    let name = device.name.clone();
    tokio::spawn(async move {
        while let Some(said) = running.next().await {
            // Nothing but streams that open and are over is meant to happen.
            if said["event"] != "opened" && said["end"] != "closed" {
                eprintln!("{name}: {said}");
            }
        }
    });
    Ok((process, said))
}

impl Scene {
    async fn build() -> anyhow::Result<Self> {
        let testnet = Testnet::builder(program("windlass-testnet")?).nodes(1).devices(3).start().await?;
        let [publisher, caller, other] = testnet.devices() else { anyhow::bail!("not three devices") };
        let (service, to) = (format!("tcp/{PORT}"), echo().await?.to_string());
        let publish = ["publish", "--service", &service, "--to", &to, "--mode", "protected"];
        let (published, _) = start(publisher, &publish, "published").await?;
        let target = format!("{}:{service}", publisher.name);
        let (forwarded, said) =
            start(caller, &["forward", "--listen", "127.0.0.1:0", &target], "listening").await?;
        let forward = said["address"].as_str().context("no address")?.parse()?;
        let node =
            testnet.nodes()[0].as_ref().context("no node")?.part().process_id().context("it has ended")?;
        let key = windlass_keyfile::read(&other.files.key, &passphrase(&testnet)?)?;
        let processes = [("node", node), ("publisher", published), ("caller", forwarded)];
        Ok(Self { testnet, forward, processes, key })
    }

    fn vitals(&self) -> anyhow::Result<Vec<Vitals>> {
        self.processes.iter().map(|(_, process)| Vitals::of(*process)).collect()
    }

    /// One stream after the other, some at a time.
    async fn streams(&self, count: usize) -> anyhow::Result<()> {
        let one = |number| async move {
            let exchange = async || echoed(TcpStream::connect(self.forward).await?, number).await;
            let in_time = async || tokio::time::timeout(STREAM, exchange()).await.context("no end of it")?;
            tried("a stream", in_time).await
        };
        stream::iter(0..count).map(one).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// A client that starts, opens a stream and is dropped as it is.
    async fn client(&self, number: usize) -> anyhow::Result<()> {
        let spec = verify_spec(&std::fs::read(self.testnet.spec_file())?, self.testnet.publisher())?;
        let nodes: Vec<Multiaddr> = vec![self.testnet.multiaddrs()[0].parse()?];
        let client = Client::builder(spec, self.key.clone()).nodes(nodes).start().await?;
        let stream = client.open(&self.testnet.devices()[0].name.parse()?, Service::Stream(PORT)).await?;
        tokio::time::timeout(STREAM, echoed(stream, number)).await.context("a stream takes too long")?
    }

    async fn round(&self, cycles: usize) -> anyhow::Result<()> {
        self.streams(cycles).await?;
        for number in 0..cycles.div_ceil(PER_CLIENT) {
            tried("a client", async || self.client(number).await).await?;
        }
        let node: Multiaddr = self.testnet.multiaddrs()[0].parse()?;
        for _ in 0..cycles.div_ceil(PER_STRANGER) {
            let answer = tried("a stranger", async || Stranger::new()?.ask(&node).await).await?;
            ensure!(matches!(answer, Response::Proven { .. }), "{answer:?}");
        }
        Ok(())
    }

    /// Waits until each process holds no more descriptors than these.
    async fn let_go(&self, before: &[Vitals]) -> anyhow::Result<Vec<Vitals>> {
        let since = Instant::now();
        loop {
            let now = self.vitals()?;
            let is_let_go = now
                .iter()
                .zip(before)
                .all(|(now, before)| now.descriptors <= before.descriptors + DESCRIPTORS);
            if is_let_go || since.elapsed() > LET_GO {
                return Ok(now);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_and_clients_that_come_and_go_leave_nothing_behind() -> anyhow::Result<()> {
    let cycles =
        std::env::var("WINDLASS_CYCLES").ok().map(|text| text.parse()).transpose()?.unwrap_or(CYCLES);
    let scene = Scene::build().await?;
    scene.streams(1).await?;
    let fresh = scene.vitals()?;
    scene.round(cycles.div_ceil(WARM)).await?;
    let before = scene.let_go(&fresh).await?;
    let since = Instant::now();
    scene.round(cycles).await?;
    let took = since.elapsed();
    let after = scene.let_go(&before).await?;
    for ((name, _), (before, after)) in scene.processes.iter().zip(before.iter().zip(&after)) {
        eprintln!("{name}: {before:?}, and after {cycles} streams in {took:?}: {after:?}");
    }
    for ((name, _), (before, after)) in scene.processes.iter().zip(before.iter().zip(&after)) {
        ensure!(after.descriptors <= before.descriptors + DESCRIPTORS, "{name}: {before:?}, then {after:?}");
        ensure!(after.memory <= before.memory + MEMORY, "{name}: {before:?}, then {after:?}");
    }
    scene.testnet.shutdown().await;
    Ok(())
}
