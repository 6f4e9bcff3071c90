//! JSON-RPC over HTTP, on loopback only.
//!
//! Owns the door: who may knock (the Host and Origin rules), how large a request may be, and which function
//! serves a method. What the methods do lives in the modules named after what they are about.

mod argument;
mod blocks;
mod call;
mod dev;
mod envelope;
mod error;
mod fees;
mod filter;
mod info;
mod reference;
mod send;
mod state;
mod view;

use super::Shared;
use super::limits::MAX_REQUEST_BYTES;
use argument::Arguments;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_TYPE,
    HOST, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::serve::ListenerExt;
use error::RpcError;
use serde_json::Value;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::error;
use windlass_protocol::Bytes;

/// Serves JSON-RPC on `listener` until told to stop.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let listener = listener.tap_io(|connection| {
        // A request is one small write; without this each waits for the former's acknowledgement.
        let _ = connection.set_nodelay(true);
    });
    let router = Router::new()
        .route("/", post(answer))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .layer(middleware::from_fn(guard))
        .with_state(shared);
    let stop = async move {
        // An error means that the chain was dropped: also a reason to stop.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop).await {
        error!(%error, "the chain's server ended");
    }
}

async fn answer(State(shared): State<Arc<Shared>>, body: axum::body::Bytes) -> Response {
    let answered = tokio::task::spawn_blocking(move || {
        envelope::answer(&body, |method, arguments| dispatch(&shared, method, arguments))
    });
    match answered.await {
        Ok(Some(answer)) => ([(CONTENT_TYPE, "application/json")], answer).into_response(),
        Ok(None) => StatusCode::NO_CONTENT.into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Turns away pages of other origins: a name that points here (DNS rebinding) by its Host, a script by its
/// Origin.
async fn guard(request: Request, next: Next) -> Response {
    let headers = request.headers();
    if !header(headers, &HOST).is_none_or(is_loopback) {
        return (StatusCode::FORBIDDEN, "this chain serves loopback only: use 127.0.0.1 or localhost\n")
            .into_response();
    }
    let Some(origin) = headers.get(ORIGIN).cloned() else { return next.run(request).await };
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    if !authority.is_some_and(is_loopback) {
        return (StatusCode::FORBIDDEN, "this chain serves pages from loopback only\n").into_response();
    }
    let mut response = match *request.method() {
        Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
        _ => next.run(request).await,
    };
    allow(response.headers_mut(), origin);
    response
}

fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("content-type"));
    headers.insert(VARY, HeaderValue::from_static("origin"));
}

/// A header as text; an unreadable one counts as foreign.
fn header<'a>(headers: &'a HeaderMap, name: &axum::http::HeaderName) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or_default())
}

/// Whether `authority` (host, perhaps with a port) can only be this machine.
fn is_loopback(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    ["127.0.0.1", "localhost", "[::1]"].iter().any(|loopback| host.eq_ignore_ascii_case(loopback))
}

fn dispatch(shared: &Shared, method: &str, mut arguments: Arguments) -> Result<Value, RpcError> {
    let args = &mut arguments;
    let answer = match method {
        "web3_clientVersion" => info::client_version(),
        "web3_sha3" => info::sha3(args),
        "net_version" => info::net_version(shared),
        "net_listening" => Ok(Value::Bool(true)),
        "net_peerCount" => info::peer_count(),
        "eth_syncing" => Ok(Value::Bool(false)),
        "eth_chainId" => info::chain_id(shared),
        "eth_accounts" => info::accounts(),
        "eth_blockNumber" => blocks::number(shared),
        "eth_getBlockByNumber" => blocks::block(shared, blocks::by_number(args)?, args),
        "eth_getBlockByHash" => blocks::block(shared, blocks::by_hash(args)?, args),
        "eth_getBlockTransactionCountByNumber" => blocks::transaction_count(shared, blocks::by_number(args)?),
        "eth_getBlockTransactionCountByHash" => blocks::transaction_count(shared, blocks::by_hash(args)?),
        "eth_getBlockReceipts" => blocks::receipts(shared, args),
        "eth_getTransactionByHash" => blocks::transaction(shared, args),
        "eth_getTransactionByBlockNumberAndIndex" => {
            blocks::transaction_at(shared, blocks::by_number(args)?, args)
        }
        "eth_getTransactionByBlockHashAndIndex" => {
            blocks::transaction_at(shared, blocks::by_hash(args)?, args)
        }
        "eth_getTransactionReceipt" => blocks::receipt(shared, args),
        "debug_getRawHeader" => blocks::raw_header(shared, args),
        "eth_getLogs" => filter::logs(shared, args),
        "eth_getTransactionCount" => state::nonce(shared, args),
        "eth_getBalance" => state::balance(shared, args),
        "eth_getCode" => state::code(shared, args),
        "eth_getStorageAt" => state::slot(shared, args),
        "eth_getProof" => state::proof(shared, args),
        "eth_call" => call::call(shared, args),
        "eth_estimateGas" => call::estimate_gas(shared, args),
        "eth_gasPrice" => fees::gas_price(shared),
        "eth_maxPriorityFeePerGas" => fees::priority_fee(),
        "eth_blobBaseFee" => fees::blob_base_fee(),
        "eth_feeHistory" => fees::history(shared, args),
        "eth_sendRawTransaction" => send::raw(shared, args),
        "evm_mine" => dev::mine(shared, args),
        "dev_finalize" => dev::finalize(shared, args),
        "dev_reorg" => dev::reorg(shared, args),
        _ => return Err(RpcError::method_not_found(method)),
    };
    let answer = answer?;
    arguments.end()?;
    Ok(answer)
}

/// Bytes as clients get them.
fn hex(bytes: impl Into<Bytes>) -> Value {
    Value::String(bytes.into().to_string())
}

/// A number as clients get it: hexadecimal without leading zeros.
fn quantity(number: impl Into<u128>) -> Value {
    Value::String(format!("{:#x}", number.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for own in ["127.0.0.1", "127.0.0.1:8545", "localhost", "LocalHost:1", "[::1]", "[::1]:8545"] {
            assert!(is_loopback(own), "{own}");
        }
        for foreign in [
            "",
            "example.org",
            "127.0.0.1.example.org:80",
            "localhost.example.org",
            "[::2]:1",
            "::1",
            "0.0.0.0",
        ] {
            assert!(!is_loopback(foreign), "{foreign}");
        }
    }
}
