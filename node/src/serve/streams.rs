//! One task per stream of a protocol, as long as its peer and all peers together have a seat for it.

use crate::seats::Seats;
use std::future::Future;
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use windlass_p2p::{Incoming, PeerStream};

/// Serves each stream until cancelled. A stream without a seat is dropped at once, which resets it: it never
/// waits in the queue, where it would take the place of somebody else's.
pub(crate) async fn serve_each<F: Future<Output = ()> + Send + 'static>(
    seats: Arc<Seats>,
    mut incoming: Incoming,
    cancelled: CancellationToken,
    serve: impl Fn(PeerStream) -> F,
) {
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            () = cancelled.cancelled() => break,
            Some(stream) = incoming.next() => {
                let peer = stream.peer();
                let Some(seat) = seats.take(peer) else {
                    tracing::trace!(%peer, "no seat for one more stream");
                    continue;
                };
                let served = serve(stream);
                streams.spawn(async move {
                    served.await;
                    drop(seat);
                });
            }
            Some(_) = streams.join_next() => {}
        }
    }
    streams.shutdown().await;
}
