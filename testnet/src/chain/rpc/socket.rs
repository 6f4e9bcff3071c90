//! One WebSocket connection: requests in, answers and notifications out.
//!
//! Owns the pace: one request is served at a time, what is new is sent between two of them, and a reader that
//! doesn't keep up is dropped. What the messages say is made elsewhere.

use super::caller::Caller;
use super::{answer, subscriptions};
use crate::chain::limits::SLOW_READER_SECONDS;
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::debug;

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
    caller.service.filters().forget_owner(caller.owner());
    if let End::Told { code, reason } = end {
        debug!(reason, "closing a connection");
        let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
        // It may be gone already, or not read any more; nothing is lost either way.
        let _ = tokio::time::timeout(Duration::from_secs(1), socket.send(close)).await;
    }
}

async fn serve(socket: &mut WebSocket, caller: &Arc<Caller>) -> End {
    let (mut position, mut happened) = {
        let ledger = caller.shared().read();
        (ledger.feed.end(), ledger.feed.watch())
    };
    loop {
        tokio::select! {
            message = socket.recv() => {
                let reply = match message {
                    Some(Ok(Message::Text(text))) => answer(caller, text.into()).await,
                    Some(Ok(Message::Binary(bytes))) => answer(caller, bytes).await,
                    // The library answers pings itself.
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => None,
                    Some(Ok(Message::Close(_))) | None => return End::Quiet,
                    Some(Err(_)) => {
                        return End::Told { code: close_code::SIZE, reason: "a message too large, or no message at all" };
                    }
                };
                if let Some(reply) = reply && let Err(end) = send(socket, reply).await {
                    return end;
                }
            }
            _ = happened.changed() => {}
        }
        if let Err(end) = tell(socket, caller, &mut position).await {
            return end;
        }
    }
}

/// Sends all that is new.
async fn tell(socket: &mut WebSocket, caller: &Caller, position: &mut u64) -> Result<(), End> {
    loop {
        let before = *position;
        let Ok(messages) = subscriptions::notifications(caller, position) else {
            return Err(End::Told { code: close_code::POLICY, reason: "too slow: events were missed" });
        };
        for message in messages {
            send(socket, message).await?;
        }
        if *position == before {
            return Ok(());
        }
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
