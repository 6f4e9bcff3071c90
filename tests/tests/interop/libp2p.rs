//! Our relay and devices with js-libp2p: it reserves on our relay, is dialled through it by its own kind and by
//! ours, and dials our device; and our devices use a relay of its kind.
//!
//! The other side are `libp2p.mjs` and `libp2p-relay.mjs` in `tests/interop/clients`.

use anyhow::{Context, ensure};
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use std::num::NonZeroUsize;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;
use windlass_p2p::libp2p::multiaddr::Protocol;
use windlass_p2p::libp2p::swarm::{NetworkBehaviour, Swarm, SwarmEvent};
use windlass_p2p::relay::{Everybody, RelayConfig, Server};
use windlass_p2p::swarm::{DeviceConfig, NodeConfig, device_swarm, node_swarm};
use windlass_p2p::{Control, Multiaddr, Path, PeerId, StreamProtocol, identity};
use windlass_protocol::SecretKey;
use windlass_tests::peers;

pub(crate) const ECHO: StreamProtocol = StreamProtocol::new("/test/echo/1");

/// How long the other side may take, on a machine that is busy with everything else.
pub(crate) const WITHIN: Duration = Duration::from_secs(120);

fn key() -> anyhow::Result<SecretKey> {
    SecretKey::from_bytes(&rand::random()).context("the random key is not one; start again")
}

/// Listens, and returns where.
async fn listen<B: NetworkBehaviour>(swarm: &mut Swarm<B>, at: Multiaddr) -> anyhow::Result<Multiaddr> {
    swarm.listen_on(at)?;
    let ready = async {
        loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                return address;
            }
        }
    };
    Ok(timeout(WITHIN, ready).await?)
}

fn drive<B: NetworkBehaviour<ToSwarm: Send> + Send>(tasks: &mut JoinSet<()>, mut swarm: Swarm<B>) {
    tasks.spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
}

/// A relay for everybody; where it is.
pub(crate) async fn relay(tasks: &mut JoinSet<()>) -> anyhow::Result<Multiaddr> {
    let key = key()?;
    let (mut swarm, control) = node_swarm(&key, &NodeConfig::new("test/1"))?;
    let address = listen(&mut swarm, "/ip4/127.0.0.1/tcp/0".parse()?).await?;
    swarm.add_external_address(address.clone());
    let named = address.with(Protocol::P2p(*swarm.local_peer_id()));
    let server = Server::new(identity::keypair(&key), control, Arc::new(Everybody), RelayConfig::default())?;
    tasks.spawn(server.run(std::future::pending()));
    drive(tasks, swarm);
    Ok(named)
}

/// A device that echoes, reachable through the relay; the circuit to it.
pub(crate) async fn device(
    tasks: &mut JoinSet<()>,
    relay: &Multiaddr,
) -> anyhow::Result<(Control, Multiaddr)> {
    let (mut swarm, control) = device_swarm(&key()?, &DeviceConfig::new("test/1"))?;
    let circuit = listen(&mut swarm, relay.clone().with(Protocol::P2pCircuit)).await?;
    drive(tasks, swarm);
    let mut incoming = control.accept(ECHO, NonZeroUsize::new(16).context("not zero")?)?;
    tasks.spawn(async move {
        while let Some(stream) = incoming.next().await {
            tokio::spawn(async move {
                let (read, mut write) = stream.split();
                futures::io::copy(read, &mut write).await?;
                write.close().await
            });
        }
    });
    Ok((control, circuit))
}

type Lines = tokio::io::Lines<BufReader<ChildStdout>>;

fn start(script: &str, arguments: &[String], folder: &std::path::Path) -> anyhow::Result<(Child, Lines)> {
    let mut child = Command::new("node")
        .arg(script)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let lines = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
    Ok((child, lines))
}

fn last_peer(address: &Multiaddr) -> anyhow::Result<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Ok(peer),
        _ => anyhow::bail!("{address} doesn't end in a peer id"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn js_libp2p_reserves_on_our_relay_is_dialled_through_it_and_dials_our_device() -> anyhow::Result<()> {
    let Some(folder) = peers::javascript()? else { return Ok(()) };
    let mut tasks = JoinSet::new();
    let relay_at = relay(&mut tasks).await?;
    let (ours, circuit) = device(&mut tasks, &relay_at).await?;
    let arguments = [relay_at.to_string(), circuit.to_string()];
    let (mut script, mut lines) = start("clients/libp2p.mjs", &arguments, &folder)?;
    let said = timeout(WITHIN, lines.next_line()).await.context("it doesn't say that it reserved")??;
    let said = said.context("js-libp2p ended before it had reserved and dialled; it says why above")?;
    let theirs: Multiaddr = said.strip_prefix("reserved ").context("another line")?.parse()?;
    let peer = last_peer(&theirs)?;
    // Our device dials the other through the relay, too.
    let mut stream = ours.open(peer, vec![theirs], ECHO, WITHIN).await?;
    ensure!(stream.path() == Path::Relayed { via: last_peer(&relay_at)? }, "{}", stream.path());
    stream.write_all(b"from a device of ours").await?;
    stream.close().await?;
    let mut back = Vec::new();
    timeout(WITHIN, stream.read_to_end(&mut back)).await??;
    ensure!(back == b"from a device of ours", "{back:?}");
    drop(script.stdin.take());
    let last = timeout(WITHIN, lines.next_line()).await??;
    ensure!(last.as_deref() == Some("done"), "{last:?}");
    ensure!(timeout(WITHIN, script.wait()).await??.success());
    tasks.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn our_devices_reach_each_other_through_a_js_libp2p_relay() -> anyhow::Result<()> {
    let Some(folder) = peers::javascript()? else { return Ok(()) };
    let (mut script, mut lines) = start("clients/libp2p-relay.mjs", &[], &folder)?;
    let said = timeout(WITHIN, lines.next_line()).await.context("it doesn't say where it is")??;
    let said = said.context("js-libp2p ended before it was there; it says why above")?;
    let relay: Multiaddr = said.strip_prefix("relay ").context("another line")?.parse()?;
    let mut tasks = JoinSet::new();
    let (_callee, circuit) =
        timeout(WITHIN, device(&mut tasks, &relay)).await.context("no reservation")??;
    let (swarm, caller) = device_swarm(&key()?, &DeviceConfig::new("test/1"))?;
    drive(&mut tasks, swarm);
    let mut stream = caller.open(last_peer(&circuit)?, vec![circuit], ECHO, WITHIN).await?;
    ensure!(stream.path() == Path::Relayed { via: last_peer(&relay)? }, "{}", stream.path());
    // Its relay carries 128 KiB in all.
    stream.write_all(&[7; 30_000]).await?;
    stream.close().await?;
    let mut back = Vec::new();
    timeout(WITHIN, stream.read_to_end(&mut back)).await??;
    ensure!(back == [7; 30_000], "{} bytes", back.len());
    drop(script.stdin.take());
    ensure!(timeout(WITHIN, script.wait()).await??.success());
    tasks.shutdown().await;
    Ok(())
}
