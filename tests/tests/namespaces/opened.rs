//! Gateways that open ports by UPnP for who asks them: devices behind them are reached directly by those they let in, nodes
//! by anybody, and what was opened for a node is closed in the end.

use anyhow::{Context, ensure};
use std::io::Write;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use windlass_p2p::Multiaddr;
use windlass_protocol::message::resolve::Response;
use windlass_testnet::network::Testnet;
use windlass_tests::internet::upnp::{self, Opener};
use windlass_tests::internet::{Gateway, Home, Internet, Scene, apart, host};
use windlass_tests::peers::skip_for;
use windlass_tests::story::SOON;
use windlass_tests::stranger::Stranger;
use windlass_tests::windlass::{Running, program};

/// Time from the first stream, which is relayed, until streams go directly: the router is asked when the device begins to
/// listen, and an attempt that comes too early is made again.
const DIRECT: Duration = Duration::from_secs(60);

/// Runs a scenario where the router's daemon is installed; says that it was skipped where it isn't.
fn installed(scenario: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    if upnp::is_installed() {
        scenario()
    } else {
        skip_for("miniupnpd isn't installed", "run scripts/setup.sh net")
    }
}

/// Waits until the gateway has as many ports open as it should.
async fn wait_opened(opener: &Opener, is_right: impl Fn(usize) -> bool) -> anyhow::Result<Vec<String>> {
    let (since, mut opened) = (Instant::now(), opener.opened().await?);
    while !is_right(opened.len()) {
        ensure!(since.elapsed() < SOON, "the gateway has these open: {opened:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
        opened = opener.opened().await?;
    }
    Ok(opened)
}

async fn a_device_is_reached(internet: Internet) -> anyhow::Result<()> {
    // Without it these two stay relayed: one can't be reached, and nobody can tell where the other is seen.
    let (a, b) = (internet.home(Gateway::Moderate)?, internet.home(Gateway::Strict)?);
    let opener = a.opens_ports().await?;
    let mut scene = Scene::build(internet, 2, a, b).await?;
    let profile = &scene.a.actor.files.profile;
    std::fs::OpenOptions::new().append(true).open(profile)?.write_all(b"upnp = true\n")?;
    scene.publish(2).await?;
    ensure!(opener.opened().await?.is_empty(), "a port is open before anybody was let in");
    let mut forward = scene.forward().await?;
    let first = scene.path(&mut forward).await?;
    ensure!(first.starts_with("relayed via"), "nobody may be told a way before: {first}");
    let (path, took) = scene.path_becomes(&mut forward, "direct", DIRECT).await?;
    let opened = wait_opened(&opener, |count| count > 0).await?;
    eprintln!("{path} after {took:?}, through {opened:?}");
    ensure!(opened.iter().all(|rule| rule.contains(&scene.a.home.address().to_string())), "{opened:?}");
    Ok(())
}

#[test]
fn a_router_opens_ports_for_a_device_that_let_somebody_in() -> anyhow::Result<()> {
    installed(|| {
        apart(&a_router_opens_ports_for_a_device_that_let_somebody_in, async |internet| {
            a_device_is_reached(internet).await
        })
    })
}

/// The chain's JSON-RPC for a home: it listens on this machine's loopback alone, and serves those who call it so.
async fn provider(rpc_url: &str) -> anyhow::Result<String> {
    let chain = rpc_url.strip_prefix("http://").context("not http")?.to_owned();
    let listener = TcpListener::bind((host(1), 0)).await?;
    let own = listener.local_addr()?.to_string();
    let url = format!("http://{own}");
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            tokio::spawn(pass(near, own.clone(), chain.clone()));
        }
    });
    Ok(url)
}

/// Passes requests on, by the other's name for itself; a request's head comes in one piece.
async fn pass(near: TcpStream, own: String, chain: String) -> std::io::Result<()> {
    let (mut from, mut back) = near.into_split();
    let (mut answers, mut to) = TcpStream::connect(&chain).await?.into_split();
    let asking = async {
        let mut buffer = vec![0; 65_536];
        while let count @ 1.. = from.read(&mut buffer).await? {
            // JSON-RPC is text all through.
            let renamed = String::from_utf8_lossy(&buffer[..count]).replace(&own, &chain);
            to.write_all(renamed.as_bytes()).await?;
        }
        Ok(())
    };
    let answering = async { tokio::io::copy(&mut answers, &mut back).await.map(drop) };
    tokio::select! { ended = asking => ended, ended = answering => ended }
}

