//! WebSocket: requests, batches, subscriptions, and what bounds them.

use crate::{ask, deploy, keep, manual, mine, quiet, send, start, transfer};
use alloy::primitives::B256;
use alloy::providers::Provider;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use windlass_testnet::chain::Chain;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client that keeps notifications apart from answers.
pub(crate) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    notifications: VecDeque<Value>,
}

impl Socket {
    pub(crate) async fn open(address: SocketAddr, path: &str) -> Self {
        Self::with_headers(address, path, &[]).await.unwrap()
    }

    async fn with_headers(
        address: SocketAddr,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, Box<Error>> {
        let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let (stream, _) = tokio_tungstenite::connect_async(request).await?;
        Ok(Self { stream, notifications: VecDeque::new() })
    }

    async fn send(&mut self, text: &str) {
        self.stream.send(Message::text(text)).await.unwrap();
    }

    /// The next message that isn't a ping; `None` when the connection was closed.
    async fn message(&mut self) -> Option<Value> {
        loop {
            match timeout(PATIENCE, self.stream.next()).await.unwrap() {
                Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(other)) => panic!("{other:?}"),
            }
        }
    }

    /// The answer to `body`.
    async fn request(&mut self, body: &str) -> Value {
        self.send(body).await;
        loop {
            let message = self.message().await.unwrap();
            if message["method"] != "eth_subscription" {
                return message;
            }
            self.notifications.push_back(message["params"].clone());
        }
    }

    pub(crate) async fn call(&mut self, method: &str, params: Value) -> Result<Value, (i64, String)> {
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let answer = self.request(&call.to_string()).await;
        match answer.get("result") {
            Some(result) => Ok(result.clone()),
            None => {
                let error = &answer["error"];
                Err((error["code"].as_i64().unwrap(), error["message"].as_str().unwrap().to_owned()))
            }
        }
    }

    pub(crate) async fn subscribe(&mut self, params: Value) -> Value {
        self.call("eth_subscribe", params).await.unwrap()
    }

    /// What the next notification says, which has to be of `subscription`.
    pub(crate) async fn notified(&mut self, subscription: &Value) -> Value {
        let params = match self.notifications.pop_front() {
            Some(params) => params,
            None => self.message().await.unwrap()["params"].clone(),
        };
        assert_eq!(&params["subscription"], subscription);
        params["result"].clone()
    }

    /// Whether a request gets no answer but the end of the connection.
    pub(crate) async fn is_hung_up_on(&mut self) -> bool {
        self.send(r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}"#).await;
        self.message().await.is_none()
    }

    /// That nothing was told up to now: whatever was, would come before the answer.
    pub(crate) async fn nothing_more(&mut self) {
        self.call("eth_chainId", json!([])).await.unwrap();
        assert!(self.notifications.is_empty(), "{:?}", self.notifications);
    }
}

async fn socket(chain: &Chain) -> Socket {
    Socket::open(chain.address(), "/").await
}

#[tokio::test]
async fn requests_and_batches_are_served() {
    let (chain, _) = start(quiet()).await;
    let mut socket = socket(&chain).await;
    assert_eq!(socket.call("eth_chainId", json!([])).await.unwrap(), "0x7a69");
    let batch = r#"[{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber"},7,{"jsonrpc":"2.0","id":"b","method":"gone"}]"#;
    let answers = socket.request(batch).await;
    assert_eq!(answers[0]["result"], "0x0");
    assert_eq!(answers[1]["error"]["code"], -32600);
    assert_eq!((&answers[2]["id"], &answers[2]["error"]["code"]), (&json!("b"), &json!(-32601)));
    assert_eq!(socket.request("{").await["error"]["code"], -32700);
    assert_eq!(socket.call("eth_chainId", json!([])).await.unwrap(), "0x7a69", "and the next one");
}

