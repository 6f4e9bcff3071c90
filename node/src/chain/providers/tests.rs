//! Providers that limit, lie, lag, stall and fall silent, over JSON-RPC.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::limits::{CONFIRM_DEADLINE, SLOW_ANSWERS};
use crate::testing::rpc::{Manner, Rpc};
use crate::testing::{self, FakeChain};
use std::sync::Arc;

const CHAIN_ID: u64 = 1_337;

fn chain(blocks: usize) -> Arc<FakeChain> {
    let chain = FakeChain::new();
    for value in 0..blocks {
        chain.extend(vec![(B256::with_last_byte(1), B256::with_last_byte(value as u8 + 1))]);
    }
    chain
}

fn providers(servers: &[&Rpc], finality: FinalityRule) -> Providers {
    let urls: Vec<String> = servers.iter().map(|server| server.url.clone()).collect();
    let (spec, _) = testing::spec_with(3, |spec| spec.finality = finality);
    // No comparison comes between the questions of a test.
    Providers::new(&urls, &spec).unwrap().with_survey_every(Duration::MAX)
}

fn check(confirmations: usize, contradictions: usize) -> CrossCheck {
    CrossCheck { confirmations, contradictions }
}

#[test]
fn what_is_no_url_is_refused_with_its_name() {
    let (spec, _) = testing::spec(3);
    for bad in ["127.0.0.1:8545", "ws://127.0.0.1:8545", "", "http://"] {
        let error = Providers::new(&[bad.to_owned()], &spec).err().unwrap().to_string();
        assert!(error.contains("providers"), "{error}");
    }
    assert!(Providers::new(&[], &spec).is_err());
}

#[tokio::test]
async fn the_word_of_one_host_counts_once_however_often_it_is_named() {
    let chain = chain(3);
    chain.finalise(3);
    let server = Rpc::serve(chain.clone(), CHAIN_ID).await;
    let (spec, _) = testing::spec(3);
    let twice = [server.url.clone(), server.url.clone()];
    assert!(Providers::new(&twice, &spec).err().unwrap().to_string().contains("named twice"));
    let keys = [format!("{}/v3/one", server.url), format!("{}/v3/two", server.url)];
    let one_host = Providers::new(&keys, &spec).unwrap();
    assert_eq!(one_host.independent(), 1);
    assert_eq!(one_host.cross_check(3, chain.hash(3)).await, check(1, 0));
    assert_eq!(one_host.cross_check(3, chain.hash(2)).await, check(0, 1));
}

#[tokio::test]
async fn a_block_counts_as_final_only_for_who_calls_it_final() {
    // The first calls its newest block final; the second has the same block and doesn't.
    let (hasty, honest) = (chain(9), chain(9));
    hasty.finalise(9);
    honest.finalise(5);
    let servers = [Rpc::serve(hasty.clone(), CHAIN_ID).await, Rpc::serve(honest.clone(), CHAIN_ID).await];
    let by_tag = providers(&[&servers[0], &servers[1]], FinalityRule::Tag);
    assert_eq!(by_tag.cross_check(9, hasty.hash(9)).await, check(1, 0));
    assert_eq!(by_tag.cross_check(5, hasty.hash(5)).await, check(2, 0));
    // Another block is a contradiction only where it is final.
    assert_eq!(by_tag.cross_check(5, hasty.hash(4)).await, check(0, 2));
    assert_eq!(by_tag.cross_check(9, hasty.hash(4)).await, check(0, 1));
    // By depth the same: invented descendants of one make nothing final for the other.
    honest.lag(3);
    let by_depth = providers(&[&servers[0], &servers[1]], FinalityRule::Depth(2));
    assert_eq!(by_depth.cross_check(7, hasty.hash(7)).await, check(1, 0));
    assert_eq!(by_depth.cross_check(4, hasty.hash(4)).await, check(2, 0));
}

