//! `/windlass/route/1`: devices publish where they are, anyone asks where a device is. Any number of requests
//! on one stream, each answered before the next is read.

use super::route_book::Kept;
use super::{AnswerError, Answers, RouteBook};
use crate::clock::unix_seconds;
use crate::limits::{CONCURRENT_REQUESTS, REQUEST_DEADLINE, ROUTE_SWEEP};
use crate::rate::Rates;
use std::sync::Arc;
use std::time::Instant;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use windlass_p2p::frame::{read_frame, write_frame};
use windlass_p2p::{Incoming, PeerStream};
use windlass_protocol::message::route::{MAX_ROUTE_MESSAGE_BYTES, RouteRefusal, RouteRequest, RouteResponse};
use windlass_protocol::route::{SignedRoute, verify_route};
use windlass_protocol::spec::VerifiedSpec;
use windlass_protocol::wire;

/// What a request is judged and answered with.
#[derive(Clone)]
struct Desk {
    spec: Arc<VerifiedSpec>,
    answers: Answers,
    book: Arc<RouteBook>,
    rates: Arc<Rates>,
}

/// Serves until cancelled.
pub async fn run(
    spec: Arc<VerifiedSpec>,
    answers: Answers,
    book: Arc<RouteBook>,
    rates: Arc<Rates>,
    mut incoming: Incoming,
    cancelled: CancellationToken,
) {
    let desk = Desk { spec, answers, book, rates };
    let mut streams = JoinSet::new();
    let mut sweep = tokio::time::interval(ROUTE_SWEEP);
    loop {
        tokio::select! {
            () = cancelled.cancelled() => break,
            Some(stream) = incoming.next(), if streams.len() < CONCURRENT_REQUESTS => {
                streams.spawn(serve(desk.clone(), stream));
            }
            Some(_) = streams.join_next() => {}
            _ = sweep.tick() => {
                if let Err(error) = desk.book.sweep(unix_seconds()) {
                    tracing::warn!(%error, "can't delete ended routes");
                }
            }
        }
    }
    streams.shutdown().await;
}

async fn serve(desk: Desk, mut stream: PeerStream) {
    let peer = stream.peer();
    loop {
        let request = tokio::time::timeout(REQUEST_DEADLINE, read_frame(&mut stream)).await;
        let Ok(Ok(request)) = request else { return };
        let response = match desk.rates.admit(peer, Instant::now()) {
            true => respond(desk.clone(), request).await,
            false => RouteResponse::Refused(RouteRefusal::Busy),
        };
        let frame = wire::encode(&response);
        let write = write_frame(&mut stream, &frame);
        match tokio::time::timeout(REQUEST_DEADLINE, write).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
}

async fn respond(desk: Desk, request: Vec<u8>) -> RouteResponse {
    let Ok(request) = wire::decode::<RouteRequest>(&request, MAX_ROUTE_MESSAGE_BYTES) else {
        return RouteResponse::Refused(RouteRefusal::Invalid);
    };
    let answered = tokio::task::spawn_blocking(move || desk.answer(request, unix_seconds()));
    answered.await.unwrap_or(RouteResponse::Refused(RouteRefusal::Busy))
}

impl Desk {
    fn answer(&self, request: RouteRequest, now: u64) -> RouteResponse {
        let answer = match request {
            RouteRequest::Publish(route) => self.keep(&route, now),
            RouteRequest::Fetch(device) => self
                .book
                .newest(device, now)
                .map_err(AnswerError::from)
                .map(|found| found.map_or(RouteResponse::NotFound, RouteResponse::Found)),
        };
        answer.unwrap_or_else(|error| {
            tracing::debug!(%error, "a route can't be judged now");
            RouteResponse::Refused(RouteRefusal::Busy)
        })
    }

    fn keep(&self, signed: &SignedRoute, now: u64) -> Result<RouteResponse, AnswerError> {
        let Ok(claimed) = signed.claimed() else { return Ok(RouteResponse::Refused(RouteRefusal::Invalid)) };
        let record = self.answers.device(claimed.device)?;
        let Some(record) = record.filter(|record| self.answers.is_active(record, now)) else {
            return Ok(RouteResponse::Refused(RouteRefusal::NotActive));
        };
        let verified = match verify_route(&self.spec, signed, claimed.device, &record, now) {
            Ok(verified) => verified,
            Err(windlass_protocol::route::RouteError::NotItsKey { .. }) => {
                return Ok(RouteResponse::Refused(RouteRefusal::NotActive));
            }
            Err(_) => return Ok(RouteResponse::Refused(RouteRefusal::Invalid)),
        };
        Ok(match self.book.keep(&verified, signed, now)? {
            Kept::Newest | Kept::Older => RouteResponse::Kept,
            Kept::Full => RouteResponse::Refused(RouteRefusal::Busy),
        })
    }
}
