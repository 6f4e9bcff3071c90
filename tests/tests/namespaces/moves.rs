//! Addresses that change under a device: its gateway's, and its own. Connections of the old one are dead without a word,
//! and the device is back by itself.

use anyhow::ensure;
use std::time::Duration;
use windlass_tests::internet::{Gateway, Home, Scene, apart};

/// Time for connections that are dead to be found so: a ping's pause and its deadline, and the way back.
const BACK: Duration = Duration::from_secs(60);

async fn is_back_after(
    change: impl Fn(&Home) -> anyhow::Result<()>,
    internet: windlass_tests::internet::Internet,
) -> anyhow::Result<()> {
    let (a, b) = (internet.home(Gateway::Moderate)?, internet.home(Gateway::Moderate)?);
    let mut scene = Scene::build(internet, 2, a, b).await?;
    scene.publish(2).await?;
    let forward = scene.forward().await?;
    scene.page(&forward).await?;
    change(&scene.a.home)?;
    let publisher = scene.page_within(&forward, BACK).await?;
    change(&scene.b.home)?;
    let caller = scene.page_within(&forward, BACK).await?;
    eprintln!("reached {publisher:?} after the publisher's change, reaching {caller:?} after the caller's");
    ensure!(publisher < BACK && caller < BACK, "{publisher:?} and {caller:?}");
    Ok(())
}

#[test]
fn a_gateway_with_another_address_costs_a_bounded_time() -> anyhow::Result<()> {
    apart(&a_gateway_with_another_address_costs_a_bounded_time, async |internet| {
        is_back_after(Home::change_public_address, internet).await
    })
}

#[test]
fn a_device_with_another_address_is_back_in_a_bounded_time() -> anyhow::Result<()> {
    apart(&a_device_with_another_address_is_back_in_a_bounded_time, async |internet| {
        is_back_after(Home::change_own_address, internet).await
    })
}
