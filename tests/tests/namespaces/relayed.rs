//! Behind gateways that let nothing in, devices meet through relays, whatever happens to these.

use anyhow::ensure;
use std::time::Duration;
use windlass_tests::internet::{Gateway, Scene, apart};
use windlass_tests::story::{SOON, relay_of};

/// How long until the next stream goes through another relay.
const FAIL_OVER: Duration = Duration::from_secs(1);

#[test]
fn behind_gateways_that_let_nothing_in_a_device_is_reached_through_a_relay() -> anyhow::Result<()> {
    apart(&behind_gateways_that_let_nothing_in_a_device_is_reached_through_a_relay, async |internet| {
        let (a, b) = (internet.home(Gateway::Moderate)?, internet.home(Gateway::Strict)?);
        let mut scene = Scene::build(internet, 3, a, b).await?;
        scene.publish(2).await?;
        let mut forward = scene.forward().await?;
        let path = scene.path(&mut forward).await?;
        ensure!(path.starts_with("relayed via"), "behind two gateways: {path}");
        Ok(())
    })
}

#[test]
fn where_udp_is_blocked_everything_goes_over_tcp_and_a_relay() -> anyhow::Result<()> {
    apart(&where_udp_is_blocked_everything_goes_over_tcp_and_a_relay, async |internet| {
        let (a, b) = (internet.home(Gateway::Moderate)?, internet.home(Gateway::Moderate)?);
        for home in [&a, &b] {
            home.lose("meta l4proto udp")?;
        }
        let mut scene = Scene::build(internet, 2, a, b).await?;
        scene.publish(2).await?;
        let mut forward = scene.forward().await?;
        let path = scene.path(&mut forward).await?;
        ensure!(path.starts_with("relayed via"), "{path}");
        Ok(())
    })
}

#[test]
fn when_a_relay_is_killed_the_next_stream_takes_another_within_a_second() -> anyhow::Result<()> {
    apart(&when_a_relay_is_killed_the_next_stream_takes_another_within_a_second, async |internet| {
        // No other way than relays.
        let (a, b) = (internet.home(Gateway::Strict)?, internet.home(Gateway::Strict)?);
        let mut scene = Scene::build(internet, 3, a, b).await?;
        scene.publish(3).await?;
        let mut forward = scene.forward().await?;
        scene.page(&forward).await?;
        let dead = scene.story.kill_relay(&mut forward).await?;
        let took = scene.page_within(&forward, FAIL_OVER).await?;
        eprintln!("a page through another relay {took:?} after the kill of node {}", dead + 1);
        ensure!(took < FAIL_OVER, "it took {took:?}");
        let opened = forward.running.event(SOON, |event| event["event"] == "opened").await?;
        ensure!(relay_of(&opened).is_some(), "not relayed: {opened}");
        Ok(())
    })
}

#[test]
fn nodes_are_reached_over_ipv6_alone() -> anyhow::Result<()> {
    apart(&nodes_are_reached_over_ipv6_alone, async |internet| {
        let (a, b) = (internet.home(Gateway::Firewalled)?, internet.home(Gateway::Open)?);
        for home in [&a, &b] {
            home.lose("meta nfproto ipv4")?;
        }
        let hosts = (1..=2).map(|number| vec![windlass_tests::internet::host6(number)]).collect();
        let mut scene = Scene::over(internet, hosts, a, b).await?;
        scene.publish(2).await?;
        let forward = scene.forward().await?;
        scene.page(&forward).await?;
        Ok(())
    })
}
