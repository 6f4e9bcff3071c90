//! A made-up chain over JSON-RPC on loopback: as much of it as a node asks for.
#![allow(clippy::unwrap_used)]

use super::{FakeChain, REGISTRY};
use crate::chain::{Answer, Block, ChainSource, Change, SourceError};
use alloy::consensus::{Header as ConsensusHeader, Sealed};
use alloy::rpc::types::{
    Block as RpcBlock, BlockTransactions, EIP1186AccountProofResponse, EIP1186StorageProof,
    Header as RpcHeader, Log,
};
use alloy::serde::JsonStorageKey;
use alloy::sol_types::SolEvent;
use alloy_rlp::Decodable;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use windlass_contracts::registry::Registry;
use windlass_protocol::alloy_primitives::Log as PrimitiveLog;
use windlass_protocol::{B256, Bytes};

/// How a provider behaves.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    Honest,
    /// Every call, with this error.
    Refuse {
        code: i32,
        message: String,
    },
    /// Every call, with this status and nothing else.
    Status(u16),
    /// Every call, with the result null.
    Nothing,
    /// Blocks claim a hash that isn't their header's.
    WrongHashes,
    /// Whatever block is asked for, it is the first.
    AlwaysGenesis,
    /// Answers don't end.
    Endless,
    /// Answers come late.
    Slow(Duration),
}

/// The chain's server; ends when dropped.
pub(crate) struct Rpc {
    pub(crate) url: String,
    manner: Arc<Mutex<Manner>>,
    task: JoinHandle<()>,
}

/// What a call is answered from.
#[derive(Clone)]
struct Desk {
    chain: Arc<FakeChain>,
    chain_id: u64,
    manner: Arc<Mutex<Manner>>,
}

impl Rpc {
    pub(crate) async fn serve(chain: Arc<FakeChain>, chain_id: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let manner = Arc::new(Mutex::new(Manner::Honest));
        let desk = Desk { chain, chain_id, manner: manner.clone() };
        let router = Router::new().fallback(post(answer)).with_state(desk);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, manner, task }
    }

    /// One that takes connections and says nothing.
    pub(crate) async fn silent() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            let _listener = listener;
            std::future::pending().await
        });
        Self { url, manner: Arc::new(Mutex::new(Manner::Honest)), task }
    }

    pub(crate) fn behave(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }
}

impl Drop for Rpc {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(desk): State<Desk>, Json(mut call): Json<Value>) -> Response {
    let manner = desk.manner.lock().unwrap().clone();
    if matches!(manner, Manner::AlwaysGenesis) && call["method"].as_str().unwrap().starts_with("eth_getBlock")
    {
        call["method"] = json!("eth_getBlockByNumber");
        call["params"][0] = json!("0x0");
    }
    let mut answered = match &manner {
        Manner::Refuse { code, message } => error(&call["id"], *code, message),
        Manner::Status(status) => return StatusCode::from_u16(*status).unwrap().into_response(),
        Manner::Nothing => json!({ "jsonrpc": "2.0", "id": call["id"], "result": null }),
        Manner::Endless => {
            let chunks = futures::stream::repeat_with(|| Ok::<_, Infallible>(vec![b' '; 1 << 16]));
            return Body::from_stream(chunks).into_response();
        }
        Manner::Slow(by) => {
            tokio::time::sleep(*by).await;
            honest(&desk, &call).await
        }
        Manner::Honest | Manner::WrongHashes | Manner::AlwaysGenesis => honest(&desk, &call).await,
    };
    let hash = answered.get_mut("result").and_then(|block| block.get_mut("hash"));
    if let (Manner::WrongHashes, Some(hash)) = (manner, hash) {
        *hash = json!(B256::repeat_byte(0xee));
    }
    Json(answered).into_response()
}

