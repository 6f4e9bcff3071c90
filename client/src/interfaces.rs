//! Notices that this device's own addresses changed, and finds out which of its connections didn't survive that.
//!
//! A connection of an address that is gone is neither closed nor answered by anybody: it would take half a minute until
//! its ping is missed. It judges no connection itself: one that answers lives, one that doesn't within a short time is
//! closed, and whoever needs it makes another.

use crate::{client::Core, limits::PROBE_DEADLINE, limits::PROBES};
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt, future::poll_fn, stream};
use if_watch::{IfEvent, tokio::IfWatcher};
use libp2p::{PeerId, StreamProtocol};
use std::sync::Arc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Whoever speaks libp2p answers this: 32 bytes come back as they were sent.
const PING: StreamProtocol = StreamProtocol::new("/ipfs/ping/1.0.0");

/// Watches until stopped. Where the system tells of no changes, connections are found dead by their pings alone.
pub(crate) async fn watch(core: Arc<Core>, stop: CancellationToken) {
    let mut watcher = match IfWatcher::new() {
        Ok(watcher) => watcher,
        Err(error) => return tracing::info!(%error, "changes of this machine's addresses aren't noticed"),
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = heed(&core, &mut watcher) => {}
    }
}

async fn heed(core: &Core, watcher: &mut IfWatcher) {
    loop {
        match poll_fn(|cx| watcher.poll_if_event(cx)).await {
            Ok(event) if address_of(&event).is_loopback() => {}
            Ok(event) => {
                tracing::debug!(?event, "this machine's addresses changed");
                // One that came harms no connection; at the start, all of them come.
                if matches!(event, IfEvent::Down(_)) {
                    probe_all(core).await;
                }
                core.moved.send_modify(|times| *times += 1);
            }
            Err(error) => return tracing::info!(%error, "changes of this machine's addresses aren't noticed"),
        }
    }
}

fn address_of(event: &IfEvent) -> std::net::IpAddr {
    match event {
        IfEvent::Up(network) | IfEvent::Down(network) => network.addr(),
    }
}

/// Closes the connections to those that don't answer. What goes through a relay goes with the relay's connection.
async fn probe_all(core: &Core) {
    let control = &core.asker.control;
    let is_direct =
        |peer: &PeerId| control.connections(peer).first().is_some_and(|best| !best.path.is_relayed());
    let peers: Vec<PeerId> = control.connected_peers().into_iter().filter(is_direct).collect();
    stream::iter(peers)
        .for_each_concurrent(PROBES, async |peer| {
            if timeout(PROBE_DEADLINE, answers(core, peer)).await != Ok(true) {
                tracing::info!(%peer, "closing a connection that doesn't answer since an address changed");
                control.disconnect(peer).await;
            }
        })
        .await;
}

async fn answers(core: &Core, peer: PeerId) -> bool {
    let Ok(mut stream) = core.asker.control.open(peer, Vec::new(), PING, PROBE_DEADLINE).await else {
        return false;
    };
    let (sent, mut received): ([u8; 32], _) = (rand::random(), [0; 32]);
    let echoed = async {
        stream.write_all(&sent).await?;
        stream.flush().await?;
        stream.read_exact(&mut received).await
    };
    echoed.await.is_ok() && received == sent
}
