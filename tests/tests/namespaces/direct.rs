//! Direct ways: past every gateway that can be passed, for those who were let in; and where none can be, staying on the
//! relay and saying why.

use anyhow::{Context, ensure};
use std::time::{Duration, Instant};
use windlass_tests::internet::{Gateway, Internet, Scene, apart, host, host6};
use windlass_tests::story::SOON;

/// Time from the first stream, which is relayed, until streams go directly: what is promised, held to in long runs, which
/// have the machine for themselves.
const DIRECT: Duration = Duration::from_secs(5);
/// The same beside everything else that a busy machine does.
const EVENTUALLY: Duration = Duration::from_secs(60);
/// Time until a device that can't be reached directly says so.
const SAID: Duration = Duration::from_secs(60);
/// What a family of addresses that leads nowhere may cost.
const BLACKHOLE: Duration = Duration::from_secs(1);
/// How often that is measured.
const ROUNDS: usize = 5;

/// Two homes and two nodes: the first stream is relayed, and soon they go directly.
async fn goes_direct(internet: Internet, a: Gateway, b: Gateway, beginning: &str) -> anyhow::Result<()> {
    let (a, b) = (internet.home(a)?, internet.home(b)?);
    let mut scene = Scene::build(internet, 2, a, b).await?;
    scene.publish(2).await?;
    let mut forward = scene.forward().await?;
    let first = scene.path(&mut forward).await?;
    ensure!(first.starts_with("relayed via"), "nobody may be told a way before: {first}");
    let (path, took) = scene.path_becomes(&mut forward, beginning, EVENTUALLY).await?;
    eprintln!("{path} after {took:?}");
    Ok(())
}

#[test]
fn an_open_device_is_reached_directly_from_behind_any_gateway() -> anyhow::Result<()> {
    apart(&an_open_device_is_reached_directly_from_behind_any_gateway, async |internet| {
        goes_direct(internet, Gateway::Open, Gateway::Strict, "direct").await
    })
}

#[test]
fn a_device_behind_any_gateway_is_reached_directly_from_an_open_one() -> anyhow::Result<()> {
    apart(&a_device_behind_any_gateway_is_reached_directly_from_an_open_one, async |internet| {
        goes_direct(internet, Gateway::Strict, Gateway::Open, "direct").await
    })
}

#[test]
fn between_moderate_gateways_holes_are_punched_over_quic() -> anyhow::Result<()> {
    apart(&between_moderate_gateways_holes_are_punched_over_quic, async |internet| {
        let long = std::env::var("WINDLASS_PUNCHES").ok().and_then(|tries| tries.parse().ok());
        let (tries, within): (u32, _) = long.map_or((2, EVENTUALLY), |tries| (tries, DIRECT));
        let (a, b) = (internet.home(Gateway::Moderate)?, internet.home(Gateway::Moderate)?);
        let mut scene = Scene::build(internet, 2, a, b).await?;
        let (mut punched, mut slowest) = (0, Duration::ZERO);
        for number in 1..=tries {
            // New processes have new ports, so nothing is open from the last time.
            let mut forward = scene.again(2).await?;
            match scene.path_becomes(&mut forward, "direct over QUIC", within).await {
                Ok((_, took)) => {
                    punched += 1;
                    slowest = slowest.max(took);
                }
                Err(error) => eprintln!("{number}: {error:#}"),
            }
            forward.running.kill().await?;
        }
        eprintln!("{punched} of {tries} punched over QUIC, the slowest in {slowest:?}");
        ensure!(punched * 20 >= tries * 19, "{punched} of {tries}");
        Ok(())
    })
}

#[test]
fn between_strict_gateways_devices_stay_relayed_and_say_why() -> anyhow::Result<()> {
    apart(&between_strict_gateways_devices_stay_relayed_and_say_why, async |internet| {
        let (a, b) = (internet.home(Gateway::Strict)?, internet.home(Gateway::Strict)?);
        let mut scene = Scene::build(internet, 2, a, b).await?;
        scene.publish(2).await?;
        let mut forward = scene.forward().await?;
        scene.page(&forward).await?;
        // A stream that lives on keeps the two connected.
        let mut endless = scene.b.home.command("curl");
        endless.args(["--silent", "--output", "/dev/null", &format!("http://{}/endless", forward.address)]);
        let mut endless = endless.kill_on_drop(true).spawn().context("cannot run curl")?;
        let said = scene.publisher()?.event(SAID, |event| event["event"] == "stays_relayed").await?;
        let why = said["why"].as_str().context("no reason")?;
        eprintln!("stays relayed: {why}");
        ensure!(!why.is_empty() && said["attempts"].as_u64() >= Some(1), "{said}");
        // And all the while, and from then on, streams go through the relay.
        for _ in 0..5 {
            let path = scene.path(&mut forward).await?;
            ensure!(path.starts_with("relayed via"), "{path}");
        }
        ensure!(endless.try_wait()?.is_none(), "the stream that lived on has ended");
        Ok(())
    })
}

#[test]
fn an_ipv6_that_leads_nowhere_costs_at_most_a_second() -> anyhow::Result<()> {
    apart(&an_ipv6_that_leads_nowhere_costs_at_most_a_second, async |internet| {
        let (a, b) = (internet.home(Gateway::Firewalled)?, internet.home(Gateway::Firewalled)?);
        let hosts = (1..=2).map(|number| vec![host6(number), host(number)]).collect();
        let mut scene = Scene::over(internet, hosts, a, b).await?;
        scene.publish(2).await?;
        let target = scene.a.actor.id.clone();
        let resolve = async || {
            let (since, windlass) = (Instant::now(), scene.b.home.windlass(&scene.b.actor.windlass));
            match windlass.done(&["resolve", &target]).await {
                Ok(_) => since.elapsed(),
                Err(error) => {
                    eprintln!("not counted: {error:#}");
                    Duration::MAX
                }
            }
        };
        // The quickest of a few, in turn: what else this machine does is no part of it, however busy it is.
        let (mut with, mut without) = (Duration::MAX, Duration::MAX);
        for _ in 0..ROUNDS {
            with = with.min(resolve().await);
            scene.b.home.lose("meta nfproto ipv6")?;
            without = without.min(resolve().await);
            scene.b.home.pass_all()?;
        }
        eprintln!("resolved in {with:?} with IPv6, in {without:?} where it is lost without a word");
        ensure!(
            without < with.saturating_add(BLACKHOLE) && with < Duration::MAX,
            "{with:?}, then {without:?}"
        );
        scene.b.home.lose("meta nfproto ipv6")?;
        // Publishing, too: its own connections, and those of who calls.
        scene.a.home.lose("meta nfproto ipv6")?;
        let forward = tokio::time::timeout(SOON, scene.again(2)).await.context("not published in time")??;
        scene.page(&forward).await?;
        Ok(())
    })
}