async fn honest(desk: &Desk, call: &Value) -> Value {
    let (chain, chain_id) = (&desk.chain, desk.chain_id);
    let (method, params) = (call["method"].as_str().unwrap(), &call["params"]);
    let answer = match method {
        "eth_chainId" => Ok(json!(format!("{chain_id:#x}"))),
        "eth_getBlockByNumber" => {
            by_tag(chain, params[0].as_str().unwrap()).await.map(|block| view(block.as_ref()))
        }
        "eth_getBlockByHash" => Ok(view(chain.by_hash(word(&params[0])).await.ok().as_ref())),
        "eth_getLogs" => logs(chain, &params[0]).await,
        "eth_getProof" => proof(chain, params).await,
        other => panic!("a node asked for {other}"),
    };
    let id = &call["id"];
    match answer {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(SourceError::TooMuch { reason, .. }) => error(id, -32_005, &reason),
        Err(reason) => error(id, -32_000, &reason.to_string()),
    }
}

async fn proof(chain: &FakeChain, params: &Value) -> Answer<Value> {
    let hash = block_hash(&params[2]);
    let account_proof = chain.account(hash).await?;
    let keys: Vec<B256> = params[1].as_array().unwrap().iter().map(word).collect();
    let slot = |(key, value, nodes): (B256, B256, Vec<Bytes>)| {
        EIP1186StorageProof::new(JsonStorageKey::Hash(key), value.into(), nodes)
    };
    let storage_proof = chain.prove(hash, &keys).into_iter().map(slot).collect();
    let answer =
        EIP1186AccountProofResponse { address: REGISTRY, account_proof, storage_proof, ..Default::default() };
    Ok(json!(answer))
}

fn error(id: &Value, code: i32, message: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
}

fn word(value: &Value) -> B256 {
    value.as_str().unwrap().parse().unwrap()
}

/// EIP-1898 allows a block hash by itself or in an object.
fn block_hash(value: &Value) -> B256 {
    if value.is_object() { word(&value["blockHash"]) } else { word(value) }
}

fn number(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

async fn by_tag(chain: &FakeChain, tag: &str) -> Answer<Option<Block>> {
    match tag {
        "latest" => chain.latest().await.map(Some),
        "finalized" => chain.finalized().await,
        tag => chain.by_number(number(&json!(tag))).await,
    }
}

fn view(block: Option<&Block>) -> Value {
    let Some(block) = block else { return Value::Null };
    let header = ConsensusHeader::decode(&mut block.rlp.as_ref()).unwrap();
    let header = RpcHeader::from_consensus(Sealed::new_unchecked(header, block.header.hash), None, None);
    json!(RpcBlock::<()>::new(header, BlockTransactions::Hashes(Vec::new())))
}

async fn logs(chain: &FakeChain, filter: &Value) -> Answer<Value> {
    if filter.get("blockHash").is_some_and(|hash| !hash.is_null()) {
        let hash = word(&filter["blockHash"]);
        let number = chain.by_hash(hash).await?.header.number;
        return Ok(json!(events(&chain.changes(hash).await?, hash, number)));
    }
    let (from, to) = (number(&filter["fromBlock"]), number(&filter["toBlock"]));
    // Asked as a whole, so that the chain's own limit on ranges counts.
    chain.changes_between(from, to).await?;
    let mut all = Vec::new();
    for height in from..=to {
        let hash = chain.by_number(height).await?.unwrap().header.hash;
        all.extend(events(&chain.changes(hash).await?, hash, height));
    }
    // The order of an answer is nothing to rely on.
    all.reverse();
    Ok(json!(all))
}

fn events(changes: &[Change], hash: B256, number: u64) -> Vec<Log> {
    let event = |(index, (slot, value)): (usize, &Change)| Log {
        inner: PrimitiveLog {
            address: REGISTRY,
            data: Registry::Set { slot: *slot, value: *value }.encode_log_data(),
        },
        block_hash: Some(hash),
        block_number: Some(number),
        // Counted anew in each transaction, as some do.
        log_index: Some(index as u64 % 2),
        transaction_hash: Some(B256::ZERO),
        transaction_index: Some(index as u64 / 2),
        ..Log::default()
    };
    changes.iter().enumerate().map(event).collect()
}
