//! The task that asks peers for kept heads which this node doesn't have: it lost its directory, or was away when an epoch
//! had its second half. Without them it can't lead devices from before to the committee of today.
//!
//! A peer is believed nothing: a head counts when the committee of its epoch signed it and what it proves is what our own
//! mirror says of those epochs. It signs nothing, and nothing waits for it.

use super::steps::{self, Unkept};
use super::{KnownLineage, Peer};
use crate::follower::MirrorState;
use crate::limits::{FIRST_RECOVERY_PAUSE, LAST_RECOVERY_PAUSE, RECOVERED_PER_ROUND, REQUEST_DEADLINE};
use crate::on_disk::on_disk;
use crate::store::{Store, StoreError};
use libp2p::StreamProtocol;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use windlass_p2p::frame::{FrameError, read_frame, write_frame};
use windlass_p2p::{Control, PeerStream};
use windlass_protocol::committee::CommitteeStep;
use windlass_protocol::message::MAX_FRAME;
use windlass_protocol::message::names;
use windlass_protocol::message::resolve::{Request, Response};
use windlass_protocol::question::Question;
use windlass_protocol::spec::VerifiedSpec;
use windlass_protocol::wire;

const PROTOCOL: StreamProtocol = StreamProtocol::new(names::RESOLVE);

/// Who may have the heads that we don't.
pub trait StepSource: Send + Sync + 'static {
    /// How many may be asked.
    fn peers(&self) -> usize;

    /// What one of them says to the question how to get to this epoch's committee; in words why it says nothing.
    fn ask(&self, peer: usize, epoch: u32) -> impl Future<Output = Result<CommitteeStep, String>> + Send;
}

/// The configured peers, asked as a device would ask them.
pub struct AskPeers {
    control: Control,
    peers: Vec<Peer>,
}

impl AskPeers {
    /// Asks these.
    pub fn new(control: Control, peers: Vec<Peer>) -> Self {
        Self { control, peers }
    }
}

impl StepSource for AskPeers {
    fn peers(&self) -> usize {
        self.peers.len()
    }

    async fn ask(&self, peer: usize, epoch: u32) -> Result<CommitteeStep, String> {
        let Peer { id, addresses } = self.peers.get(peer).ok_or("there is no such peer")?;
        let opened = self.control.open(*id, addresses.clone(), PROTOCOL, REQUEST_DEADLINE).await;
        let stream = opened.map_err(|error| format!("{id}: {error}"))?;
        match tokio::time::timeout(REQUEST_DEADLINE * 2, put(stream, epoch)).await {
            Ok(Ok(Response::Step(step))) => Ok(step),
            Ok(Ok(Response::Refused { text, .. })) => Err(format!("{id} refuses: {}", text.escape_debug())),
            Ok(Ok(_)) => Err(format!("{id} answers something else")),
            Ok(Err(error)) => Err(format!("{id}: {error}")),
            Err(_) => Err(format!("{id} gave no answer in time")),
        }
    }
}

/// What went wrong on the way.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("it answers nonsense: {0}")]
    Wire(#[from] wire::DecodeError),
}

async fn put(mut stream: PeerStream, epoch: u32) -> Result<Response, NoAnswer> {
    let request = Request::of(vec![Question::Committee(epoch)]);
    write_frame(&mut stream, &wire::encode(&request)).await?;
    Ok(wire::decode(&read_frame(&mut stream).await?, MAX_FRAME)?)
}

/// Fills the gaps in what is kept for devices that sleep.
pub struct Recovery<S> {
    source: S,
    store: Arc<Store>,
    spec: Arc<VerifiedSpec>,
    lineage: KnownLineage,
    mirror: watch::Receiver<MirrorState>,
}

impl<S: StepSource> Recovery<S> {
    /// Looks at the store and asks nobody yet.
    pub fn new(
        source: S,
        store: Arc<Store>,
        spec: Arc<VerifiedSpec>,
        lineage: KnownLineage,
        mirror: watch::Receiver<MirrorState>,
    ) -> Self {
        Self { source, store, spec, lineage, mirror }
    }

    /// Runs until cancelled, or until the disk fails.
    pub async fn run(mut self, cancelled: CancellationToken) -> Result<(), StoreError> {
        if self.source.peers() == 0 {
            cancelled.cancelled().await;
            return Ok(());
        }
        let mut pause = FIRST_RECOVERY_PAUSE;
        loop {
            // Before there is a final head nothing is known to be missing, however long the first sync takes.
            let synced = async { self.mirror.wait_for(|state| state.attestable.is_some()).await.is_ok() };
            tokio::select! {
                () = cancelled.cancelled() => return Ok(()),
                goes_on = synced => if !goes_on {
                    // The follower has ended, and says why; the node is about to.
                    cancelled.cancelled().await;
                    return Ok(());
                },
            }
            let whole = tokio::select! {
                () = cancelled.cancelled() => return Ok(()),
                whole = self.round() => whole?,
            };
            let waited = async {
                match whole {
                    // Something may be missing only once the committee has changed again.
                    true => self.lineage.changed().await.is_ok(),
                    false => {
                        tokio::time::sleep(pause).await;
                        true
                    }
                }
            };
            tokio::select! {
                () = cancelled.cancelled() => return Ok(()),
                goes_on = waited => if !goes_on {
                    // Who keeps the lineage has ended, and says why; the node is about to.
                    cancelled.cancelled().await;
                    return Ok(());
                },
            }
            pause = if whole { FIRST_RECOVERY_PAUSE } else { longer(pause) };
        }
    }

    /// Asks for what is missing, one after the other; whether nothing is any more.
    pub(super) async fn round(&self) -> Result<bool, StoreError> {
        for _ in 0..RECOVERED_PER_ROUND {
            let head = self.mirror.borrow().attestable;
            let Some(head) = head else { return Ok(false) };
            let (lineage, newest) = (self.lineage.borrow().clone(), self.spec.epoch_at(head.timestamp));
            let missing = on_disk(|| steps::missing(&self.store, &self.spec, &lineage, newest))?;
            let Some(epoch) = missing else { return Ok(newest <= lineage.committees().through()) };
            if !self.recover(epoch, head.position.number).await? {
                tracing::debug!(epoch, "no peer leads to the committee of this epoch");
                return Ok(false);
            }
        }
        Ok(false)
    }

    /// Asks one peer after the other, until one has a head that leads on.
    async fn recover(&self, epoch: u32, newest: u64) -> Result<bool, StoreError> {
        for peer in 0..self.source.peers() {
            let step = match self.source.ask(peer, epoch).await {
                Ok(step) => step,
                Err(reason) => {
                    tracing::debug!(epoch, reason, "a peer has no head that leads on");
                    continue;
                }
            };
            let lineage = self.lineage.borrow().clone();
            match on_disk(|| steps::take(&self.store, &self.spec, &lineage, epoch, newest, step)) {
                Ok(last) => {
                    tracing::info!(epoch, last, "keeping a head that a peer had kept");
                    return Ok(true);
                }
                Err(Unkept::Store(error)) => return Err(error),
                Err(reason) => tracing::warn!(epoch, peer, %reason, "a peer's head is refused"),
            }
        }
        Ok(false)
    }
}

fn longer(pause: Duration) -> Duration {
    (pause * 2).min(LAST_RECOVERY_PAUSE)
}