/// A node at home that has its router open its ports; it is in no committee.
async fn node_at(home: &Home, testnet: &Testnet) -> anyhow::Result<(Running, String)> {
    let (_, files) = testnet.create_key("node-at-home")?;
    let folder = testnet.directory();
    let quoted = |path: &std::path::Path| format!("{:?}", path.display().to_string());
    let configuration = [
        format!("data_dir = {}", quoted(&folder.join("node-at-home"))),
        format!("key_file = {}", quoted(&files.key)),
        format!("passphrase_file = {}", quoted(&testnet.passphrase_file())),
        format!("spec_file = {}", quoted(&testnet.spec_file())),
        format!("publisher = \"{}\"", testnet.publisher()),
        format!("providers = [\"{}\"]", provider(testnet.rpc_url()).await?),
        format!("peers = [\"{}\"]", testnet.multiaddrs()[0]),
        "listen = [\"/ip4/0.0.0.0/tcp/0\", \"/ip4/0.0.0.0/udp/0/quic-v1\"]".to_owned(),
        "admin = \"127.0.0.1:0\"".to_owned(),
        "upnp = true\n".to_owned(),
    ];
    let file = folder.join("node-at-home-config.toml");
    std::fs::write(&file, configuration.join("\n"))?;
    let mut command = home.command(program("windlass-node")?);
    command.args(["run", "--json", "--stdin-guard", "--config"]).arg(&file);
    let mut node = Running::start(command, "the node at home".to_owned())?;
    let ready = node.event(SOON, |line| line["listen"].is_array()).await?;
    let multiaddr = ready["listen"][0].as_str().context("no multiaddr")?;
    let peer = multiaddr.rsplit('/').next().context("no peer id")?.to_owned();
    Ok((node, peer))
}

/// The port that a rule of nftables sends on.
fn port_of(rule: &str) -> anyhow::Result<u16> {
    let port = rule.split_whitespace().skip_while(|word| *word != "dport").nth(1).context("no port")?;
    Ok(port.parse()?)
}

async fn a_node_is_reached(internet: Internet) -> anyhow::Result<()> {
    let home = internet.home(Gateway::Moderate)?;
    let opener = home.opens_ports().await?;
    let testnet =
        Testnet::builder(program("windlass-testnet")?).nodes(1).hosts(vec![vec![host(1)]]).start().await?;
    let (node, peer) = node_at(&home, &testnet).await?;
    let opened = wait_opened(&opener, |count| count == 2).await.context("TCP and QUIC")?;
    // The rules tell the protocol by number: each port is asked both ways, and one of them answers.
    let mut asked = Vec::new();
    for rule in &opened {
        let (port, seen) = (port_of(rule)?, home.seen_as());
        for transport in [format!("tcp/{port}"), format!("udp/{port}/quic-v1")] {
            let at: Multiaddr = format!("/ip4/{seen}/{transport}/p2p/{peer}").parse()?;
            asked.push(async move { Stranger::new()?.ask(&at).await });
        }
    }
    let answers = futures::future::join_all(asked).await;
    let reached = answers.iter().filter(|answer| matches!(answer, Ok(Response::Proven { .. }))).count();
    eprintln!("a node at home is reached through {opened:?}");
    ensure!(reached == 2, "reached over {reached} of two transports");
    node.finish(SOON).await?;
    wait_opened(&opener, |count| count == 0).await.context("after the node has ended in order")?;
    testnet.shutdown().await;
    Ok(())
}

#[test]
fn a_router_opens_the_ports_of_a_node_and_closes_them_at_its_end() -> anyhow::Result<()> {
    installed(|| {
        apart(&a_router_opens_the_ports_of_a_node_and_closes_them_at_its_end, async |internet| {
            a_node_is_reached(internet).await
        })
    })
}
