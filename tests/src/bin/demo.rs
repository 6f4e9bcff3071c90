//! `demo`: the main job from end to end, as separate processes on this machine. Each step prints what
//! happened and how long it took; the first that fails ends it, named.

use anyhow::{Context, ensure};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use windlass_tests::evil::Lie;
use windlass_tests::story::{NAME, SERVICE, Story};

#[tokio::main]
async fn main() -> ExitCode {
    let since = Instant::now();
    match demo().await {
        Ok(()) => {
            println!("\nAll of it worked, in {:.1} s.", since.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("\ndemo: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Prints steps with their time.
struct Steps {
    since: Instant,
}

impl Steps {
    fn done(&mut self, what: &str) {
        self.took(what, self.since.elapsed());
        self.since = Instant::now();
    }

    fn took(&mut self, what: &str, time: Duration) {
        println!("{:>7.2} s  {what}", time.as_secs_f64());
    }
}

async fn demo() -> anyhow::Result<()> {
    let mut steps = Steps { since: Instant::now() };
    let mut story = Story::start().await.context("starting chain and nodes")?;
    let timeline: Vec<_> = story.testnet.timeline().to_vec();
    for (stage, time) in timeline {
        let what = match stage {
            "the chain" => format!("an EVM chain runs at {}", story.testnet.rpc_url()),
            "the contracts" => "the contracts are deployed and the chain spec is signed".to_owned(),
            "the nodes" => "three nodes mirror the registry; two of them attest each head".to_owned(),
            _ => continue,
        };
        steps.took(&what, time);
    }
    steps.since = Instant::now();

    let fleet = story.create_fleet().await.context("creating a fleet")?;
    let a = story.enrol("a").await.context("enrolling A")?;
    let b = story.enrol("b").await.context("enrolling B")?;
    let c = story.enrol("c").await.context("enrolling C")?;
    steps.done(&format!("fleet {fleet} has three devices, each by its own consent: A {}", a.id));
    story.register_name(&a).await.context("registering the name")?;
    steps.done(&format!("{NAME} points at A, by commitment and revelation"));
    story.grant(&a, &b).await.context("granting")?;
    steps.done(&format!("B may open {SERVICE} on A"));

    let relays = story.publish(&a).await.context("publishing")?;
    steps.done(&format!("A publishes an HTTP server as {SERVICE}, private, through {relays} relays"));
    let answer = story.resolve(&b).await.context("resolving")?;
    ensure!(answer["device"] == a.id.as_str(), "{NAME} leads to {}", answer["device"]);
    steps.done(&format!(
        "B resolves {NAME} and proves it under head {}: {} bytes, {} attestations, {} s old",
        answer["proof"]["block"],
        answer["proof"]["bytes"],
        answer["proof"]["attested_by"],
        answer["proof"]["age_seconds"]
    ));
    let mut forward = story.forward(&b).await.context("forwarding")?;
    story.fetch_page(&forward).await.context("fetching the page")?;
    steps.done("B opens a stream with its staple and fetches the page with curl");
    let rate = story.fetch_file(&forward).await.context("fetching the file")?;
    steps.done(&format!("B fetches 64 MiB through the relay, unchanged: {:.0} MB/s", rate / 1e6));

    refusals(&story, &c, &mut steps).await?;
    for lie in [Lie::WrongValue, Lie::TruncatedProof, Lie::ForgedAbsence, Lie::StaleHead] {
        let reason = story.resolve_past_a_lie(&b, &a, lie).await.with_context(|| format!("{lie:?}"))?;
        steps.done(&format!("a node that lies ({lie:?}) is refused and another asked: {reason}"));
    }
    let index = story.kill_relay(&mut forward).await.context("killing the relay")?;
    story.fetch_page(&forward).await.context("fetching through another relay")?;
    steps.done(&format!("node {} relayed B's stream and is killed; the next stream works", index + 1));

    let cut = story.revoke_and_see_the_cut(&b, &mut forward).await.context("revoking B")?;
    let after = cut.after_attestation;
    ensure!(after < Duration::from_secs(1), "the stream lived on for {after:?} after the attestation");
    steps.done(&format!(
        "B is revoked in block {}; its live stream is cut {} ms after the receipt, {} ms after two nodes are seen \
         to attest it",
        cut.block,
        cut.after_receipt.as_millis(),
        after.as_millis()
    ));
    story.shutdown().await;
    Ok(())
}

async fn refusals(story: &Story, c: &windlass_tests::story::Actor, steps: &mut Steps) -> anyhow::Result<()> {
    let reason = story.refusal(c).await.context("C without a grant")?;
    ensure!(reason == "no_grant", "C without a grant was refused with {reason}");
    steps.done("C, enrolled but without a grant, is refused: NoGrant");
    let stranger = story.stranger("stranger")?;
    let reason = story.refusal(&stranger).await.context("a key that is not enrolled")?;
    ensure!(reason == "not_registered", "an unenrolled key was refused with {reason}");
    steps.done("a key that is enrolled nowhere is refused: NotRegistered");
    Ok(())
}
