//! The composition root: starts every task in order, stops them in reverse, and joins each with a deadline.

use crate::admin::{self, Gauges};
use crate::chain::{Providers, SourceError};
use crate::clock::unix_seconds;
use crate::config::NodeConfig;
use crate::dht::{self, Dht};
use crate::evidence::Reporter;
use crate::follower::{self, Follower};
use crate::head::{AskPeers, Attester, Challenges, Genealogist, Gossip, Recovery, Signing};
use crate::limits::{HEAD_INBOX, REQUEST_BURST, REQUESTS_PER_SECOND, SHUTDOWN_DEADLINE, STREAM_QUEUE};
use crate::network::{ListenError, Network};
use crate::rate::Rates;
use crate::relay::{ByMirror, Judge};
use crate::serve::{Answers, RouteBook, RouteJudge, run_resolver, run_routes, run_watch};
use crate::spec_file::SpecFile;
use crate::store::{Store, StoreError};
use futures::future::BoxFuture;
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use windlass_p2p::streams::AlreadyAccepting;
use windlass_p2p::{Control, Incoming, autonat, identity, relay};
use windlass_protocol::message::names;
use windlass_protocol::spec::VerifiedSpec;
use windlass_protocol::{KeyAddress, SecretKey};

/// Why a node didn't start. One line: what, where, what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A provider's URL.
    #[error(transparent)]
    Url(#[from] crate::chain::BadUrl),
    /// The chain can't be reached, or is another one.
    #[error(transparent)]
    Chain(#[from] SourceError),
    /// The data directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The network.
    #[error(transparent)]
    Network(#[from] ListenError),
    /// A protocol is taken already.
    #[error(transparent)]
    Protocol(#[from] AlreadyAccepting),
    /// The admin listener.
    #[error(
        "can't serve health on {address}: {source}; choose another address in `admin`, or stop what holds it"
    )]
    Admin {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The task that reads the disk ended early.
    #[error("opening the data directory was interrupted")]
    Interrupted,
}

/// Why a running node can't go on.
#[derive(Debug, thiserror::Error)]
#[error("the {task} task ended: {reason}")]
pub struct TaskEnded {
    /// Which task.
    pub task: &'static str,
    /// Why, as far as it could say.
    pub reason: String,
}

type Outcome = Result<(), String>;

struct Task {
    name: &'static str,
    cancelled: CancellationToken,
    handle: JoinHandle<Outcome>,
}

/// A running node.
pub struct Node {
    key_address: KeyAddress,
    peer_id: PeerId,
    addresses: Vec<Multiaddr>,
    admin: SocketAddr,
    /// In order of their start.
    tasks: Vec<Task>,
}

/// What the parts of a node share while it is put together.
struct Parts {
    spec: Arc<VerifiedSpec>,
    store: Arc<Store>,
    providers: Arc<Providers>,
    follower: Follower<Providers>,
    signing: Signing,
    genealogist: Genealogist<Providers>,
    routes: Arc<RouteBook>,
}

impl Node {
    /// Starts a node: checks the chain, opens the mirror, listens, and begins to follow, attest and answer.
    /// Nothing is left running when it fails.
    pub async fn start(config: NodeConfig, key: SecretKey) -> Result<Self, StartError> {
        let spec = Arc::new(config.spec.clone());
        let providers = Arc::new(Providers::new(&config.providers, &spec)?);
        providers.check(&spec).await?;
        let parts = Parts::open(&config, &key, spec, providers).await?;
        let listener = TcpListener::bind(config.admin)
            .await
            .map_err(|source| StartError::Admin { address: config.admin, source })?;
        let admin =
            listener.local_addr().map_err(|source| StartError::Admin { address: config.admin, source })?;
        let (network, control) =
            Network::listen_with(&key, &config.listen, config.external.clone(), config.upnp).await?;
        let judge = Judge::new(
            config.relay.serve.clone(),
            parts.genealogist.known(),
            parts.store.clone(),
            parts.follower.state(),
        );
        let mut node = Self {
            key_address: key.address(),
            peer_id: network.peer_id(),
            addresses: network.addresses(),
            admin,
            tasks: Vec::new(),
        };
        // Before the swarm runs, so that the first connection already learns what we accept.
        let incoming = [names::HEAD, names::RESOLVE, names::WATCH, names::ROUTE, names::NODES]
            .map(|name| accept(&control, name));
        let [heads, questions, watches, routes, nodes] = incoming;
        let relay = relay::Server::new(
            identity::keypair(&key),
            control.clone(),
            Arc::new(ByMirror(judge.clone())),
            config.relay.limits.clone(),
        )?;
        let autonat = autonat::Server::new(&control, Arc::new(ByMirror(judge)))?;
        let streams = Streams {
            heads: heads?,
            questions: questions?,
            watches: watches?,
            routes: routes?,
            nodes: nodes?,
            relay,
            autonat,
        };
        node.run(config, parts, network, control, streams, listener);
        Ok(node)
    }

    fn run(
        &mut self,
        config: NodeConfig,
        parts: Parts,
        network: Network,
        control: Control,
        streams: Streams,
        listener: TcpListener,
    ) {
        let Parts { spec, store, providers, follower, signing, genealogist, routes } = parts;
        let stats = network.stats();
        let mirror = follower.state();
        let (inbox, heard) = mpsc::channel(HEAD_INBOX);
        let lineage = genealogist.known();
        let attester =
            Attester::new(store.clone(), spec.clone(), lineage.clone(), Some(signing), mirror.clone());
        let (served, told, signing) = (attester.served(), attester.told(), attester.signing());
        let follower = follower.with_vouched(attester.vouched());
        let (challenges, challengers) = Challenges::channel();
        let spec_file = SpecFile::new(config.spec_file, spec.clone());
        let answers =
            Answers::new(store.clone(), spec.clone(), served.clone(), lineage.clone(), routes.clone())
                .with_newest(spec_file.newest());
        let rates = Arc::new(Rates::new(REQUESTS_PER_SECOND, REQUEST_BURST));
        let recovery = Recovery::new(
            AskPeers::new(control.clone(), config.peers.clone()),
            store.clone(),
            spec.clone(),
            lineage.clone(),
            mirror.clone(),
        );
        let judge = RouteJudge::new(spec.clone(), answers.clone());
        let registered = dht::Registered::new(store.clone(), lineage.clone(), mirror.clone());
        let (dht, dht_task) = Dht::new(
            self.peer_id,
            control.clone(),
            config.peers.clone(),
            registered,
            judge.clone(),
            routes.clone(),
        );
        let gossip =
            Gossip::new(control.clone(), config.peers, lineage.clone(), told, attester.once(), inbox);
        let reporter = Reporter::new(
            providers.clone(),
            store.clone(),
            spec.contracts.node_staking.address,
            config.evidence_key,
        );
        let gauges = Gauges {
            reported: reporter.reported(),
            spec: spec.clone(),
            lineage: lineage.clone(),
            mirror: mirror.clone(),
            served,
            signing,
            store,
            network: stats,
            relay: streams.relay.stats(),
            control,
            providers,
            routes: routes.clone(),
            dht: dht.clone(),
        };

        self.spawn("network", |cancelled| plain(network.run(cancelled)));
        self.spawn("relay", |cancelled| plain(async move { streams.relay.run(cancelled.cancelled()).await }));
        self.spawn("autonat", |cancelled| {
            plain(async move { streams.autonat.run(cancelled.cancelled()).await })
        });
        self.spawn("registry", |cancelled| {
            Box::pin(async move {
                follower::run(follower, config.poll_interval, cancelled).await.map_err(|e| e.to_string())
            })
        });
        let seen = mirror.clone();
        self.spawn("committees", |cancelled| {
            Box::pin(async move { genealogist.run(seen, cancelled).await.map_err(|e| e.to_string()) })
        });
        self.spawn("attest", |cancelled| {
            Box::pin(
                async move { attester.run(heard, challengers, cancelled).await.map_err(|e| e.to_string()) },
            )
        });
        self.spawn("recovery", |cancelled| {
            Box::pin(async move { recovery.run(cancelled).await.map_err(|e| e.to_string()) })
        });
        self.spawn("evidence", |cancelled| {
            Box::pin(async move { reporter.run(cancelled).await.map_err(|e| e.to_string()) })
        });
        self.spawn("gossip", |cancelled| plain(gossip.run(streams.heads, cancelled)));
        let (asked, rated) = (answers.clone(), rates.clone());
        self.spawn("resolver", |cancelled| {
            plain(run_resolver(asked, challenges, rated, streams.questions, cancelled))
        });
        let (asked, rated, seen) = (answers, rates.clone(), mirror);
        self.spawn("watch", |cancelled| plain(run_watch(asked, seen, rated, streams.watches, cancelled)));
        self.spawn("dht", |cancelled| plain(dht_task.run(streams.nodes, cancelled)));
        self.spawn("routes", |cancelled| {
            plain(run_routes(judge, routes, dht, rates, streams.routes, cancelled))
        });
        self.spawn("spec", |cancelled| plain(spec_file.run(cancelled)));
        self.spawn("admin", |cancelled| plain(admin::run(listener, gauges, cancelled)));
    }

    fn spawn(
        &mut self,
        name: &'static str,
        task: impl FnOnce(CancellationToken) -> BoxFuture<'static, Outcome>,
    ) {
        let cancelled = CancellationToken::new();
        let future = task(cancelled.clone());
        let span = tracing::info_span!("task", name);
        let handle = tokio::spawn(tracing::Instrument::instrument(future, span));
        self.tasks.push(Task { name, cancelled, handle });
    }

    /// Where others reach this node, each ending in its peer id.
    pub fn listen_addrs(&self) -> &[Multiaddr] {
        &self.addresses
    }

    /// Who this node is on the wire.
    pub fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// The address of this node's key.
    pub fn key_address(&self) -> KeyAddress {
        self.key_address
    }

    /// Where health is served.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin
    }

    /// Waits until a task ends that never should: the node can't go on and is to be shut down. Cancel-safe.
    pub async fn failed(&mut self) -> TaskEnded {
        if self.tasks.is_empty() {
            return TaskEnded { task: "last", reason: "every task has ended".to_owned() };
        }
        let handles = self.tasks.iter_mut().map(|task| &mut task.handle);
        let (outcome, index, _) = futures::future::select_all(handles).await;
        let task = self.tasks.remove(index).name;
        let reason = match outcome {
            Ok(Ok(())) => "it had nothing left to do".to_owned(),
            Ok(Err(reason)) => reason,
            Err(error) => error.to_string(),
        };
        TaskEnded { task, reason }
    }

    /// Stops every task, the last started first, and waits for each; one that doesn't end in time is aborted.
    pub async fn shutdown(mut self) {
        while let Some(mut task) = self.tasks.pop() {
            task.cancelled.cancel();
            if tokio::time::timeout(SHUTDOWN_DEADLINE, &mut task.handle).await.is_err() {
                tracing::warn!(task = task.name, "a task did not end in time and is aborted");
                task.handle.abort();
                // Aborted tasks end at their next await; the answer is that it was aborted.
                let _ = task.handle.await;
            }
        }
    }
}

impl Drop for Node {
    /// A node that is dropped instead of shut down leaves nothing running.
    fn drop(&mut self) {
        for task in &self.tasks {
            task.handle.abort();
        }
    }
}

/// The accepted streams, by protocol.
struct Streams {
    heads: Incoming,
    questions: Incoming,
    watches: Incoming,
    routes: Incoming,
    nodes: Incoming,
    relay: relay::Server,
    autonat: autonat::Server,
}

impl Parts {
    async fn open(
        config: &NodeConfig,
        key: &SecretKey,
        spec: Arc<VerifiedSpec>,
        providers: Arc<Providers>,
    ) -> Result<Self, StartError> {
        let (data_dir, cache_bytes, key) = (config.data_dir.clone(), config.cache_bytes, key.clone());
        let open = move || {
            let store = Arc::new(Store::open_with_cache(&data_dir, &spec, cache_bytes)?);
            let follower = Follower::new(providers.clone(), store.clone(), spec.clone())?;
            let signing = Signing::new(&key, spec.clone(), store.clone())?;
            let genealogist = Genealogist::new(providers.clone(), store.clone(), spec.clone());
            let routes = Arc::new(RouteBook::open(store.clone(), unix_seconds())?);
            Ok(Self { spec, store, providers, follower, signing, genealogist, routes })
        };
        tokio::task::spawn_blocking(open).await.map_err(|_| StartError::Interrupted)?
    }
}

fn accept(control: &Control, name: &'static str) -> Result<Incoming, AlreadyAccepting> {
    let queue = NonZeroUsize::new(STREAM_QUEUE).unwrap_or(NonZeroUsize::MIN);
    control.accept(StreamProtocol::new(name), queue)
}

/// A task that can't fail.
fn plain(task: impl Future<Output = ()> + Send + 'static) -> BoxFuture<'static, Outcome> {
    Box::pin(async move {
        task.await;
        Ok(())
    })
}

#[cfg(test)]
mod tests;
