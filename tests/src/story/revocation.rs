//! A revocation on chain cuts a live stream.

use super::{Actor, Forward, SOON, Story};
use anyhow::{Context, ensure};
use serde_json::Value;
use std::io::ErrorKind;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use windlass_testnet::network::health;

/// How a live stream ended.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// The block that holds the revocation.
    pub block: u64,
    /// From a threshold of attestations over that block, as the first node shows it, to the end of the stream.
    /// Zero if the stream ended before it could be seen.
    pub after_attestation: Duration,
    /// From the moment the operator's command had its receipt.
    pub after_receipt: Duration,
}

impl Story {
    /// Opens a stream that never ends by itself, revokes the device, and waits for the stream's end.
    pub async fn revoke_and_see_the_cut(&self, device: &Actor, forward: &mut Forward) -> anyhow::Result<Cut> {
        let mut stream = TcpStream::connect(forward.address).await?;
        stream.write_all(b"GET /endless HTTP/1.1\r\nHost: site\r\n\r\n").await?;
        let mut buffer = vec![0; 4096];
        let first = timeout(SOON, stream.read(&mut buffer)).await.context("the stream never started")??;
        ensure!(first > 0, "the stream ended before the revocation");

        let ended = tokio::spawn(async move {
            loop {
                match stream.read(&mut buffer).await {
                    Ok(0) => return (Instant::now(), None),
                    Err(error) => return (Instant::now(), Some(error.kind())),
                    Ok(_) => {}
                }
            }
        });
        let asked = Instant::now();
        let revoked = self.operator.done(&["device", "revoke", &device.id]).await?;
        let receipt = Instant::now();
        let block = revoked["block"].as_u64().with_context(|| format!("no block in {revoked}"))?;
        let attested = timeout(SOON, self.attested(block)).await.context("the block was not attested")??;
        let (ended, how) = timeout(SOON, ended).await.context("the stream outlived the revocation")??;
        ensure!(ended > asked, "the stream ended before the revocation was asked for");
        // An orderly end would pass off what came so far as the whole answer.
        ensure!(how == Some(ErrorKind::ConnectionReset), "the stream was not cut but ended: {how:?}");
        let cut = |event: &Value| event["event"] == "ended" && event["reason"].is_string();
        forward.running.event(SOON, cut).await.context("the forward does not say that the stream was cut")?;
        Ok(Cut {
            block,
            after_attestation: ended.saturating_duration_since(attested),
            after_receipt: ended.saturating_duration_since(receipt),
        })
    }

    /// When the first node serves this block or a later one, which takes a threshold of attestations.
    async fn attested(&self, block: u64) -> anyhow::Result<Instant> {
        loop {
            for node in self.testnet.nodes().iter().flatten() {
                let served = health(&node.admin).await.and_then(|said| said["served"]["number"].as_u64());
                if served.is_some_and(|number| number >= block) {
                    return Ok(Instant::now());
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
