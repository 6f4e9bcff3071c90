//! A JSON-RPC gate before a chain: what passes, what is refused, what is changed and when it falls silent is the test's.
//!
//! Owns the port and the rule in force. Judges nothing: it is the network and the provider that a deployment can meet.

use alloy::transports::http::reqwest::{Client, Url, header::CONTENT_TYPE};
use anyhow::Context;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long a test waits for a request that must come.
const HELD_WITHIN: Duration = Duration::from_secs(60);

/// What becomes of one request.
pub(crate) enum Fate {
    /// It is answered by the chain.
    Pass,
    /// It is not passed on, and not answered.
    Refuse,
    /// It is passed on, and its answer changed.
    Change(fn(&mut Value)),
    /// It is passed on, and never answered.
    PassAndHold,
}

type Rule = Box<dyn FnMut(&Value) -> Fate + Send>;

struct Shared {
    upstream: Url,
    client: Client,
    rule: Mutex<Rule>,
    held: mpsc::Sender<()>,
}

/// The gate. It closes when dropped.
pub(crate) struct Gate {
    address: SocketAddr,
    shared: Arc<Shared>,
    held: mpsc::Receiver<()>,
    task: JoinHandle<()>,
}

impl Gate {
    /// Opens before the chain at `upstream`; all passes until told otherwise.
    pub(crate) async fn open(upstream: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (sender, held) = mpsc::channel(16);
        let rule: Mutex<Rule> = Mutex::new(Box::new(|_| Fate::Pass));
        let shared =
            Arc::new(Shared { upstream: upstream.parse()?, client: Client::new(), rule, held: sender });
        let router = Router::new().route("/", post(answer)).with_state(shared.clone());
        let task = tokio::spawn(async move {
            // It only ends with an error when the listener fails, which the requests then show.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, shared, held, task })
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Puts a rule in force, from the next request on.
    pub(crate) fn rule(&self, rule: impl FnMut(&Value) -> Fate + Send + 'static) {
        *self.shared.rule.lock().expect("no rule panics") = Box::new(rule);
    }

    /// Waits until a request was passed on and is held.
    pub(crate) async fn held(&mut self) -> anyhow::Result<()> {
        timeout(HELD_WITHIN, self.held.recv()).await?.context("the gate is gone")
    }

    /// Asks the chain itself.
    pub(crate) async fn ask(&self, method: &str, params: Value) -> anyhow::Result<Value> {
        let request = serde_json::json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let answer = pass_on(&self.shared, &request).await?;
        answer.get("result").cloned().with_context(|| format!("{method} is refused: {answer}"))
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    Json(request): Json<Value>,
) -> Result<Json<Value>, StatusCode> {
    let fate = (shared.rule.lock().expect("no rule panics"))(&request);
    if matches!(fate, Fate::Refuse) {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    let mut answer = pass_on(&shared, &request).await.map_err(|_| StatusCode::BAD_GATEWAY)?;
    match fate {
        Fate::Change(change) => change(&mut answer["result"]),
        Fate::PassAndHold => {
            // Nobody may wait for it any more; the request is held all the same.
            let _ = shared.held.send(()).await;
            std::future::pending::<()>().await;
        }
        Fate::Pass | Fate::Refuse => {}
    }
    Ok(Json(answer))
}

async fn pass_on(shared: &Shared, request: &Value) -> anyhow::Result<Value> {
    let sent = shared.client.post(shared.upstream.clone()).header(CONTENT_TYPE, "application/json");
    let answer = sent.body(request.to_string()).send().await?;
    Ok(serde_json::from_slice(&answer.bytes().await?)?)
}

/// Whether the request hands over a transaction.
pub(crate) fn is_send(request: &Value) -> bool {
    request["method"] == "eth_sendRawTransaction"
}
