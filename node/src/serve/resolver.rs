//! `/windlass/resolve/1`: one request, one response, then the stream ends.
//!
//! Each stream is served by a task of its own, so that a slow peer delays nobody; how many there are at a
//! time is bounded, and so is the time each may take.

use super::Answers;
use crate::clock::unix_seconds;
use crate::limits::{CONCURRENT_REQUESTS, REQUEST_DEADLINE};
use crate::rate::Rates;
use futures::AsyncWriteExt;
use std::sync::Arc;
use std::time::Instant;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use windlass_p2p::frame::{FrameError, read_frame, write_frame};
use windlass_p2p::{Incoming, PeerStream};
use windlass_protocol::message::resolve::{MAX_REQUEST_BYTES, Reason, Request, Response};
use windlass_protocol::wire;

/// Serves until cancelled.
pub async fn run(answers: Answers, rates: Arc<Rates>, mut incoming: Incoming, cancelled: CancellationToken) {
    let mut requests = JoinSet::new();
    loop {
        tokio::select! {
            () = cancelled.cancelled() => break,
            Some(stream) = incoming.next(), if requests.len() < CONCURRENT_REQUESTS => {
                requests.spawn(serve(answers.clone(), rates.clone(), stream));
            }
            Some(_) = requests.join_next() => {}
        }
    }
    requests.shutdown().await;
}

async fn serve(answers: Answers, rates: Arc<Rates>, mut stream: PeerStream) {
    let peer = stream.peer();
    let served = tokio::time::timeout(REQUEST_DEADLINE * 2, async {
        let request = tokio::time::timeout(REQUEST_DEADLINE, read_frame(&mut stream)).await;
        let Ok(Ok(request)) = request else { return Ok(()) };
        let response = match rates.admit(peer, Instant::now()) {
            true => respond(answers, request).await,
            false => refused(Reason::RateLimited),
        };
        write_frame(&mut stream, &wire::encode(&response)).await?;
        stream.close().await?;
        Ok::<(), FrameError>(())
    });
    if let Ok(Err(error)) = served.await {
        tracing::debug!(%peer, %error, "a peer didn't take its answer");
    }
}

async fn respond(answers: Answers, request: Vec<u8>) -> Response {
    let Ok(request) = wire::decode::<Request>(&request, MAX_REQUEST_BYTES) else {
        return refused(Reason::Malformed);
    };
    let answered = tokio::task::spawn_blocking(move || {
        answers.respond(&request.questions, unix_seconds()).unwrap_or_else(|error| {
            tracing::debug!(%error, "no answer");
            error.refusal()
        })
    });
    answered.await.unwrap_or_else(|_| refused(Reason::NotReady))
}

fn refused(reason: Reason) -> Response {
    Response::Refused { reason, text: reason.to_string() }
}
