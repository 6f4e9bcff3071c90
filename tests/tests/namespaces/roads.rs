//! Bad roads: delay, loss and reorder. Streams carry what was sent, whole and in order, or say that they were cut.

use anyhow::{Context, ensure};
use windlass_protocol::keccak256;
use windlass_tests::internet::{Gateway, Scene, apart};
use windlass_tests::site::file;
use windlass_tests::story::SOON;

/// Bytes that are sent over the road.
const BYTES: usize = 1 << 20;

#[test]
fn delay_loss_and_reorder_change_no_byte() -> anyhow::Result<()> {
    apart(&delay_loss_and_reorder_change_no_byte, async |internet| {
        let (a, b) = (internet.home(Gateway::Open)?, internet.home(Gateway::Moderate)?);
        let shaper = a.shape(&["--delay", "20", "--lost", "15", "--reordered", "50"]).await?;
        let mut scene = Scene::build(internet, 2, a, b).await?;
        scene.publish(2).await?;
        let forward = scene.forward().await?;
        let (hash, rate) = scene.file(&forward, BYTES).await?;
        ensure!(hash == keccak256(&file()[..BYTES]), "the file came changed");
        let fates = shaper.finish(SOON).await?;
        let count = |fate: &str| fates[fate].as_u64().with_context(|| format!("no {fate} in {fates}"));
        // A road that did nothing would show nothing.
        ensure!(count("lost")? > 5 && count("reordered")? > 20, "the road was too good: {fates}");
        eprintln!("{BYTES} bytes at {:.2} MB/s over a road that did this: {fates}", rate / 1e6);
        Ok(())
    })
}
