//! One address that opens connections by the thousand, over TCP or QUIC, and gets on with none of them. Everybody else is
//! served.

use anyhow::{Context, ensure};
use std::net::SocketAddr;
use std::time::Duration;
use windlass_tests::internet::{Gateway, Internet, Scene, apart, host};
use windlass_tests::stranger::Vitals;
use windlass_tests::windlass::{Running, program};

/// Connections from one address.
const CONNECTIONS: u64 = 10_000;
/// Handshakes over QUIC: preparing each takes the besieger longer than beginning it takes the node.
const HANDSHAKES: u64 = 2_000;
/// Time for all of them to be opened, and again for all to be over.
const SIEGE: Duration = Duration::from_secs(60);
/// KiB that the node may take more meanwhile, for all connections.
const MEMORY: u64 = 48 * 1024;
/// KiB for each handshake over QUIC: libp2p's transport begins every one before it can be refused, and QUIC remembers it for
/// three seconds more. Measured: 80.
const HANDSHAKE: u64 = 200;
/// Descriptors that it may hold more: the handshakes of one network, and those on their way out.
const DESCRIPTORS: usize = 200;
/// Time for a device elsewhere to open a page meanwhile.
const PAGE: Duration = Duration::from_secs(3);

/// How it is done: over which transport, how many times, what it may cost in KiB, and what else the besieger is told.
struct Siege {
    transport: &'static str,
    connections: u64,
    memory: u64,
    arguments: &'static [&'static str],
}

async fn besiege(internet: Internet, how: Siege) -> anyhow::Result<()> {
    let (a, b) = (internet.home(Gateway::Moderate)?, internet.home(Gateway::Moderate)?);
    let attacker = internet.home(Gateway::Open)?;
    let mut scene = Scene::build(internet, 1, a, b).await?;
    scene.publish(1).await?;
    let forward = scene.forward().await?;
    scene.page(&forward).await?;
    let node = scene.story.testnet.nodes()[0].as_ref().context("no node")?;
    let process = node.part().process_id().context("it has ended")?;
    let port = port_of(&node.multiaddrs, how.transport)?;
    let before = Vitals::of(process)?;

    let mut command = attacker.command(program("besiege")?);
    let target = SocketAddr::new(host(1), port).to_string();
    command.args(["--target", &target, "--connections", &how.connections.to_string()]).args(how.arguments);
    let mut siege = Running::start(command, "the siege".to_owned())?;
    siege.event(SIEGE, |event| event["begins"] == true).await?;
    // While they come: a page, and another device's first look at the node.
    let took = scene.page(&forward).await?;
    let report = siege.event(SIEGE, |event| event["opened"].is_u64()).await?;
    let during = Vitals::of(process)?;
    let fresh = scene.forward().await.context("a device that comes during the siege")?;
    let fresh_took = scene.page(&fresh).await?;
    let opened = report["opened"].as_u64().context("no count")?;
    eprintln!(
        "{report}: a page in {took:?}, by a device that just came in {fresh_took:?}; {before:?}, then {during:?}"
    );
    ensure!(opened * 2 > how.connections, "no siege: {report}");
    ensure!(took < PAGE && fresh_took < PAGE, "pages took {took:?} and {fresh_took:?}");
    ensure!(during.memory < before.memory + how.memory, "{before:?}, then {during:?}");
    ensure!(during.descriptors < before.descriptors + DESCRIPTORS, "{before:?}, then {during:?}");
    // One line each second at most says who it was, for a filter to ban.
    let log = std::fs::read_to_string(node.part().log())?;
    let told =
        log.lines().filter(|line| line.contains(&format!("misbehaviour ip={} ", attacker.address()))).count();
    ensure!((1..100).contains(&told), "{told} lines tell of {}", attacker.address());
    ensure!(!log.contains("panicked"), "the node panicked");

    // Whatever was let in at first is over after the handshake's time.
    tokio::time::timeout(SIEGE, async {
        while Vitals::of(process)?.descriptors > before.descriptors + 20 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(())
    })
    .await
    .context("half-open connections stay")??;
    siege.finish(SIEGE).await?;
    Ok(())
}

/// The node's port of this transport, `tcp` or `udp`.
fn port_of(multiaddrs: &[String], transport: &str) -> anyhow::Result<u16> {
    let after = |at: &String| at.split('/').skip_while(|part| *part != transport).nth(1)?.parse().ok();
    multiaddrs.iter().find_map(after).with_context(|| format!("no port of {transport} in {multiaddrs:?}"))
}

#[test]
fn ten_thousand_half_open_connections_from_one_address_keep_nobody_out() -> anyhow::Result<()> {
    apart(&ten_thousand_half_open_connections_from_one_address_keep_nobody_out, async |internet| {
        besiege(
            internet,
            Siege { transport: "tcp", connections: CONNECTIONS, memory: MEMORY, arguments: &[] },
        )
        .await
    })
}

#[test]
fn handshakes_that_drip_keep_nobody_out() -> anyhow::Result<()> {
    apart(&handshakes_that_drip_keep_nobody_out, async |internet| {
        besiege(
            internet,
            Siege { transport: "tcp", connections: CONNECTIONS, memory: MEMORY, arguments: &["--drip"] },
        )
        .await
    })
}

#[test]
fn thousands_of_half_open_quic_handshakes_from_one_address_keep_nobody_out() -> anyhow::Result<()> {
    apart(&thousands_of_half_open_quic_handshakes_from_one_address_keep_nobody_out, async |internet| {
        let memory = HANDSHAKES * HANDSHAKE;
        besiege(internet, Siege { transport: "udp", connections: HANDSHAKES, memory, arguments: &["--quic"] })
            .await
    })
}
