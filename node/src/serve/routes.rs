//! `/windlass/route/1`: devices publish where they are, anyone asks where a device is. Several requests on one
//! stream, each answered before the next is read.
//!
//! What a device publishes here is put with other nodes too, and what isn't here is looked for there, for devices alone:
//! another node gets what is kept here, and nothing it says is passed on.

use super::route_book::Kept;
use super::streams::serve_each;
use super::{AnswerError, RouteBook, RouteJudge};
use crate::clock::unix_seconds;
use crate::dht::{Dht, Found};
use crate::limits::{
    CONCURRENT_REQUESTS, REQUEST_DEADLINE, REQUEST_STREAMS, REQUEST_STREAMS_PER_PEER,
    ROUTE_REQUESTS_PER_STREAM, ROUTE_SWEEP,
};
use crate::rate::Rates;
use crate::seats::Seats;
use futures::AsyncWriteExt;
use libp2p::PeerId;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use windlass_p2p::frame::{read_frame, write_frame};
use windlass_p2p::{Incoming, PeerStream};
use windlass_protocol::message::route::{MAX_ROUTE_MESSAGE_BYTES, RouteRefusal, RouteRequest, RouteResponse};
use windlass_protocol::route::SignedRoute;
use windlass_protocol::{DeviceId, wire};

/// What a request is judged and answered with.
#[derive(Clone)]
struct Desk {
    judge: RouteJudge,
    book: Arc<RouteBook>,
    dht: Dht,
    rates: Arc<Rates>,
    work: Arc<Semaphore>,
}

/// What this node alone has to say.
enum Local {
    Answer(RouteResponse),
    /// A new route of a device's own.
    News(SignedRoute),
    /// Nothing, of a device that may well be somewhere.
    Elsewhere(DeviceId),
}

/// Serves until cancelled.
pub async fn run(
    judge: RouteJudge,
    book: Arc<RouteBook>,
    dht: Dht,
    rates: Arc<Rates>,
    incoming: Incoming,
    cancelled: CancellationToken,
) {
    let work = Arc::new(Semaphore::new(CONCURRENT_REQUESTS));
    let desk = Desk { judge, book, dht, rates, work };
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
    let (peer, ip) = (stream.peer(), stream.ip());
    // Charged for the stream, not for its first request: who opens and says nothing pays as well.
    let mut admitted = desk.admit(peer);
    for turn in 0..ROUTE_REQUESTS_PER_STREAM {
        let request = tokio::time::timeout(REQUEST_DEADLINE, read_frame(&mut stream)).await;
        let Ok(Ok(request)) = request else { return };
        if turn > 0 {
            admitted = desk.admit(peer);
        }
        let response = match admitted {
            true => desk.respond(peer, ip, request).await,
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

impl Desk {
    /// Nodes have a rate of their own: each brings the routes of many devices.
    fn admit(&self, peer: PeerId) -> bool {
        match self.dht.is_node(&peer) {
            true => self.dht.admit_node(peer),
            false => self.rates.admit(peer, Instant::now()),
        }
    }

    async fn respond(&self, peer: PeerId, ip: Option<IpAddr>, request: Vec<u8>) -> RouteResponse {
        let Ok(request) = wire::decode::<RouteRequest>(&request, MAX_ROUTE_MESSAGE_BYTES) else {
            return RouteResponse::Refused(RouteRefusal::Invalid);
        };
        match self.here(request).await {
            Local::Answer(response) => response,
            Local::News(route) => {
                if !self.dht.is_node(&peer) {
                    self.dht.place(route);
                }
                RouteResponse::Kept
            }
            Local::Elsewhere(_) if self.dht.is_node(&peer) => RouteResponse::NotFound,
            Local::Elsewhere(device) => match self.dht.find(device, peer, ip).await {
                Found::Route(route) => RouteResponse::Found(route),
                Found::Nothing => RouteResponse::NotFound,
                Found::Busy => RouteResponse::Refused(RouteRefusal::Busy),
            },
        }
    }

    /// What there is to say without asking anybody; holds a thread for as long.
    async fn here(&self, request: RouteRequest) -> Local {
        const BUSY: Local = Local::Answer(RouteResponse::Refused(RouteRefusal::Busy));
        let Ok(_turn) = self.work.clone().acquire_owned().await else { return BUSY };
        let desk = self.clone();
        let answered = tokio::task::spawn_blocking(move || desk.answer(request, unix_seconds()));
        answered.await.unwrap_or(BUSY)
    }

    fn answer(&self, request: RouteRequest, now: u64) -> Local {
        let answer = match request {
            RouteRequest::Publish(route) => self.keep(route, now),
            RouteRequest::Fetch(device) => self.held(device, now),
        };
        answer.unwrap_or_else(|error| {
            tracing::debug!(%error, "a route can't be judged now");
            Local::Answer(RouteResponse::Refused(RouteRefusal::Busy))
        })
    }

    fn held(&self, device: DeviceId, now: u64) -> Result<Local, AnswerError> {
        Ok(match self.book.newest(device, now)? {
            Some(route) => Local::Answer(RouteResponse::Found(route)),
            // Nobody is asked about what the registry doesn't know, or no longer.
            None if self.judge.is_active(device, now) => Local::Elsewhere(device),
            None => Local::Answer(RouteResponse::NotFound),
        })
    }

    fn keep(&self, signed: SignedRoute, now: u64) -> Result<Local, AnswerError> {
        let verified = match self.judge.verify(&signed, now)? {
            Ok(verified) => verified,
            Err(refusal) => return Ok(Local::Answer(RouteResponse::Refused(refusal))),
        };
        Ok(match self.book.keep(&verified, &signed, now)? {
            Kept::Newest => Local::News(signed),
            Kept::Older => Local::Answer(RouteResponse::Kept),
            Kept::Full => Local::Answer(RouteResponse::Refused(RouteRefusal::Busy)),
        })
    }
}
