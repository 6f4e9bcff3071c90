//! A chain spec that grew old: fresh devices are refused, the publisher renews it, one node is started again with it, and
//! a device that was put away with the old file comes in.

#![allow(missing_docs)]

use anyhow::{Context, ensure};
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use windlass_protocol::spec::{ChainSpec, SignedSpec, VerifiedSpec, verify_spec};
use windlass_testnet::network::Testnet;
use windlass_tests::windlass::{Outcome, Windlass, program};

/// Seconds: longer ago than a development chain's trusting period and epoch.
const LONG_AGO: u64 = 40 * 86_400;

fn spec(testnet: &Testnet, file: &Path) -> anyhow::Result<VerifiedSpec> {
    Ok(verify_spec(&fs::read(file)?, testnet.publisher())?)
}

/// The network's spec as if it had been made long ago.
fn aged(testnet: &Testnet) -> anyhow::Result<Vec<u8>> {
    let passphrase = fs::read_to_string(testnet.passphrase_file())?;
    let publisher = windlass_keyfile::read(&testnet.operator_key(), passphrase.trim_end())?;
    let made = spec(testnet, &testnet.spec_file())?;
    let aged = ChainSpec { date: made.date - LONG_AGO, ..(*made).clone() };
    Ok(SignedSpec::sign(&aged, &publisher).to_bytes())
}

/// A network whose spec is as old as that, and that nobody has renewed since.
async fn age(testnet: &mut Testnet) -> anyhow::Result<()> {
    let nodes = testnet.nodes().len();
    for index in 0..nodes {
        testnet.kill_node(index).await?;
        fs::remove_dir_all(testnet.directory().join(format!("node-{}", index + 1)))?;
    }
    fs::write(testnet.spec_file(), aged(testnet)?)?;
    for index in 0..nodes {
        testnet.start_node(index).await?;
    }
    Ok(testnet.wait_healthy().await?)
}

/// A profile with a chain spec and a state folder of its own.
fn profile(testnet: &Testnet, name: &str, spec: &Path, nodes: &[String]) -> anyhow::Result<Windlass> {
    let folder = testnet.directory();
    let text = format!(
        "spec = '{}'\npublisher = '{}'\nnodes = {nodes:?}\nstate_dir = '{}'\nkey = '{}'\npassphrase_file = '{}'\n",
        spec.display(),
        testnet.publisher(),
        folder.join(format!("state-{name}")).display(),
        testnet.operator_key().display(),
        testnet.passphrase_file().display(),
    );
    let path = folder.join(format!("{name}.profile.toml"));
    fs::write(&path, text)?;
    Windlass::new(&path)
}