#[tokio::test]
async fn a_provider_that_cannot_tell_counts_as_nothing() {
    let chain = chain(3);
    chain.finalise(3);
    let (good, other) =
        (Rpc::serve(chain.clone(), CHAIN_ID).await, Rpc::serve(chain.clone(), CHAIN_ID).await);
    let providers = providers(&[&good, &other], FinalityRule::Tag);
    for manner in [
        Manner::Refuse { code: -32_601, message: "no such tag".to_owned() },
        Manner::WrongHashes,
        Manner::Endless,
        Manner::Status(429),
        Manner::Nothing,
    ] {
        other.behave(manner);
        assert_eq!(providers.cross_check(3, chain.hash(3)).await, check(1, 0));
    }
    assert!(providers.health()[1].failures >= 4, "{:?}", providers.health());
    assert_eq!(providers.health()[1].contradictions, 0);
}

#[tokio::test]
async fn a_silent_provider_costs_a_moment_once_and_not_its_deadline() {
    let chain = chain(3);
    chain.finalise(3);
    let (good, silent) = (Rpc::serve(chain.clone(), CHAIN_ID).await, Rpc::silent().await);
    let providers = providers(&[&silent, &good], FinalityRule::Tag);
    let started = Instant::now();
    for _ in 0..100 {
        assert_eq!(providers.cross_check(3, chain.hash(3)).await, check(1, 0));
    }
    assert!(started.elapsed() < 4 * CONFIRM_DEADLINE, "{:?}", started.elapsed());
    assert!(providers.health()[0].last_failure.as_ref().unwrap().contains("no answer within"));
}

#[tokio::test]
async fn a_provider_that_limits_our_rate_is_left_for_the_next() {
    let chain = chain(8);
    let (limited, good) =
        (Rpc::serve(chain.clone(), CHAIN_ID).await, Rpc::serve(chain.clone(), CHAIN_ID).await);
    for manner in [
        Manner::Refuse { code: -32_005, message: "Too Many Requests".to_owned() },
        Manner::Refuse { code: -32_005, message: "limit exceeded".to_owned() },
        Manner::Status(429),
    ] {
        let providers = providers(&[&limited, &good], FinalityRule::Tag);
        limited.behave(manner);
        assert_eq!(providers.latest().await.unwrap().header.number, 8);
        let health = providers.health();
        assert!(health[0].failures > 0 && health[1].preferred, "{health:?}");
        assert!(health[0].last_failure.is_some());
        // Neither is a range refused for good because one provider takes it to be too long.
        providers.distrust("so that it is asked first again");
        assert_eq!(providers.changes_between(1, 8).await.unwrap().len(), 8);
        assert_eq!(providers.changes_between(1, 1).await.unwrap().len(), 1);
        assert!(providers.account(chain.hash(8)).await.is_ok());
    }
}

#[tokio::test]
async fn a_range_is_too_long_only_if_every_provider_says_so() {
    let chain = chain(8);
    chain.limit_ranges(3);
    let server = Rpc::serve(chain.clone(), CHAIN_ID).await;
    let providers = providers(&[&server], FinalityRule::Tag);
    assert!(matches!(providers.changes_between(1, 8).await, Err(SourceError::TooMuch { .. })));
    assert_eq!(providers.changes_between(1, 2).await.unwrap().len(), 2);
    // A single block can't be halved.
    server.behave(Manner::Refuse { code: -32_005, message: "limit exceeded".to_owned() });
    assert!(matches!(providers.changes_between(2, 2).await, Err(SourceError::Unavailable(_))));
}

#[tokio::test]
async fn a_wrong_answer_is_one_providers_failure_and_never_fatal() {
    let chain = chain(4);
    let liar = Rpc::serve(chain.clone(), CHAIN_ID).await;
    liar.behave(Manner::WrongHashes);
    let alone = providers(&[&liar], FinalityRule::Tag);
    let error = alone.latest().await.unwrap_err();
    assert!(!error.is_fatal() && error.to_string().contains("hash"), "{error}");
    // Also when it is the last one asked, after an honest one failed for once.
    let honest = Rpc::serve(chain.clone(), CHAIN_ID).await;
    let both = providers(&[&honest, &liar], FinalityRule::Tag);
    honest.behave(Manner::Refuse { code: -32_000, message: "busy".to_owned() });
    assert!(!both.latest().await.unwrap_err().is_fatal());
    honest.behave(Manner::Honest);
    assert_eq!(both.latest().await.unwrap().header.number, 4);
    // At the start it is.
    let (spec, _) = testing::spec(3);
    assert!(alone.check(&spec).await.unwrap_err().is_fatal());
}

