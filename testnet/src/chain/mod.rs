//! The embedded EVM chain: a whole chain in this process, reachable over JSON-RPC on loopback.
//!
//! Owns the chain's life: starting it, its heartbeat, its end. Made for development, tests and attacks: it
//! produces real blocks with real proofs, but nobody else agrees on them, so nothing on it is worth anything.
//!
//! ```text
//! rpc ──► ledger ──► pool          what waits
//!            │
//!            ├─────► block ──► evm over an overlay of the state     how the next block comes to be
//!            ├─────► state ──► nodes ──► store                       what is true after each block
//!            ├─────► archive ──────────► store                       the blocks
//!            └─────► feed                                            what happened, for who subscribed
//! ```
//!
//! | task | owns | inbox | emits |
//! | --- | --- | --- | --- |
//! | server | the listening socket | requests; each is served under the ledger's lock, off the async threads | answers |
//! | one per WebSocket | the connection and its subscriptions | requests; the feed | answers, notifications |
//! | heartbeat | nothing | the stop signal | a block when it is time for one |
//!
//! None waits for another, except that the server ends after the WebSockets. All end with the [`Chain`].

mod accounts;
mod amend;
mod archive;
mod block;
mod control;
mod evm;
mod feed;
mod genesis;
mod ledger;
mod limits;
mod nodes;
mod pool;
mod rpc;
mod state;
mod store;

pub use accounts::{DEV_ACCOUNTS, DevAccount};
pub use rpc::methods;
pub use store::OpenStateError;

use amend::{AmendError, Amendment};
use control::Control;
use ledger::Ledger;
use state::StateError;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{error, info};
use windlass_protocol::{Address, B256};

/// Chain id when none is asked for: the one that development tools know as a local chain.
pub const DEFAULT_CHAIN_ID: u64 = 31_337;

/// Gas of one block: as much as Ethereum's own blocks have.
pub const DEFAULT_GAS_LIMIT: u64 = 60_000_000;

/// How long the chain is idle before it makes an empty block, so that its heads stay fresh.
pub const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(5);

/// When a block becomes final.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Finality {
    /// At once: the chain never reorganises.
    #[default]
    Immediate,
    /// When `dev_finalize` says so; until then it may be taken off again.
    Manual,
    /// When this many blocks follow it.
    Depth(u64),
}

/// Not a finality mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no finality mode: use immediate, manual or depth:N with N a number of blocks")]
pub struct ParseFinalityError(String);

impl FromStr for Finality {
    type Err = ParseFinalityError;

    fn from_str(text: &str) -> Result<Self, ParseFinalityError> {
        match text {
            "immediate" => Ok(Self::Immediate),
            "manual" => Ok(Self::Manual),
            _ => {
                let depth = text.strip_prefix("depth:").and_then(|depth| depth.parse().ok());
                depth.map(Self::Depth).ok_or_else(|| ParseFinalityError(text.to_owned()))
            }
        }
    }
}

/// When blocks are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mining {
    /// At once for each transaction.
    #[default]
    Instant,
    /// Every so often, empty or not.
    Interval(Duration),
    /// Only when told, not even when idle.
    Manual,
}

/// What a chain is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainConfig {
    /// Loopback TCP port to listen on; 0 takes a free one.
    pub port: u16,
    /// Chain id (EIP-155).
    pub chain_id: u64,
    /// When a block becomes final.
    pub finality: Finality,
    /// When blocks are made.
    pub mining: Mining,
    /// How long an idle chain waits before it makes an empty block; `None` for never.
    pub heartbeat: Option<Duration>,
    /// Gas of one block.
    pub gas_limit: u64,
    /// Who gets the priority fees.
    pub coinbase: Address,
    /// Directory that the chain is kept in and goes on from; `None` keeps it in memory, until the end.
    pub state: Option<PathBuf>,
}

impl Default for ChainConfig {
    fn default() -> Self {
        Self {
            port: 0,
            chain_id: DEFAULT_CHAIN_ID,
            finality: Finality::Immediate,
            mining: Mining::Instant,
            heartbeat: Some(DEFAULT_HEARTBEAT),
            gas_limit: DEFAULT_GAS_LIMIT,
            coinbase: Address::ZERO,
            state: None,
        }
    }
}

