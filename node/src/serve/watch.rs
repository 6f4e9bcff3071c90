//! `/windlass/watch/1`: a stream per client. It says which slots it watches; every new head goes out, with
//! proofs of the watched slots that changed.

use super::news::News;
use super::streams::serve_each;
use super::watcher::{Owed, Watcher};
use super::{AnswerError, Answers};
use crate::clock::unix_seconds;
use crate::follower::MirrorState;
use crate::head::ServedHead;
use crate::limits::{MAX_WATCHERS, PUSH_DEADLINE, REQUEST_DEADLINE, WATCH_INBOX, WATCHES_PER_PEER};
use crate::rate::Rates;
use crate::seats::Seats;
use crate::store::ViewError;
use futures::io::{AsyncReadExt, ReadHalf, WriteHalf};
use libp2p::PeerId;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use windlass_p2p::frame::{read_frame, write_frame};
use windlass_p2p::{Incoming, PeerStream, identity};
use windlass_protocol::bundle::MAX_BUNDLE_SLOTS;
use windlass_protocol::message::MAX_FRAME;
use windlass_protocol::message::watch::{FromNode, MAX_DEVICE_SLOTS, MAX_STRANGER_SLOTS, TailNotice, Watch};
use windlass_protocol::wire;

/// Serves until cancelled.
pub async fn run(
    answers: Answers,
    mirror: watch::Receiver<MirrorState>,
    rates: Arc<Rates>,
    incoming: Incoming,
    cancelled: CancellationToken,
) {
    let seats = Seats::new(MAX_WATCHERS, WATCHES_PER_PEER);
    let desk = Arc::new(Desk { answers, news: News::default(), rates });
    let serve = |stream| serve(desk.clone(), mirror.clone(), stream);
    serve_each(seats, incoming, cancelled, serve).await;
}

/// What all watching streams share.
struct Desk {
    answers: Answers,
    news: News,
    rates: Arc<Rates>,
}

async fn serve(desk: Arc<Desk>, mirror: watch::Receiver<MirrorState>, stream: PeerStream) {
    let peer = stream.peer();
    let (reader, writer) = stream.split();
    let (messages, inbox) = mpsc::channel(WATCH_INBOX);
    // Reading a frame can't be cut short, so each direction runs for itself until one of them ends.
    tokio::select! {
        () = read(peer, reader, &desk.rates, messages) => {}
        () = push(peer, &desk, mirror, writer, inbox) => {}
    }
}

async fn read(
    peer: PeerId,
    mut reader: ReadHalf<PeerStream>,
    rates: &Rates,
    messages: mpsc::Sender<Box<Watch>>,
) {
    let mut said = false;
    loop {
        let next = read_frame(&mut reader);
        let next = match said {
            true => next.await,
            // Who doesn't say in time what it watches keeps a place for nothing.
            false => match tokio::time::timeout(REQUEST_DEADLINE, next).await {
                Ok(first) => first,
                Err(_) => return,
            },
        };
        let Ok(frame) = next else { return };
        said = true;
        let Ok(watch) = wire::decode::<Watch>(&frame, MAX_FRAME) else {
            tracing::debug!(%peer, "a client sent no watch message: closing its stream");
            return;
        };
        // What is added is proven at once: it costs what asking for as many bundles would.
        let bundles = watch.add.len().div_ceil(MAX_BUNDLE_SLOTS);
        for _ in 0..bundles.max(1) {
            rates.wait(peer).await;
        }
        if messages.send(Box::new(watch)).await.is_err() {
            return;
        }
    }
}

async fn push(
    peer: PeerId,
    desk: &Desk,
    mut mirror: watch::Receiver<MirrorState>,
    mut writer: WriteHalf<PeerStream>,
    mut inbox: mpsc::Receiver<Box<Watch>>,
) {
    let mut served = desk.answers.subscribe();
    let mut watcher = Watcher::default();
    served.mark_changed();
    loop {
        tokio::select! {
            message = inbox.recv() => {
                let Some(message) = message else { return };
                let Some(most) = Box::pin(allowance(&desk.answers, peer)).await else { return };
                if let Err(error) = watcher.change(*message, most) {
                    tracing::info!(%peer, %error, most, "closing a watching stream");
                    return;
                }
            }
            changed = served.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            changed = mirror.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
        // First what denies.
        let tail = mirror.borrow_and_update().tail.clone();
        let notices = watcher.notices(&tail);
        // Without a head nothing can be proven; the slots wait.
        let head = served.borrow_and_update().clone();
        let owed = head.as_ref().map_or(Owed::Nothing, |head| watcher.owed(head));
        // In boxes, so that a stream on which nothing happens takes little memory.
        if !notices.is_empty() && Box::pin(notify(&mut writer, notices)).await.is_none() {
            return;
        }
        let told = match head.as_ref().map(|head| (owed, head)) {
            Some((Owed::Head, head)) => Box::pin(tell(&mut writer, &desk.news.of(head))).await,
            Some((Owed::Proofs, head)) => {
                let proofs = prove(&desk.answers, head.clone(), &mut watcher, &mut writer);
                Box::pin(proofs).await
            }
            Some((Owed::Nothing, _)) | None => Some(()),
        };
        if told.is_none() {
            return;
        }
    }
}

/// Sends one message; `None` if the client doesn't take it in time.
async fn tell(writer: &mut WriteHalf<PeerStream>, message: &[u8]) -> Option<()> {
    tokio::time::timeout(PUSH_DEADLINE, write_frame(writer, message)).await.ok()?.ok()
}

async fn notify(writer: &mut WriteHalf<PeerStream>, notices: Vec<TailNotice>) -> Option<()> {
    for notice in notices {
        tell(writer, &wire::encode(&FromNode::Notice(notice))).await?;
    }
    Some(())
}

/// How many slots the peer may watch: more if its key is an active device's. `None` for one without a key address, and
/// while the node stops.
async fn allowance(answers: &Answers, peer: PeerId) -> Option<usize> {
    let key = identity::key_address_of(&peer).ok()?;
    let answers = answers.clone();
    let judged = tokio::task::spawn_blocking(move || match answers.device_of_key(key) {
        Ok(Some((_, record))) if answers.is_active(&record, unix_seconds()) => MAX_DEVICE_SLOTS,
        _ => MAX_STRANGER_SLOTS,
    });
    judged.await.ok()
}

/// Proves what the client is owed and sends it; `None` when its stream can't go on.
async fn prove(
    answers: &Answers,
    head: Arc<ServedHead>,
    watcher: &mut Watcher,
    writer: &mut WriteHalf<PeerStream>,
) -> Option<()> {
    let (answers, mut taken) = (answers.clone(), std::mem::take(watcher));
    let proving = tokio::task::spawn_blocking(move || {
        let proofs = taken.proofs(&answers, &head);
        (taken, proofs)
    });
    let (returned, proofs) = proving.await.ok()?;
    *watcher = returned;
    let pushes = match proofs {
        Ok(pushes) => pushes,
        // The window moved on: the newer head is on its way here.
        Err(AnswerError::View(ViewError::Gone(_))) => Vec::new(),
        Err(error) => {
            tracing::warn!(%error, "can't prove what a client watches: closing its stream");
            return None;
        }
    };
    for push in pushes {
        tell(writer, &wire::encode(&FromNode::Push(push))).await?;
    }
    Some(())
}