#[tokio::test]
async fn new_heads_are_told_in_their_order() {
    let (chain, provider) = start(quiet()).await;
    let mut socket = socket(&chain).await;
    let heads = socket.subscribe(json!(["newHeads"])).await;
    mine(&provider, 300).await;
    let mut parent = provider.get_block_by_number(0.into()).await.unwrap().unwrap().header.hash;
    for number in 1..=300u64 {
        let head = socket.notified(&heads).await;
        assert_eq!(head["number"], format!("{number:#x}"));
        assert_eq!(head["parentHash"], json!(parent));
        parent = serde_json::from_value::<B256>(head["hash"].clone()).unwrap();
    }
    let newest = provider.get_block_by_number(300.into()).await.unwrap().unwrap();
    assert_eq!(newest.header.hash, parent);
    assert_eq!(socket.call("eth_unsubscribe", json!([heads])).await.unwrap(), true);
    mine(&provider, 1).await;
    socket.nothing_more().await;
    assert!(socket.call("eth_unsubscribe", json!([heads])).await.is_err());
}

#[tokio::test]
async fn logs_are_told_and_taken_back_after_a_reorg() {
    let (chain, provider) = start(manual()).await;
    let (one, two) = (deploy(&provider).await, deploy(&provider).await);
    let mut socket = socket(&chain).await;
    let logs = socket.subscribe(json!(["logs", {"address": one}])).await;
    send(&provider, keep(two, 1)).await;
    send(&provider, keep(one, 2)).await;
    send(&provider, keep(one, 3)).await;
    let (second, third) = (socket.notified(&logs).await, socket.notified(&logs).await);
    for (log, word) in [(&second, 2u64), (&third, 3)] {
        assert_eq!(log["data"], format!("0x{word:064x}"));
        assert_eq!(log["removed"], false);
    }
    ask(&provider, "dev_reorg", json!([2, {"transactions": "keep"}])).await.unwrap();
    for told in [&third, &second] {
        let mut back = socket.notified(&logs).await;
        assert_eq!(back["removed"], true, "the newest first");
        back["removed"] = json!(false);
        assert_eq!(&back, told, "the same log in all else");
    }
    for word in [2u64, 3] {
        let again = socket.notified(&logs).await;
        assert_eq!(again["data"], format!("0x{word:064x}"));
        assert_eq!(again["removed"], false);
        assert_ne!(again["blockHash"], second["blockHash"]);
    }
    socket.nothing_more().await;
}

#[tokio::test]
async fn transactions_taken_in_are_told_by_hash_or_in_full() {
    let (chain, provider) = start(quiet()).await;
    let mut hashes = socket(&chain).await;
    let by_hash = hashes.subscribe(json!(["newPendingTransactions"])).await;
    let mut full = socket(&chain).await;
    let in_full = full.subscribe(json!(["newPendingTransactions", true])).await;
    let sent = send(&provider, transfer()).await.transaction_hash;
    assert_eq!(hashes.notified(&by_hash).await, json!(sent));
    let told = full.notified(&in_full).await;
    assert_eq!((&told["hash"], &told["value"]), (&json!(sent), &json!("0x1")));
}

#[tokio::test]
async fn a_subscription_tells_nothing_from_before_it_and_only_its_own_connection() {
    let (chain, provider) = start(quiet()).await;
    let (mut first, mut second) = (socket(&chain).await, socket(&chain).await);
    mine(&provider, 3).await;
    let heads = first.subscribe(json!(["newHeads"])).await;
    mine(&provider, 1).await;
    let later = first.subscribe(json!(["newHeads"])).await;
    assert_eq!(first.notified(&heads).await["number"], "0x4");
    mine(&provider, 1).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let params = match first.notifications.pop_front() {
            Some(params) => params,
            None => first.message().await.unwrap()["params"].clone(),
        };
        assert_eq!(params["result"]["number"], "0x5");
        ids.push(params["subscription"].clone());
    }
    assert!(ids.contains(&heads) && ids.contains(&later));
    second.nothing_more().await;
    assert!(second.call("eth_unsubscribe", json!([heads])).await.is_err(), "it isn't its own");
}

