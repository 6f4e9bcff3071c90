//! `smallest-device PROGRAM`: what `examples/embedded` takes, built as it is released: its size, its memory and its traffic
//! while it is reachable through two nodes and nobody calls. Then a call, to know that it worked.

use anyhow::{Context, bail, ensure};
use std::fs;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use windlass_protocol::SecretKey;
use windlass_testnet::network::health;
use windlass_tests::story::{Actor, SOON, Story};
use windlass_tests::windlass::Windlass;

/// The port of the service that callers open.
const PORT: &str = "8080";
/// How long nothing happens.
const IDLE: Duration = Duration::from_secs(60);
/// Reservations that a device keeps.
const RESERVATIONS: u64 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let Some(program) = std::env::args().nth(1) else {
        eprintln!("smallest-device: expected the path of examples/embedded, built; make embedded does that");
        return ExitCode::from(2);
    };
    match measure(Path::new(&program)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("smallest-device: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn measure(program: &Path) -> anyhow::Result<()> {
    let size = fs::metadata(program).with_context(|| program.display().to_string())?.len();
    let mut story = Story::start().await?;
    story.create_fleet().await?;
    let (secret, files) = story.testnet.create_key("smallest")?;
    let (fleet, key) = (story.fleet.to_string(), files.key.to_string_lossy().into_owned());
    story.change(&["device", "enrol", "--fleet", &fleet, "--device-key", &key]).await?;
    let device = Actor { id: secret.address().to_string(), windlass: Windlass::new(&files.profile)?, files };
    let caller = story.enrol("caller").await?;
    story.register_name(&device).await?;
    story.grant(&device, &caller).await?;

    let child = start(program, &story, &secret)?;
    let id = child.id().context("it has ended")?;
    reserved(&story).await?;
    let (before, since) = (traffic(id).await?, Instant::now());
    sleep(IDLE).await;
    let (after, minutes) = (traffic(id).await?, since.elapsed().as_secs_f64() / 60.0);
    let memory = resident(id)?;
    let forward = story.forward(&caller).await?;
    echoed(forward.address).await.context("a call to it")?;

    println!("size stripped          {:.2} MB", size as f64 / 1e6);
    println!("memory (RSS), idle     {:.1} MiB with {RESERVATIONS} reservations", memory as f64 / 1024.0);
    println!("memory (RSS), called   {:.1} MiB", resident(id)? as f64 / 1024.0);
    println!("traffic, idle          {:.0} bytes/min sent", (after.0 - before.0) as f64 / minutes);
    println!("                       {:.0} bytes/min received", (after.1 - before.1) as f64 / minutes);
    drop(child);
    story.shutdown().await;
    Ok(())
}

fn start(program: &Path, story: &Story, secret: &SecretKey) -> anyhow::Result<Child> {
    let key = story.testnet.directory().join("smallest.hex");
    let digits: String = secret.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(&key, digits)?;
    let mut command = Command::new(program);
    command.arg(story.testnet.spec_file()).arg(story.testnet.publisher().to_string()).arg(&key).arg(PORT);
    command.args(story.testnet.multiaddrs()).stdout(Stdio::null()).kill_on_drop(true);
    command.spawn().with_context(|| program.display().to_string())
}

/// Waits until the nodes hold the device's reservations.
async fn reserved(story: &Story) -> anyhow::Result<()> {
    let all = async {
        loop {
            let mut held = 0;
            for node in story.testnet.nodes().iter().flatten() {
                held += health(&node.admin).await.and_then(|said| said["reservations"].as_u64()).unwrap_or(0);
            }
            if held >= RESERVATIONS {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, all).await.context("no two reservations")
}

/// Bytes that a process has sent and received over TCP, as the kernel counts them.
async fn traffic(id: u32) -> anyhow::Result<(u64, u64)> {
    let output =
        Command::new("ss").args(["-tinpOH"]).output().await.context("cannot run ss; iproute2 has it")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let own = format!("pid={id},");
    let mut sum = (0, 0);
    let mut sockets = 0;
    for line in text.lines().filter(|line| line.contains(&own)) {
        sockets += 1;
        sum.0 += field(line, "bytes_sent:");
        sum.1 += field(line, "bytes_received:");
    }
    ensure!(sockets > 0, "ss shows no connection of process {id}");
    Ok(sum)
}

fn field(line: &str, name: &str) -> u64 {
    let words = line.split_whitespace().filter_map(|word| word.strip_prefix(name));
    words.filter_map(|value| value.parse::<u64>().ok()).sum()
}

/// Memory in use in KiB, as the kernel counts it.
fn resident(id: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let Some(line) = status.lines().find_map(|line| line.strip_prefix("VmRSS:")) else {
        bail!("the kernel says no memory of process {id}")
    };
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

async fn echoed(address: std::net::SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"who is there?").await?;
    stream.shutdown().await?;
    let mut back = Vec::new();
    timeout(SOON, stream.read_to_end(&mut back)).await??;
    ensure!(back == b"who is there?", "{back:?}");
    Ok(())
}
