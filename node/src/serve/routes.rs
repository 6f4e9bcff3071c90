//! `/windlass/route/1`: devices publish where they are, anyone asks where a device is. Several requests on one
//! stream, each answered before the next is read.

use super::route_book::Kept;
use super::streams::serve_each;
use super::{AnswerError, Answers, RouteBook};
use crate::clock::unix_seconds;
use crate::limits::{
    CONCURRENT_REQUESTS, REQUEST_DEADLINE, REQUEST_STREAMS, REQUEST_STREAMS_PER_PEER,
    ROUTE_REQUESTS_PER_STREAM, ROUTE_SWEEP,
};
use crate::rate::Rates;
use crate::seats::Seats;
use futures::AsyncWriteExt;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Semaphore;
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
    work: Arc<Semaphore>,
}

/// Serves until cancelled.
pub async fn run(
    spec: Arc<VerifiedSpec>,
    answers: Answers,
    book: Arc<RouteBook>,
    rates: Arc<Rates>,
    incoming: Incoming,
    cancelled: CancellationToken,
) {
    let work = Arc::new(Semaphore::new(CONCURRENT_REQUESTS));
    let desk = Desk { spec, answers, book, rates, work };
    let seats = Seats::new(REQUEST_STREAMS, REQUEST_STREAMS_PER_PEER);
    let sweeping = desk.book.clone();
    tokio::select! {
        () = serve_each(seats, incoming, cancelled, |stream| serve(desk.clone(), stream)) => {}
        never = sweep(sweeping) => match never {},
    }
}

/// Deletes ended routes now and then.
async fn sweep(book: Arc<RouteBook>) -> Infallible {
    let mut due = tokio::time::interval(ROUTE_SWEEP);
    loop {
        due.tick().await;
        let book = book.clone();
        let swept = tokio::task::spawn_blocking(move || book.sweep(unix_seconds()));
        match swept.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "can't delete ended routes"),
            Err(error) => tracing::warn!(%error, "deleting ended routes was interrupted"),
        }
    }
}

async fn serve(desk: Desk, mut stream: PeerStream) {
    let peer = stream.peer();
    // Charged for the stream, not for its first request: who opens and says nothing pays as well.
    let mut admitted = desk.rates.admit(peer, Instant::now());
    for turn in 0..ROUTE_REQUESTS_PER_STREAM {
        let request = tokio::time::timeout(REQUEST_DEADLINE, read_frame(&mut stream)).await;
        let Ok(Ok(request)) = request else { return };
        if turn > 0 {
            admitted = desk.rates.admit(peer, Instant::now());
        }
        let response = match admitted {
            true => respond(desk.clone(), request).await,
            false => RouteResponse::Refused(RouteRefusal::Busy),
        };
        let frame = wire::encode(&response);
        let write = write_frame(&mut stream, &frame);
        match tokio::time::timeout(REQUEST_DEADLINE, write).await {
            Ok(Ok(())) if admitted => {}
            _ => break,
        }
    }
    // So that the last answer arrives before the stream ends; a peer that is gone needs none.
    let _ = tokio::time::timeout(REQUEST_DEADLINE, stream.close()).await;
}

async fn respond(desk: Desk, request: Vec<u8>) -> RouteResponse {
    let Ok(request) = wire::decode::<RouteRequest>(&request, MAX_ROUTE_MESSAGE_BYTES) else {
        return RouteResponse::Refused(RouteRefusal::Invalid);
    };
    let Ok(_turn) = desk.work.clone().acquire_owned().await else {
        return RouteResponse::Refused(RouteRefusal::Busy);
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
