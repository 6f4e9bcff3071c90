//! A grant that runs out while a stream lives: the stream ends then, with nobody doing anything.

use alloy::eips::BlockNumberOrTag;
use alloy::providers::Provider;
use anyhow::{Context, ensure};
use std::io::ErrorKind;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use windlass_tests::story::{SERVICE, SOON, Story};

/// How long the grant holds: time to open a stream, and to see that it lives.
const HOLDS: Duration = Duration::from_secs(7);
/// After it has run out, the stream is gone within this.
const GONE: Duration = Duration::from_secs(3);

/// The time of the chain's newest block.
async fn chain_time(story: &Story) -> anyhow::Result<SystemTime> {
    let provider = alloy::providers::ProviderBuilder::new().connect_http(story.testnet.rpc_url().parse()?);
    let block = provider.get_block_by_number(BlockNumberOrTag::Latest).await?.context("no block")?;
    Ok(UNIX_EPOCH + Duration::from_secs(block.header.timestamp))
}

#[tokio::test]
async fn a_stream_whose_grant_runs_out_ends_with_it() -> anyhow::Result<()> {
    let mut story = Story::start().await?;
    story.create_fleet().await?;
    let (a, b) = (story.enrol("a").await?, story.enrol("b").await?);
    story.register_name(&a).await?;
    story.publish(&a).await?;
    // A grant ends by the chain's time or the clock, whichever is later; the chain is ahead after blocks in a row.
    let until = SystemTime::now().max(chain_time(&story).await?) + HOLDS;
    let until = UNIX_EPOCH + Duration::from_secs(until.duration_since(UNIX_EPOCH)?.as_secs());
    let (fleet, seconds) = (story.fleet.to_string(), until.duration_since(UNIX_EPOCH)?.as_secs().to_string());
    let parties = ["--fleet", &fleet, "--target", &a.id, "--grantee", &b.id, "--service", SERVICE];
    story.change(&[&["grant", "add", "--expiry", &seconds][..], &parties].concat()).await?;

    let mut forward = story.forward(&b).await?;
    let mut stream = TcpStream::connect(forward.address).await?;
    stream.write_all(b"GET /endless HTTP/1.1\r\nHost: site\r\n\r\n").await?;
    let mut buffer = vec![0; 4096];
    let first = tokio::time::timeout(SOON, stream.read(&mut buffer)).await.context("it never started")??;
    ensure!(first > 0 && SystemTime::now() < until, "the stream did not live while the grant held");
    let ended = async {
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => return Some(error.kind()),
            }
        }
    };
    let left = until.duration_since(SystemTime::now()).unwrap_or_default();
    let how = tokio::time::timeout(left + GONE, ended).await.context("the stream outlives its grant")?;
    ensure!(how == Some(ErrorKind::ConnectionReset), "it was not cut but ended: {how:?}");
    let late = SystemTime::now().duration_since(until).unwrap_or_default();
    ensure!(late < GONE, "it was cut {late:?} after the grant ran out");
    let early = until.duration_since(SystemTime::now()).unwrap_or_default();
    ensure!(early < Duration::from_secs(2), "it was cut {early:?} before the grant ran out");
    forward.running.event(SOON, |event| event["event"] == "ended" && event["reason"].is_string()).await?;
    ensure!(story.refusal(&b).await? == "no_grant");
    story.shutdown().await;
    Ok(())
}
