//! `/windlass/resolve/1`: one request, one response, then the stream ends.
//!
//! Each stream is served by a task of its own, so that a slow peer delays nobody. A stream that waits for its
//! request costs a seat, of which each peer has a few; threads are taken only once there is something to prove.

use super::Answers;
use super::streams::serve_each;
use crate::clock::unix_seconds;
use crate::head::Challenges;
use crate::limits::{ALL_CHALLENGES_BURST, ALL_CHALLENGES_PER_SECOND, CHALLENGES_PER_SECOND};
use crate::limits::{CONCURRENT_REQUESTS, REQUEST_DEADLINE, REQUEST_STREAMS, REQUEST_STREAMS_PER_PEER};
use crate::rate::Rates;
use crate::seats::Seats;
use futures::AsyncWriteExt;
use libp2p::PeerId;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use windlass_p2p::frame::{FrameError, read_frame, write_frame};
use windlass_p2p::{Incoming, PeerStream, identity};
use windlass_protocol::message::resolve::{MAX_REQUEST_BYTES, Reason, Request, Response};
use windlass_protocol::{B256, SecretKey, wire};

/// What a request is judged and answered with.
#[derive(Clone)]
struct Desk {
    answers: Answers,
    challenges: Challenges,
    rates: Arc<Rates>,
    /// Of nonces: each peer's, and all of them together.
    nonces: Arc<(Rates, Rates)>,
    work: Arc<Semaphore>,
}

/// Serves until cancelled.
pub async fn run(
    answers: Answers,
    challenges: Challenges,
    rates: Arc<Rates>,
    incoming: Incoming,
    cancelled: CancellationToken,
) {
    let work = Arc::new(Semaphore::new(CONCURRENT_REQUESTS));
    let nonces =
        (Rates::new(CHALLENGES_PER_SECOND, 1.0), Rates::new(ALL_CHALLENGES_PER_SECOND, ALL_CHALLENGES_BURST));
    let desk = Desk { answers, challenges, rates, nonces: Arc::new(nonces), work };
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
            true => desk.respond(peer, request).await,
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
    /// Has members sign a nonce now, as often as this peer may ask for it.
    async fn challenge(&self, peer: PeerId, request: &Request, nonce: B256) -> Response {
        if !request.questions.is_empty() || nonce.is_zero() {
            return refused(Reason::Malformed);
        }
        let (each, all) = &*self.nonces;
        let now = Instant::now();
        // Nobody in particular, so that all share one bucket.
        if !each.admit(peer, now) || !all.admit(everybody(), now) {
            return refused(Reason::RateLimited);
        }
        match self.challenges.ask(nonce).await {
            Some(bundle) => Response::Proven { bundle, routes: Vec::new() },
            None => refused(Reason::NotReady),
        }
    }

    async fn respond(&self, peer: PeerId, request: Vec<u8>) -> Response {
        let Ok(request) = wire::decode::<Request>(&request, MAX_REQUEST_BYTES) else {
            return refused(Reason::Malformed);
        };
        if let Some(nonce) = request.nonce {
            return self.challenge(peer, &request, nonce).await;
        }
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

/// The peer id of nobody: the bucket that all strangers share.
fn everybody() -> PeerId {
    identity::peer_id_of(&SecretKey::from_bytes(&[1; 32]).expect("one is below the order").public_key())
}

fn refused(reason: Reason) -> Response {
    Response::Refused { reason, text: reason.to_string() }
}