/// Why a chain didn't start.
#[derive(Debug, thiserror::Error)]
pub enum StartChainError {
    /// The port can't be listened on.
    #[error("cannot listen on 127.0.0.1:{port}: {source}; choose another port, or 0 for a free one")]
    Listen {
        /// The port asked for.
        port: u16,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The state's directory can't be used.
    #[error(transparent)]
    State(#[from] OpenStateError),
}

/// A running chain. Gone when dropped; [`Chain::shutdown`] also waits until it is.
#[derive(Debug)]
pub struct Chain {
    address: SocketAddr,
    service: Arc<rpc::Service>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Chain {
    /// Starts the chain that the configured directory holds, or a new one with the current time as its
    /// genesis timestamp. It answers as soon as this returns.
    ///
    /// # Errors
    /// When the port is taken, or the directory can't be used.
    pub async fn start(config: ChainConfig) -> Result<Self, StartChainError> {
        let port = config.port;
        let listen = |source| StartChainError::Listen { port, source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let shared = Shared::start(config)?;
        let (stop, stopped) = watch::channel(false);
        let service = rpc::Service::new(shared.clone());
        let server = tokio::spawn(rpc::serve(listener, service.clone(), stopped.clone()));
        let heartbeat = tokio::spawn(beat(shared, stopped));
        info!(%address, "the chain is up");
        Ok(Self { address, service, stop, tasks: vec![server, heartbeat] })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL for JSON-RPC over HTTP.
    pub fn rpc_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers a JSON-RPC request or batch within this process, as over HTTP; blocks until it is done.
    /// `None` when the request asks for no answer.
    pub fn answer(&self, body: &[u8]) -> Option<String> {
        rpc::answer_here(&self.service, body)
    }

    /// Ends the chain: requests under way are answered, at most for two seconds, then the port is free.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        let deadline = Instant::now() + Duration::from_secs(limits::SHUTDOWN_SECONDS);
        for mut task in std::mem::take(&mut self.tasks) {
            if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                task.abort();
            }
        }
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// The ledger behind its lock, and the clock that stamps its blocks.
struct Shared {
    ledger: RwLock<Ledger>,
    control: Mutex<Control>,
    mining: watch::Sender<Mining>,
    heartbeat: Option<Duration>,
    /// When the last block was made.
    last_block: watch::Sender<Instant>,
}

impl Shared {
    fn start(config: ChainConfig) -> Result<Arc<Self>, OpenStateError> {
        let (mining, heartbeat) = (config.mining, config.heartbeat);
        let ledger = Ledger::open(config, unix_seconds())?;
        let (now, age) = (Instant::now(), unix_seconds().saturating_sub(ledger.latest().header.timestamp));
        // A chain that lay in its directory for a while gets its next block as soon as it is due.
        let last_block = now.checked_sub(Duration::from_secs(age)).unwrap_or(now);
        Ok(Arc::new(Self {
            ledger: RwLock::new(ledger),
            control: Mutex::default(),
            mining: watch::Sender::new(mining),
            heartbeat,
            last_block: watch::Sender::new(last_block),
        }))
    }

    /// The ledger, to read. A request that panicked left it as its last finished step did.
    fn read(&self) -> RwLockReadGuard<'_, Ledger> {
        self.ledger.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ledger, to change.
    fn write(&self) -> RwLockWriteGuard<'_, Ledger> {
        self.ledger.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a developer decided. Its lock is taken after the ledger's, never before it.
    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When blocks are made, at present.
    fn mining(&self) -> Mining {
        *self.mining.borrow()
    }

    /// Seconds since 1970, as the chain counts them: what a block made now would have.
    fn now(&self) -> u64 {
        let clock = self.control().clock;
        clock.promised().unwrap_or_else(|| clock.now(unix_seconds()))
    }

    /// Makes a block, and gives the transactions it refused with the reasons.
    fn mine(&self, ledger: &mut Ledger) -> Result<Vec<(B256, String)>, StateError> {
        let now = self.control().clock.stamp(unix_seconds());
        let refused = ledger.mine(now)?;
        self.last_block.send_replace(Instant::now());
        Ok(refused)
    }

    /// Makes a block of nothing but `amendment`. A timestamp promised to the next block stays promised.
    fn amend(&self, ledger: &mut Ledger, amendment: &Amendment) -> Result<(), AmendError> {
        let earliest = ledger.latest().header.timestamp + 1;
        let promised = self.control().clock.promised();
        let now = match promised {
            Some(next) if earliest >= next => return Err(AmendError::NoRoom { next }),
            Some(_) => earliest,
            None => self.now(),
        };
        ledger.amend(now, amendment)?;
        self.last_block.send_replace(Instant::now());
        Ok(())
    }
}

/// Makes a block whenever the chain was idle for the heartbeat, or at each interval, until told to stop.
async fn beat(shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let mut mining = shared.mining.subscribe();
    loop {
        let period = match *mining.borrow_and_update() {
            Mining::Interval(period) => Some(period),
            Mining::Instant => shared.heartbeat,
            Mining::Manual => None,
        };
        let due = period.map(|period| *shared.last_block.borrow() + period);
        let wait = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            // Decided anew; the sender lives as long as `shared`.
            _ = mining.changed() => continue,
            () = wait => {}
        }
        if period.is_some_and(|period| *shared.last_block.borrow() + period > Instant::now()) {
            continue;
        }
        let mut ledger = shared.write();
        // Decided anew while the lock was another's, which is held for that.
        if mining.has_changed().unwrap_or(true) {
            continue;
        }
        if let Err(error) = shared.mine(&mut ledger) {
            error!(%error, "the heartbeat couldn't make a block; the chain stands still");
            return;
        }
    }
}

/// Seconds since 1970.
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finality_modes_are_read_and_others_refused() {
        assert_eq!("immediate".parse(), Ok(Finality::Immediate));
        assert_eq!("manual".parse(), Ok(Finality::Manual));
        assert_eq!("depth:12".parse(), Ok(Finality::Depth(12)));
        for wrong in ["", "depth", "depth:", "depth:-1", "depth:x", "Manual"] {
            assert_eq!(wrong.parse::<Finality>(), Err(ParseFinalityError(wrong.to_owned())));
        }
    }
}
