//! A second implementation of our wire formats against real nodes and a real device of ours: `second.mjs` in
//! `tests/interop/clients`, written from `docs/protocol.md` alone.

use anyhow::ensure;
use serde_json::Value;
use std::time::Duration;
use windlass_tests::peers;
use windlass_tests::site::PAGE;
use windlass_tests::story::{Actor, NAME, Story};
use windlass_tests::windlass::Windlass;

/// How long each line may take, on a machine that is busy with everything else.
const WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_second_implementation_resolves_watches_and_opens_a_stream() -> anyhow::Result<()> {
    let (story, a, _) = Story::published().await?;
    // Its key is known here, to be told to the script.
    let (secret, files) = story.testnet.create_key("second")?;
    let key = files.key.to_string_lossy().into_owned();
    let fleet = story.fleet.to_string();
    story.change(&["device", "enrol", "--fleet", &fleet, "--device-key", &key]).await?;
    let windlass = Windlass::new(&files.profile)?;
    let second = Actor { id: secret.address().to_string(), files, windlass };
    story.grant(&a, &second).await?;

    let Some(mut script) = peers::second_implementation(&story.testnet, NAME, &secret).await? else {
        return Ok(());
    };
    let resolved = script.event(WITHIN, |line| line.get("resolved").is_some()).await?;
    ensure!(resolved["resolved"].as_str().is_some_and(|id| id.eq_ignore_ascii_case(&a.id)), "{resolved}");
    ensure!(resolved["refused"].as_u64() > Some(200), "{resolved}");
    let watching = script.event(WITHIN, |line| line.get("watching").is_some()).await?;
    ensure!(watching["watching"] == serde_json::json!([0, 0, 4]), "{watching}");
    let page = script.event(WITHIN, |line| line.get("page").is_some()).await?;
    ensure!(page["page"] == PAGE, "{page}");
    // A proven change is pushed to it.
    story.change(&["device", "revoke", &second.id]).await?;
    let changed = script.event(WITHIN, |line| line.get("changed").is_some()).await?;
    ensure!(revoked(&changed), "{changed}");
    script.kill().await?;
    story.shutdown().await;
    Ok(())
}

/// Whether a device's record among what changed says that it is revoked.
fn revoked(line: &Value) -> bool {
    // status(8) lies above key(160), fleet(48) and validUntil(40): in a word's first byte of 32, here without zeros in front.
    let slots = line["changed"].as_array().map(Vec::as_slice).unwrap_or_default();
    slots.iter().any(|slot| {
        slot[0] == 0 && slot[2].as_str().is_some_and(|value| value.len() == 66 && value.starts_with("0x03"))
    })
}
