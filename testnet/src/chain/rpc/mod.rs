//! JSON-RPC over HTTP and WebSocket, on loopback only.
//!
//! Owns the door: who may knock (the Host and Origin rules), how large a request may be, and which function
//! serves a method. What the methods do lives in the modules named after what they are about.

mod argument;
mod blocks;
mod call;
mod caller;
mod cheat;
mod dev;
mod envelope;
mod error;
mod faults;
mod fees;
mod filters;
mod info;
mod logs;
mod methods;
mod reference;
mod send;
mod sign;
mod socket;
mod state;
mod subscriptions;
mod trace;
mod view;

use super::limits::{MAX_CONNECTIONS, MAX_REQUEST_BYTES};
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, Request, State, WebSocketUpgrade};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_TYPE,
    HOST, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::serve::ListenerExt;
use caller::Caller;
pub(super) use caller::Service;
pub use methods::methods;
use serde_json::Value;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::error;
use windlass_protocol::Bytes;

/// What connections are served with: what all share, and when to stop.
type Doors = (Arc<Service>, watch::Receiver<bool>);

/// Serves JSON-RPC on `listener` until told to stop.
pub(super) async fn serve(listener: TcpListener, service: Arc<Service>, mut stopped: watch::Receiver<bool>) {
    let listener = listener.tap_io(|connection| {
        // A request is one small write; without this each waits for the former's acknowledgement.
        let _ = connection.set_nodelay(true);
    });
    let router = Router::new()
        .route("/", post(post_request).get(upgrade))
        .route("/faults/{name}", post(post_request).get(upgrade))
        .with_state((service.clone(), stopped.clone()))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .layer(middleware::from_fn(guard));
    let stop = async move {
        // An error means that the chain was dropped: also a reason to stop.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop).await {
        error!(%error, "the chain's server ended");
    }
    // Each WebSocket holds one and is told to stop, too.
    let _ = service.connections.acquire_many(MAX_CONNECTIONS as u32).await;
}

/// The last part of a path with faults; `None` for the root.
type FaultPath = Option<Path<String>>;

/// A request over HTTP.
async fn post_request(
    State((service, _)): State<Doors>,
    path: FaultPath,
    body: axum::body::Bytes,
) -> Response {
    let Ok(name) = fault_name(path) else { return StatusCode::NOT_FOUND.into_response() };
    match answer(&Arc::new(Caller::http(service, name)), body).await {
        Ok(Some(answer)) => ([(CONTENT_TYPE, "application/json")], answer).into_response(),
        Ok(None) => StatusCode::NO_CONTENT.into_response(),
        // An answer that breaks off: HTTP knows no other way to hang up.
        Err(Dead) => {
            let end = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
            let end = futures::stream::once(async { Err::<axum::body::Bytes, _>(end) });
            Body::from_stream(end).into_response()
        }
    }
}

/// A request to go on over WebSocket.
async fn upgrade(
    State((service, stopped)): State<Doors>,
    path: FaultPath,
    upgrade: WebSocketUpgrade,
) -> Response {
    let Ok(name) = fault_name(path) else { return StatusCode::NOT_FOUND.into_response() };
    let Ok(permit) = service.connections.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many connections: close one\n").into_response();
    };
    let upgrade = upgrade.max_message_size(MAX_REQUEST_BYTES).max_frame_size(MAX_REQUEST_BYTES);
    upgrade.on_upgrade(async move |socket| {
        socket::run(socket, Caller::socket(service, name), stopped).await;
        drop(permit);
    })
}

fn fault_name(path: FaultPath) -> Result<Option<String>, ()> {
    match path {
        Some(Path(name)) if faults::is_name(&name) => Ok(Some(name)),
        Some(_) => Err(()),
        None => Ok(None),
    }
}

/// Answers one body in this thread.
pub(super) fn answer_here(service: &Arc<Service>, body: &[u8]) -> Option<String> {
    let caller = Caller::http(service.clone(), None);
    envelope::answer(body, |method, arguments| methods::dispatch(&caller, method, arguments))
}

/// The provider died, by design.
struct Dead;

/// Answers one body or message, off the async threads. `None` when nobody asked for an answer.
async fn answer(caller: &Arc<Caller>, body: axum::body::Bytes) -> Result<Option<String>, Dead> {
    let (caller, faults) = (caller.clone(), caller.faults());
    if faults.is_dead() {
        return Err(Dead);
    }
    if !faults.answer_delay().is_zero() {
        tokio::time::sleep(faults.answer_delay()).await;
    }
    let answered = tokio::task::spawn_blocking(move || {
        envelope::answer(&body, |method, arguments| methods::dispatch(&caller, method, arguments))
    });
    Ok(answered.await.unwrap_or_else(|_| Some(envelope::defect())))
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
