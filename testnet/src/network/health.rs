//! Asking a node how it is, over its admin HTTP.

use serde_json::Value;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Between two questions while a node is not there yet.
const AGAIN_AFTER: Duration = Duration::from_millis(20);
/// One answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// More bytes than any health report has.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// A node's `/health` as JSON; `None` if it gives none.
pub async fn health(admin: &str) -> Option<Value> {
    timeout(ANSWER_WITHIN, ask(admin)).await.ok()?
}

async fn ask(admin: &str) -> Option<Value> {
    let mut stream = TcpStream::connect(admin).await.ok()?;
    let request = format!("GET /health HTTP/1.0\r\nHost: {admin}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER_BYTES).read_to_string(&mut answer).await.ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

/// Waits until the node's health is as wanted; the last thing it said if it isn't within this time.
pub(super) async fn reached(
    admin: &str,
    within: Duration,
    wanted: impl Fn(&Value) -> bool,
) -> Result<(), Value> {
    let deadline = Instant::now() + within;
    loop {
        let said = health(admin).await.unwrap_or_default();
        if wanted(&said) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(said);
        }
        sleep(AGAIN_AFTER).await;
    }
}