#[tokio::test]
async fn what_cannot_be_subscribed_to_is_refused() {
    let (chain, provider) = start(quiet()).await;
    let mut socket = socket(&chain).await;
    for params in [
        json!([]),
        json!(["oldHeads"]),
        json!([7]),
        json!(["logs", 7]),
        json!(["logs", {"blockHash": B256::ZERO}]),
        json!(["newPendingTransactions", "yes"]),
    ] {
        assert_eq!(socket.call("eth_subscribe", params.clone()).await.unwrap_err().0, -32602, "{params}");
    }
    assert_eq!(socket.call("eth_unsubscribe", json!(["0x1"])).await.unwrap_err().0, -32000);
    let (code, message) = ask(&provider, "eth_subscribe", json!(["newHeads"])).await.unwrap_err();
    assert_eq!(code, -32601);
    assert!(message.contains("WebSocket"), "{message}");
    assert!(ask(&provider, "eth_unsubscribe", json!(["0x1"])).await.is_err());
}

#[tokio::test]
async fn subscriptions_of_a_connection_have_a_bound() {
    let (chain, _) = start(quiet()).await;
    let mut socket = socket(&chain).await;
    for _ in 0..64 {
        socket.subscribe(json!(["newHeads"])).await;
    }
    let (code, _) = socket.call("eth_subscribe", json!(["newHeads"])).await.unwrap_err();
    assert_eq!(code, -32005);
}

/// As many connections as there may be.
async fn all_connections(chain: &Chain) -> Vec<Socket> {
    let mut open = Vec::new();
    for _ in 0..256 {
        open.push(socket(chain).await);
    }
    let refused = Socket::with_headers(chain.address(), "/", &[]).await.err().unwrap();
    assert!(matches!(&*refused, Error::Http(answer) if answer.status() == 503), "{refused}");
    open
}

/// Comes back when there is room for a connection.
async fn room(chain: &Chain) {
    let room = async {
        while Socket::with_headers(chain.address(), "/", &[]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, room).await.unwrap();
}

#[tokio::test]
async fn connections_have_a_bound_and_make_room_when_they_end() {
    let (chain, _) = start(quiet()).await;
    let mut open = all_connections(&chain).await;
    drop(open.pop());
    room(&chain).await;
}

#[tokio::test]
async fn a_message_over_the_bound_ends_the_connection() {
    let (chain, _) = start(quiet()).await;
    let mut large = socket(&chain).await;
    // It may be cut off while it still writes.
    let _ = large.stream.send(Message::text(" ".repeat(5 * 1024 * 1024 + 1))).await;
    assert_eq!(large.message().await, None);
    assert_eq!(socket(&chain).await.call("eth_chainId", json!([])).await.unwrap(), "0x7a69");
}

#[tokio::test]
async fn a_reader_that_does_not_keep_up_is_dropped_and_holds_nobody_up() {
    let (chain, provider) = start(quiet()).await;
    let mut open = all_connections(&chain).await;
    for _ in 0..64 {
        open[0].subscribe(json!(["newHeads"])).await;
    }
    let heads = open[1].subscribe(json!(["newHeads"])).await;
    // Each block is told the slow one 64 times, about 100 KB: many times what the system buffers for it.
    for _ in 0..4 {
        timeout(PATIENCE, mine(&provider, 100)).await.expect("nobody waits for it");
    }
    for number in 1..=400u64 {
        assert_eq!(open[1].notified(&heads).await["number"], format!("{number:#x}"));
    }
    room(&chain).await;
    let mut read = 0;
    while open[0].message().await.is_some() {
        read += 1;
    }
    assert!(read < 64 * 400, "it missed some");
}

#[tokio::test]
async fn host_and_origin_rules_hold_for_websockets() {
    let (chain, _) = start(quiet()).await;
    let open = async |header| Socket::with_headers(chain.address(), "/", &[header]).await;
    assert!(open(("host", "localhost:1")).await.is_ok());
    assert!(open(("origin", "http://localhost:3000")).await.is_ok());
    for header in [
        ("host", "example.org"),
        ("origin", "https://example.org"),
        ("origin", "null"),
        ("host", "127.0.0.1.example.org"),
    ] {
        let refused = open(header).await.err().unwrap();
        assert!(matches!(&*refused, Error::Http(answer) if answer.status() == 403), "{header:?}");
    }
}

#[tokio::test]
async fn shutdown_ends_the_connections() {
    let (chain, _) = start(quiet()).await;
    let mut socket = socket(&chain).await;
    socket.subscribe(json!(["newHeads"])).await;
    chain.shutdown().await;
    assert_eq!(socket.message().await, None);
}
