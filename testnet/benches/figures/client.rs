//! A JSON-RPC client that costs as little as possible, so that a load's figures are the chain's.
//!
//! Owns one connection that is kept, with one request on it at a time. It trusts the server it measures.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

/// One kept connection.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Client {
    /// Connects to a URL like `http://127.0.0.1:8545`.
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        let host = url.strip_prefix("http://").context("the URL of a chain begins with http://")?;
        let host = host.trim_end_matches('/').to_owned();
        let stream = TcpStream::connect(&host).await.with_context(|| format!("no chain at {url}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), host })
    }

    /// Connects as soon as somebody listens.
    pub(crate) async fn connect_within(url: &str, patience: Duration) -> Result<Self> {
        let deadline = Instant::now() + patience;
        loop {
            match Self::connect(url).await {
                Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(1)).await,
                connected => return connected,
            }
        }
    }

    /// Calls a method and gives its result.
    pub(crate) async fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        let answer = self.post(request(method, params).as_bytes()).await?;
        let mut answer: Value = serde_json::from_slice(&answer)?;
        if let Some(error) = answer.get("error") {
            bail!("{method}: {error}");
        }
        Ok(answer["result"].take())
    }

    /// Calls a method that gives a quantity.
    pub(crate) async fn number(&mut self, method: &str, params: Value) -> Result<u64> {
        let value = self.call(method, params).await?;
        let digits = value.as_str().and_then(|text| text.strip_prefix("0x")).context("not a quantity")?;
        Ok(u64::from_str_radix(digits, 16)?)
    }

    /// Posts a body and gives the answer's.
    pub(crate) async fn post(&mut self, body: &[u8]) -> Result<Vec<u8>> {
        let head = format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.host,
            body.len()
        );
        self.stream.write_all(&[head.as_bytes(), body].concat()).await?;
        let (mut line, mut length) = (String::new(), None);
        self.stream.read_line(&mut line).await?;
        ensure!(line.contains(" 200"), "the chain answered {line:?}");
        loop {
            line.clear();
            self.stream.read_line(&mut line).await?;
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = Some(value.trim().parse()?);
            }
        }
        let mut answer = vec![0; length.context("an answer without a length")?];
        self.stream.read_exact(&mut answer).await?;
        Ok(answer)
    }
}

/// The body of one call.
pub(crate) fn request(method: &str, params: Value) -> String {
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string()
}
