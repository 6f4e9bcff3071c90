//! One WebSocket connection: requests in, answers and notifications out.
//!
//! Owns the pace: one request is served at a time, what is new is sent between two of them, and a reader that
//! doesn't keep up is dropped. What the messages say is made elsewhere.

use super::caller::Caller;
use super::subscriptions::{self, News};
use super::{Dead, answer};
use crate::chain::feed::Forgotten;
use crate::chain::limits::SLOW_READER_SECONDS;
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::debug;

/// How long to wait before looking again for what a fault holds back.
const HELD_BACK: Duration = Duration::from_millis(10);

/// Why a connection ends.
enum End {
    /// The other side left, or the chain stops.
    Quiet,
    /// The other side is told why, if it still listens.
    Told { code: u16, reason: &'static str },
}

/// Serves `socket` until one side ends it or `stopped` says so.
pub(super) async fn run(mut socket: WebSocket, caller: Caller, mut stopped: watch::Receiver<bool>) {
    let caller = Arc::new(caller);
    let end = tokio::select! {
        end = serve(&mut socket, &caller) => end,
        _ = stopped.wait_for(|stopped| *stopped) => {
            End::Told { code: close_code::AWAY, reason: "the chain stops" }
        }
    };
    // Off the async threads: that lock is held while the chain is read.
    let _ = tokio::task::spawn_blocking(move || caller.service.filters().forget_owner(caller.owner())).await;
    if let End::Told { code, reason } = end {
        debug!(reason, "closing a connection");
        let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
        // It may be gone already, or not read any more; nothing is lost either way.
        let _ = tokio::time::timeout(Duration::from_secs(1), socket.send(close)).await;
    }
}

async fn serve(socket: &mut WebSocket, caller: &Arc<Caller>) -> End {
    let asker = caller.clone();
    let begin = tokio::task::spawn_blocking(move || {
        let ledger = asker.shared().read();
        (ledger.feed.end(), ledger.feed.watch())
    });
    let Ok((mut position, mut happened)) = begin.await else { return End::Quiet };
    let mut held_back = false;
    loop {
        tokio::select! {
            message = socket.recv() => {
                let reply = match message {
                    Some(Ok(Message::Text(text))) => answer(caller, text.into()).await,
                    Some(Ok(Message::Binary(bytes))) => answer(caller, bytes).await,
                    // The library answers pings itself.
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(None),
                    Some(Ok(Message::Close(_))) | None => return End::Quiet,
                    Some(Err(_)) => {
                        return End::Told { code: close_code::SIZE, reason: "a message too large, or no message at all" };
                    }
                };
                match reply {
                    Ok(Some(reply)) => {
                        if let Err(end) = send(socket, reply).await {
                            return end;
                        }
                    }
                    Ok(None) => {}
                    Err(Dead) => return End::Quiet,
                }
            }
            _ = happened.changed() => {}
            // What a fault holds back comes when its time has come, which nothing else announces.
            () = tokio::time::sleep(HELD_BACK), if held_back => {}
        }
        held_back = match tell(socket, caller, &mut position).await {
            Ok(held_back) => held_back,
            Err(end) => return end,
        };
    }
}

/// Sends all that is new. Gives whether a fault holds more back.
async fn tell(socket: &mut WebSocket, caller: &Arc<Caller>, position: &mut u64) -> Result<bool, End> {
    loop {
        let (asker, from) = (caller.clone(), *position);
        // Off the async threads: whoever makes many blocks holds the chain's lock for long.
        let news = tokio::task::spawn_blocking(move || subscriptions::news(&asker, from)).await;
        let News { messages, position: up_to, held_back } = match news {
            Ok(Ok(news)) => news,
            Ok(Err(Forgotten)) => {
                return Err(End::Told { code: close_code::POLICY, reason: "too slow: events were missed" });
            }
            Err(_) => return Err(End::Quiet),
        };
        for message in messages {
            send(socket, message).await?;
        }
        if up_to == *position {
            return Ok(held_back);
        }
        *position = up_to;
    }
}

async fn send(socket: &mut WebSocket, message: String) -> Result<(), End> {
    let patience = Duration::from_secs(SLOW_READER_SECONDS);
    match tokio::time::timeout(patience, socket.send(Message::Text(message.into()))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Quiet),
        Err(_) => Err(End::Told { code: close_code::POLICY, reason: "too slow: a message wasn't read" }),
    }
}
