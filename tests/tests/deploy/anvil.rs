//! The same program against somebody else's chain.

use crate::desk::Desk;
use crate::gate::{Fate, Gate, is_send};
use serde_json::json;
use windlass_protocol::{B256, keccak256};
use windlass_tests::peers::Anvil;

/// Anvil passes every line of the eligibility test, and a deployment on it that was cut off goes on like any other.
#[tokio::test]
async fn anvil_is_eligible_and_carries_a_deployment() -> anyhow::Result<()> {
    let Some(anvil) = Anvil::start(&["--slots-in-an-epoch", "1"]).await? else { return Ok(()) };
    let gate = Gate::open(anvil.url()).await?;
    let desk = Desk::rich().await?;
    let mut sends = 0;
    gate.rule(move |request| {
        sends += u32::from(is_send(request));
        if sends < 3 { Fate::Pass } else { Fate::Refuse }
    });
    desk.refused(&gate.url(), &[], "chain_unreachable", &[&gate.url()]).await?;
    assert_eq!(desk.sent(&gate).await?, 2);
    gate.rule(|_| Fate::Pass);
    let spec = desk.completes(&gate, &["--chain-id", "31337"]).await?;
    let data = format!("0x{}", alloy::primitives::hex::encode(&keccak256("headerNumbers()")[..4]));
    let call = json!([{ "to": spec["node_staking"]["address"], "data": data }, "latest"]);
    assert_eq!(gate.ask("eth_call", call).await?, json!(B256::with_last_byte(1)), "numbers and hashes are the headers'");
    Ok(())
}
