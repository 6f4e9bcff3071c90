//! The demo's story as scenarios, one per step, each on a network of its own with real processes.

#![allow(missing_docs)]

use anyhow::{Context, ensure};
use std::time::Duration;
use windlass_testnet::network::health;
use windlass_tests::evil::Lie;
use windlass_tests::site::FILE_BYTES;
use windlass_tests::story::{Actor, NAME, SOON, Story, curl, relay_of};

/// A network with A, named but not published, and B.
async fn named() -> anyhow::Result<(Story, Actor, Actor)> {
    let mut story = Story::start().await?;
    story.create_fleet().await?;
    let (a, b) = (story.enrol("a").await?, story.enrol("b").await?);
    story.register_name(&a).await?;
    Ok((story, a, b))
}

#[tokio::test]
async fn chain_contracts_and_nodes_come_up_and_nodes_attest() -> anyhow::Result<()> {
    let story = Story::start().await?;
    for node in story.testnet.nodes().iter().flatten() {
        let health = health(&node.admin).await.context("no health")?;
        ensure!(health["status"] == "ok", "not healthy: {health}");
        ensure!(health["served"]["attestations"].as_u64() >= Some(2), "not attested: {health}");
    }
    story.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_device_enrols_by_its_own_consent_once() -> anyhow::Result<()> {
    let mut story = Story::start().await?;
    story.create_fleet().await?;
    let a = story.enrol("a").await?;
    let shown = a.windlass.done(&["device", "show", &a.id]).await?;
    ensure!(shown["status"] == "active", "{shown}");
    ensure!(shown["fleet"] == story.fleet, "{shown}");
    let key = a.files.key.to_string_lossy().into_owned();
    let fleet = story.fleet.to_string();
    let again = story.operator.run(&["device", "enrol", "--fleet", &fleet, "--device-key", &key]).await?;
    ensure!(again.code == 1, "a second enrolment ended with {}: {}", again.code, again.stderr);
    story.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_name_is_registered_once_and_leads_to_its_device() -> anyhow::Result<()> {
    let (story, a, b) = named().await?;
    let answer = story.resolve(&b).await?;
    ensure!(answer["device"] == a.id.as_str(), "{answer}");
    let taken = story.operator.run(&["name", "register", NAME, "--target", &b.id]).await?;
    ensure!(taken.code == 1, "a taken name ended with {}: {}", taken.code, taken.stderr);
    story.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_page_and_a_file_come_through_a_relay_unchanged() -> anyhow::Result<()> {
    let (story, a, b) = Story::published().await?;
    let mut forward = story.forward(&b).await?;
    story.fetch_page(&forward).await?;
    let opened = forward.running.event(SOON, |event| event["event"] == "opened").await?;
    ensure!(relay_of(&opened).is_some(), "not relayed: {opened}");
    story.fetch_file(&forward).await?;
    // The nodes have metered what A sent, by its key: the file, and the seal around it.
    let metered = format!("windlass_relayed_bytes_total{{device=\"{}\"}} ", a.id);
    let mut bytes = 0;
    for node in story.testnet.nodes().iter().flatten() {
        let metrics = String::from_utf8(curl(&format!("http://{}/metrics", node.admin)).await?)?;
        let own = metrics.lines().find_map(|line| line.strip_prefix(&metered));
        bytes += own.map_or(Ok(0), str::parse::<usize>)?;
    }
    ensure!((FILE_BYTES..FILE_BYTES * 11 / 10).contains(&bytes), "{bytes} bytes are metered");
    story.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn callers_without_a_grant_or_enrolment_are_refused() -> anyhow::Result<()> {
    let (story, _a, _b) = Story::published().await?;
    let c = story.enrol("c").await?;
    ensure!(story.refusal(&c).await? == "no_grant");
    let stranger = story.stranger("stranger")?;
    ensure!(story.refusal(&stranger).await? == "not_registered");
    story.shutdown().await;
    Ok(())
}

async fn lies_are_refused(lies: &[Lie]) -> anyhow::Result<()> {
    let (story, a, b) = named().await?;
    for lie in lies {
        story.resolve_past_a_lie(&b, &a, *lie).await.with_context(|| format!("{lie:?}"))?;
    }
    story.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn false_proofs_are_refused_named_and_another_node_asked() -> anyhow::Result<()> {
    lies_are_refused(&[Lie::WrongValue, Lie::TruncatedProof, Lie::ForgedAbsence, Lie::Padded]).await
}

#[tokio::test]
async fn foreign_proofs_and_other_code_are_refused_named_and_another_node_asked() -> anyhow::Result<()> {
    lies_are_refused(&[Lie::ForeignProof, Lie::OtherCode, Lie::Oversized]).await
}

/// With one committee key of its own the node signs what it likes; the threshold is more than one.
#[tokio::test]
async fn one_committee_key_alone_makes_no_head() -> anyhow::Result<()> {
    lies_are_refused(&[Lie::Equivocation, Lie::OtherChain, Lie::ReplayedNonce]).await
}

#[tokio::test]
async fn false_heads_are_refused_named_and_another_node_asked() -> anyhow::Result<()> {
    lies_are_refused(&[Lie::StaleHead, Lie::Unattested, Lie::TooFew, Lie::ForgedHeader]).await
}

#[tokio::test]
async fn garbage_and_silence_are_refused_named_and_another_node_asked() -> anyhow::Result<()> {
    lies_are_refused(&[Lie::Garbage, Lie::Silence]).await
}

/// Half of what the caller watches through tells it everything but the revocation.
#[tokio::test]
async fn a_node_that_withholds_the_push_keeps_no_revoked_stream_alive() -> anyhow::Result<()> {
    let (story, _a, b) = Story::published().await?;
    let (evil, multiaddr) = story.start_evil(Lie::WithheldPush).await?;
    let honest = story.testnet.multiaddrs().pop().context("no node runs")?;
    let windlass = story.with_nodes(&b, "withheld", &[multiaddr, honest])?;
    let caller = Actor { windlass, ..b };
    let mut forward = story.forward(&caller).await?;
    story.fetch_page(&forward).await?;
    story.revoke_and_see_the_cut(&caller, &mut forward).await?;
    evil.kill().await?;
    story.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn the_next_stream_works_after_its_relay_was_killed() -> anyhow::Result<()> {
    let (mut story, _a, b) = Story::published().await?;
    let mut forward = story.forward(&b).await?;
    story.fetch_page(&forward).await?;
    story.kill_relay(&mut forward).await?;
    story.fetch_page(&forward).await?;
    story.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_revocation_cuts_the_live_stream_within_a_second() -> anyhow::Result<()> {
    let (story, _a, b) = Story::published().await?;
    let mut forward = story.forward(&b).await?;
    let cut = story.revoke_and_see_the_cut(&b, &mut forward).await?;
    ensure!(cut.after_attestation < Duration::from_secs(1), "{cut:?}");
    story.testnet.wait_served(cut.block).await?;
    let shown = story.operator.run(&["device", "show", &b.id]).await?;
    ensure!(shown.json["status"] == "revoked", "{}", shown.stdout);
    story.shutdown().await;
    Ok(())
}

/// Caller and publisher change their keys, and do everything again: resolve, reserve, open, publish.
#[tokio::test]
async fn a_rotated_key_works_everywhere_and_the_old_one_nowhere() -> anyhow::Result<()> {
    let mut story = Story::start().await?;
    story.create_fleet().await?;
    let (a, b) = (story.enrol_funded("a", 5).await?, story.enrol_funded("b", 6).await?);
    story.register_name(&a).await?;
    story.grant(&a, &b).await?;
    story.publish(&a).await?;
    story.fetch_page(&story.forward(&b).await?).await?;

    let caller = story.rotate(&b).await?;
    let refused = story.refusal(&b).await?;
    ensure!(refused == "not_our_key", "the old key was told {refused}");
    story.fetch_page(&story.forward(&caller).await?).await?;

    let publisher = story.rotate(&a).await?;
    let answer = story.resolve(&caller).await?;
    ensure!(answer["device"] == a.id.as_str(), "{answer}");
    // What still runs with the old key is nobody any more, whatever routes it left behind.
    let unreachable = story.refusal(&caller).await?;
    ensure!(!unreachable.is_empty());
    ensure!(story.publish(&publisher).await? >= 2, "reachable through one relay only");
    story.fetch_page(&story.forward(&caller).await?).await?;

    let (code, said) = story.refused_publication(&a).await?;
    ensure!(code == 1 && said.contains("key"), "{code}: {said}");
    let old = a.files.key.to_string_lossy().into_owned();
    let back = publisher.windlass.run(&["device", "rotate", "--new-key", &old]).await?;
    ensure!(back.code != 0, "a key that served came back: {}", back.stdout);
    story.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_node_killed_and_started_again_serves_again() -> anyhow::Result<()> {
    let (mut story, a, b) = named().await?;
    story.testnet.kill_node(0).await?;
    let answer = story.resolve(&b).await?;
    ensure!(answer["device"] == a.id.as_str(), "{answer}");
    story.testnet.start_node(0).await?;
    story.testnet.wait_healthy().await?;
    let only = vec![story.testnet.nodes()[0].as_ref().context("node 1 runs")?.multiaddr.clone()];
    let windlass = story.with_nodes(&b, "only", &only)?;
    let answer = windlass.done(&["resolve", NAME]).await?;
    ensure!(answer["device"] == a.id.as_str(), "{answer}");
    story.shutdown().await;
    Ok(())
}
