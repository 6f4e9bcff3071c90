//! `/windlass/watch/1`: a stream per client. It says which slots it watches; every new head goes out, with
//! proofs of the watched slots that changed.

use super::streams::serve_each;
use super::watcher::Watcher;
use super::{AnswerError, Answers, Served};
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
use windlass_protocol::message::watch::{FromNode, MAX_DEVICE_SLOTS, MAX_STRANGER_SLOTS, Push, Watch};
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
    let serve = |stream| serve(answers.clone(), mirror.clone(), rates.clone(), stream);
    serve_each(seats, incoming, cancelled, serve).await;
}

async fn serve(
    answers: Answers,
    mirror: watch::Receiver<MirrorState>,
    rates: Arc<Rates>,
    stream: PeerStream,
) {
    let peer = stream.peer();
    let (reader, writer) = stream.split();
    let (messages, inbox) = mpsc::channel(WATCH_INBOX);
    // Reading a frame can't be cut short, so each direction runs for itself until one of them ends.
    tokio::select! {
        () = read(peer, reader, rates, messages) => {}
        () = push(peer, answers, mirror, writer, inbox) => {}
    }
}

async fn read(
    peer: PeerId,
    mut reader: ReadHalf<PeerStream>,
    rates: Arc<Rates>,
    messages: mpsc::Sender<Watch>,
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
        if messages.send(watch).await.is_err() {
            return;
        }
    }
}

async fn push(
    peer: PeerId,
    answers: Answers,
    mut mirror: watch::Receiver<MirrorState>,
    mut writer: WriteHalf<PeerStream>,
    mut inbox: mpsc::Receiver<Watch>,
) {
    let mut served = answers.subscribe();
    let mut watcher = Watcher::default();
    served.mark_changed();
    loop {
        tokio::select! {
            message = inbox.recv() => {
                let Some(message) = message else { return };
                let Some(most) = allowance(&answers, peer).await else { return };
                if let Err(error) = watcher.change(message, most) {
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
        let mut messages: Vec<FromNode> = watcher.notices(&tail).into_iter().map(FromNode::Notice).collect();
        let Some((returned, pushes)) = owed(&answers, &mut served, watcher).await else { return };
        watcher = returned;
        messages.extend(pushes.into_iter().map(FromNode::Push));
        for message in messages {
            let frame = wire::encode(&message);
            match tokio::time::timeout(PUSH_DEADLINE, write_frame(&mut writer, &frame)).await {
                Ok(Ok(())) => {}
                _ => return,
            }
        }
    }
}

/// How many slots the peer may watch: more if its key is an active device's. `None` for one without a key address, and while the node
/// stops.
async fn allowance(answers: &Answers, peer: PeerId) -> Option<usize> {
    let key = identity::key_address_of(&peer).ok()?;
    let answers = answers.clone();
    let judged = tokio::task::spawn_blocking(move || match answers.device_of_key(key) {
        Ok(Some((_, record))) if answers.is_active(&record, unix_seconds()) => MAX_DEVICE_SLOTS,
        _ => MAX_STRANGER_SLOTS,
    });
    judged.await.ok()
}

/// What the client is owed under the newest head; `None` when its stream can't go on.
async fn owed(answers: &Answers, served: &mut Served, watcher: Watcher) -> Option<(Watcher, Vec<Push>)> {
    let head = served.borrow_and_update().clone();
    // Without a head nothing can be proven; the slots wait.
    let Some(head) = head else { return Some((watcher, Vec::new())) };
    let answers = answers.clone();
    tokio::task::spawn_blocking(move || prove(&answers, &head, watcher)).await.ok().flatten()
}

fn prove(answers: &Answers, head: &ServedHead, mut watcher: Watcher) -> Option<(Watcher, Vec<Push>)> {
    match watcher.pushes(answers, head) {
        Ok(pushes) => Some((watcher, pushes)),
        // The window moved on: the newer head is on its way here.
        Err(AnswerError::View(ViewError::Gone(_))) => Some((watcher, Vec::new())),
        Err(error) => {
            tracing::warn!(%error, "can't prove what a client watches: closing its stream");
            None
        }
    }
}
