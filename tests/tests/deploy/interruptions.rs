//! A deployment that is interrupted, at every step and in every way, goes on where it ended.

use crate::desk::{Desk, TRANSACTIONS, quiet_chain};
use crate::gate::{Fate, Gate, is_send};

/// Killed with kill -9 when the chain has the transaction and the program doesn't know it yet: after each of them in turn.
#[tokio::test]
async fn killed_after_each_step_a_deployment_is_completed_by_later_runs() -> anyhow::Result<()> {
    let chain = quiet_chain().await?;
    let mut gate = Gate::open(&chain.rpc_url()).await?;
    let desk = Desk::rich().await?;
    for step in 1..=TRANSACTIONS {
        gate.rule(|request| if is_send(request) { Fate::PassAndHold } else { Fate::Pass });
        let running = desk.start(&gate.url())?;
        gate.held().await?;
        running.kill().await?;
        assert_eq!(desk.sent(&gate).await?, step, "one step per run");
        assert!(desk.journal().exists() && !desk.spec().exists());
    }
    gate.rule(|_| Fate::Pass);
    desk.completes(&gate, &[]).await?;
    chain.shutdown().await;
    Ok(())
}

/// The chain goes away before a transaction leaves: each run does one step, and says on one line why not the next.
#[tokio::test]
async fn cut_off_before_each_step_a_deployment_is_completed_by_later_runs() -> anyhow::Result<()> {
    let chain = quiet_chain().await?;
    let gate = Gate::open(&chain.rpc_url()).await?;
    let desk = Desk::rich().await?;
    let mut step = 0;
    while step < TRANSACTIONS - 1 {
        let mut sends = 0;
        gate.rule(move |request| {
            sends += u32::from(is_send(request));
            if sends < 2 { Fate::Pass } else { Fate::Refuse }
        });
        let code = if step + 2 < TRANSACTIONS { "chain_unreachable" } else { "deploy_transaction" };
        desk.refused(&gate.url(), &[], code, &[&gate.url()]).await?;
        step += 1;
        assert_eq!(desk.sent(&gate).await?, step, "one step per run");
    }
    gate.rule(|_| Fate::Pass);
    desk.completes(&gate, &[]).await?;
    chain.shutdown().await;
    Ok(())
}

/// Whoever runs it again with another chain or other terms is told so, and nothing is mixed up.
#[tokio::test]
async fn a_journal_of_another_chain_or_other_terms_is_refused() -> anyhow::Result<()> {
    let (chain, other) = (quiet_chain().await?, quiet_chain().await?);
    let (gate, elsewhere) = (Gate::open(&chain.rpc_url()).await?, Gate::open(&other.rpc_url()).await?);
    let desk = Desk::rich().await?;
    gate.rule(|request| if is_send(request) { Fate::Refuse } else { Fate::Pass });
    desk.refused(&gate.url(), &[], "chain_unreachable", &[]).await?;
    gate.rule(|_| Fate::Pass);

    let name = desk.journal().to_string_lossy().into_owned();
    desk.refused(&elsewhere.url(), &[], "journal", &[&name, "another chain"]).await?;
    desk.refused(&gate.url(), &["--min-stake", "5"], "journal", &[&name, "stake"]).await?;
    assert_eq!(desk.sent(&elsewhere).await?, 0);
    assert_eq!(desk.sent(&gate).await?, 0);

    let kept = std::fs::read(desk.journal())?;
    std::fs::write(desk.journal(), "{")?;
    desk.refused(&gate.url(), &[], "journal", &[&name, "move it away"]).await?;
    std::fs::write(desk.journal(), kept)?;
    desk.completes(&gate, &[]).await?;
    chain.shutdown().await;
    other.shutdown().await;
    Ok(())
}