#[tokio::test]
async fn a_block_of_another_number_or_hash_is_no_answer() {
    let chain = chain(4);
    let (confused, honest) =
        (Rpc::serve(chain.clone(), CHAIN_ID).await, Rpc::serve(chain.clone(), CHAIN_ID).await);
    confused.behave(Manner::AlwaysGenesis);
    let providers = providers(&[&confused, &honest], FinalityRule::Tag);
    assert_eq!(providers.by_number(3).await.unwrap().unwrap().header.number, 3);
    providers.distrust("so that it is asked first again");
    assert_eq!(providers.by_hash(chain.hash(2)).await.unwrap().header.number, 2);
    assert_eq!(providers.health()[0].failures, 2);
}

#[tokio::test]
async fn a_provider_that_stays_behind_is_left_for_one_that_goes_on() {
    let (frozen, live) = (chain(2), chain(30));
    let servers = [Rpc::serve(frozen, CHAIN_ID).await, Rpc::serve(live, CHAIN_ID).await];
    let providers =
        providers(&[&servers[0], &servers[1]], FinalityRule::Tag).with_survey_every(Duration::ZERO);
    assert_eq!(providers.latest().await.unwrap().header.number, 2, "once may be chance");
    assert_eq!(providers.latest().await.unwrap().header.number, 30);
    let health = providers.health();
    assert!(health[1].preferred && health[0].last_failure.as_ref().unwrap().contains("behind at block 2"));
    assert_eq!((health[0].newest, health[1].newest, providers.highest()), (2, 30, 30));
    // One that was found to be wrong isn't taken back for being high.
    providers.distrust("it was wrong");
    for _ in 0..4 {
        assert_eq!(providers.latest().await.unwrap().header.number, 2);
    }
}

#[tokio::test]
async fn a_provider_that_answers_too_slowly_is_left_though_it_answers() {
    let chain = chain(5);
    let (slow, quick) =
        (Rpc::serve(chain.clone(), CHAIN_ID).await, Rpc::serve(chain.clone(), CHAIN_ID).await);
    slow.behave(Manner::Slow(CONFIRM_DEADLINE + Duration::from_millis(200)));
    let preferred = |providers: &Providers| {
        let health = providers.health();
        (health[0].preferred, health[0].last_failure.clone().unwrap_or_default())
    };
    // By what is asked of it.
    let asked = providers(&[&slow, &quick], FinalityRule::Tag);
    for answers in 1..=SLOW_ANSWERS {
        assert!(preferred(&asked).0, "{answers} may be chance");
        assert_eq!(asked.by_number(5).await.unwrap().unwrap().header.number, 5);
    }
    let (still, why) = preferred(&asked);
    assert!(!still && why.contains("waiting"), "{why}");
    // By comparison with the others.
    let compared = providers(&[&slow, &quick], FinalityRule::Tag).with_survey_every(Duration::ZERO);
    for _ in 0..2 {
        assert!(preferred(&compared).0, "once may be chance");
        assert_eq!(compared.latest().await.unwrap().header.number, 5);
    }
    let (still, why) = preferred(&compared);
    assert!(!still && why.contains("waiting"), "{why}");
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let chain = chain(4);
    let endless = Rpc::serve(chain.clone(), CHAIN_ID).await;
    endless.behave(Manner::Endless);
    let providers = providers(&[&endless], FinalityRule::Tag);
    let error = providers.latest().await.unwrap_err().to_string();
    assert!(error.contains("longer than"), "{error}");
    // A range of blocks may be what is too long.
    assert!(matches!(providers.changes_between(1, 3).await, Err(SourceError::TooMuch { .. })));
}

#[tokio::test]
async fn a_providers_words_are_made_harmless() {
    let chain = chain(1);
    let server = Rpc::serve(chain.clone(), CHAIN_ID).await;
    let message = format!("no\nERROR forged\u{1b}[2J{}", "x".repeat(1 << 20));
    server.behave(Manner::Refuse { code: -32_000, message });
    let providers = providers(&[&server], FinalityRule::Tag);
    let error = providers.latest().await.unwrap_err().to_string();
    assert!(error.len() < 1_000 && !error.contains(char::is_control), "{error}");
    let kept = providers.health()[0].last_failure.clone().unwrap();
    assert!(kept.len() < 1_000 && !kept.contains(char::is_control), "{kept}");
}