fn refused(outcome: &Outcome, words: &[&str]) -> anyhow::Result<()> {
    ensure!(outcome.code == 2 && outcome.stdout.is_empty(), "{outcome:?}");
    ensure!(outcome.stderr.lines().count() == 1, "{}", outcome.stderr);
    for word in words {
        ensure!(outcome.stderr.contains(word), "{word}: {}", outcome.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn a_device_put_away_with_an_old_spec_comes_in_once_one_node_has_the_renewed_one() -> anyhow::Result<()>
{
    let network = Testnet::builder(program("windlass-testnet")?).nodes(2).devices(1);
    let mut testnet = network.start().await?;
    age(&mut testnet).await?;
    let drawer = testnet.directory().join("drawer.spec");
    fs::copy(testnet.spec_file(), &drawer)?;
    let nodes = testnet.multiaddrs();

    // Nobody can vouch for today's committee to whoever knows only the one of long ago.
    let fresh = profile(&testnet, "fresh", &drawer, &nodes)?;
    refused(&fresh.run(&["resolve", "device-1"]).await?, &["a newer chain spec is needed"])?;

    // The publisher signs it anew. Its own walk has expired as well: it names who is in office.
    let publisher = profile(&testnet, "publisher", &drawer, &nodes)?;
    let renewed = testnet.directory().join("renewed.spec");
    let renewed_text = renewed.to_string_lossy().into_owned();
    let renew = ["chain", "renew", "--out", &renewed_text];
    refused(&publisher.run(&renew).await?, &["a newer chain spec is needed", "--committee"])?;
    let made = spec(&testnet, &drawer)?;
    let members = made.committee.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let shown = publisher.done(&[&renew[..], &["--committee", &members]].concat()).await?;
    ensure!(shown["version"] == 2, "{shown}");
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    ensure!(shown["good_until"].as_u64().is_some_and(|until| until > now + 86_400), "{shown}");
    ensure!(spec(&testnet, &renewed)?.succeeds(&made).is_ok());

    // One node is started again with it, and goes on where it was; the other one isn't touched.
    fs::copy(&renewed, testnet.spec_file())?;
    testnet.kill_node(0).await?;
    testnet.start_node(0).await?;
    testnet.wait_healthy().await?;
    let log = fs::read_to_string(testnet.directory().join("logs/node-1.log"))?;
    ensure!(log.contains("takes over the data directory"), "{log}");

    // The device with the old file is let in, remembers why, and needs nobody to bring it again.
    let nodes = testnet.multiaddrs();
    let (first, second) = nodes.split_first().context("no nodes")?;
    let device = profile(&testnet, "device", &drawer, std::slice::from_ref(first))?;
    let resolved = device.done(&["resolve", "device-1"]).await?;
    ensure!(resolved["proof"]["spec_version"] == 2, "{resolved}");
    let device = profile(&testnet, "device", &drawer, second)?;
    let resolved = device.done(&["resolve", "device-1"]).await?;
    ensure!(resolved["proof"]["spec_version"] == 2, "{resolved}");
    testnet.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn who_renews_names_the_committee_that_is_proven_and_is_told_every_mistake() -> anyhow::Result<()> {
    let network = Testnet::builder(program("windlass-testnet")?).nodes(2).devices(1);
    let testnet = network.start().await?;
    let made = spec(&testnet, &testnet.spec_file())?;
    let publisher = profile(&testnet, "publisher", &testnet.spec_file(), &testnet.multiaddrs())?;
    let out = testnet.directory().join("renewed.spec");
    let out_text = out.to_string_lossy().into_owned();
    let run =
        async |more: &[&str]| publisher.run(&[&["chain", "renew", "--out", &out_text], more].concat()).await;

    let key = testnet.devices()[0].files.key.to_string_lossy().into_owned();
    refused(&run(&["--key", &key]).await?, &["only that key renews it"])?;
    refused(&run(&["--publisher-key", &key]).await?, &["only that key renews it"])?;
    refused(&run(&["--spec-version", "1"]).await?, &["version 1", "not above"])?;
    refused(&run(&["--date", "99999999999"]).await?, &["99999999999", "is this clock slow"])?;
    refused(&run(&["--date", "1600000000"]).await?, &["before the present one's"])?;
    let member = made.committee[0].to_string();
    refused(&run(&["--committee", &member, "--date", "99999999999"]).await?, &["is this clock slow"])?;
    refused(&run(&["--committee", &member, "--date", "1"]).await?, &["before the present one's"])?;
    refused(&run(&["--committee", &format!("{member},{member}")]).await?, &["named twice"])?;
    // An RPC URL of another chain.
    let other = Testnet::builder(program("windlass-testnet")?).nodes(1).start().await?;
    refused(&run(&["--rpc", other.rpc_url()]).await?, &["is not the chain spec's"])?;
    other.shutdown().await;
    ensure!(!out.exists());

    let outcome = run(&["--rpc", testnet.rpc_url()]).await?;
    ensure!(outcome.code == 0, "{}", outcome.stderr);
    let renewed = spec(&testnet, &out)?;
    ensure!(renewed.succeeds(&made).is_ok() && renewed.committee == made.committee, "{renewed:?}");
    refused(&run(&[]).await?, &["not overwritten"])?;
    testnet.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_kept_network_that_was_left_alone_for_weeks_renews_its_own_spec() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let network = || -> anyhow::Result<_> {
        let state = Some(folder.path().join("network"));
        Ok(Testnet::builder(program("windlass-testnet")?).nodes(1).devices(1).state(state))
    };
    let testnet = network()?.start().await?;
    let (made, old) = (spec(&testnet, &testnet.spec_file())?, aged(&testnet)?);
    let path = testnet.spec_file();
    testnet.shutdown().await;
    // One that is young stays as it is.
    let testnet = network()?.start().await?;
    ensure!(spec(&testnet, &path)? == made);
    testnet.shutdown().await;

    fs::write(&path, &old)?;
    let testnet = network()?.start().await?;
    let renewed = spec(&testnet, &path)?;
    ensure!(renewed.succeeds(&made).is_ok(), "version {} of {}", renewed.version, renewed.date);
    // Its node went on where it was, and whoever has the old file comes in, too.
    let drawer = testnet.directory().join("drawer.spec");
    fs::write(&drawer, &old)?;
    let device = profile(&testnet, "device", &drawer, &testnet.multiaddrs())?;
    let resolved = device.done(&["resolve", "device-1"]).await?;
    ensure!(resolved["proof"]["spec_version"] == 2, "{resolved}");
    testnet.shutdown().await;
    Ok(())
}
