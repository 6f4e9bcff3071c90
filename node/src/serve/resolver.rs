//! `/windlass/resolve/1`: one request, one response, then the stream ends.
//!
//! Each stream is served by a task of its own, so that a slow peer delays nobody. A stream that waits for its
//! request costs a seat, of which each peer has a few; threads are taken only once there is something to prove.

use super::Answers;
use super::streams::serve_each;
use crate::clock::unix_seconds;
use crate::limits::{CONCURRENT_REQUESTS, REQUEST_DEADLINE, REQUEST_STREAMS, REQUEST_STREAMS_PER_PEER};
use crate::rate::Rates;
use crate::seats::Seats;
use futures::AsyncWriteExt;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use windlass_p2p::frame::{FrameError, read_frame, write_frame};
use windlass_p2p::{Incoming, PeerStream};
use windlass_protocol::message::resolve::{MAX_REQUEST_BYTES, Reason, Request, Response};
use windlass_protocol::wire;

/// What a request is judged and answered with.
#[derive(Clone)]
struct Desk {
    answers: Answers,
    rates: Arc<Rates>,
    work: Arc<Semaphore>,
}

/// Serves until cancelled.
pub async fn run(answers: Answers, rates: Arc<Rates>, incoming: Incoming, cancelled: CancellationToken) {
    let desk = Desk { answers, rates, work: Arc::new(Semaphore::new(CONCURRENT_REQUESTS)) };
    let seats = Seats::new(REQUEST_STREAMS, REQUEST_STREAMS_PER_PEER);
    serve_each(seats, incoming, cancelled, |stream| serve(desk.clone(), stream)).await;
}

async fn serve(desk: Desk, mut stream: PeerStream) {
    let peer = stream.peer();
    // Charged for the stream, not for the request: who opens and says nothing pays as well.
    let admitted = desk.rates.admit(peer, Instant::now());
    let served = tokio::time::timeout(REQUEST_DEADLINE * 2, async {
        let request = tokio::time::timeout(REQUEST_DEADLINE, read_frame(&mut stream)).await;
        let Ok(Ok(request)) = request else { return Ok(()) };
        let response = match admitted {
            true => desk.respond(request).await,
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

impl Desk {
    async fn respond(&self, request: Vec<u8>) -> Response {
        let Ok(request) = wire::decode::<Request>(&request, MAX_REQUEST_BYTES) else {
            return refused(Reason::Malformed);
        };
        let Ok(_turn) = self.work.acquire().await else { return refused(Reason::NotReady) };
        let answers = self.answers.clone();
        let answered = tokio::task::spawn_blocking(move || {
            answers.respond(&request.questions, unix_seconds()).unwrap_or_else(|error| {
                tracing::debug!(%error, "no answer");
                error.refusal()
            })
        });
        answered.await.unwrap_or_else(|_| refused(Reason::NotReady))
    }
}

fn refused(reason: Reason) -> Response {
    Response::Refused { reason, text: reason.to_string() }
}
