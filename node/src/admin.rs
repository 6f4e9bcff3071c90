//! The HTTP listener for whoever runs the node: `/health` and `/metrics`.
//!
//! It reads what other tasks publish and changes nothing. Health is 200 while the node can prove something that clients
//! take as fresh, 503 otherwise, the same JSON either way; `/metrics` has the same numbers for Prometheus. Bound to
//! loopback it answers no page that had a name of its own resolved to this machine (DNS rebinding).

use crate::chain::{ProviderHealth, Providers};
use crate::clock::unix_seconds;
use crate::dht::{Dht, DhtCounts};
use crate::evidence::{Report, Reported, call_of};
use crate::follower::{MirrorState, Phase};
use crate::head::{KnownLineage, ServedHead, SigningState};
use crate::limits::{ATTESTING_AGE, HEALTHY_AGE};
use crate::metrics;
use crate::network::NetworkStats;
use crate::serve::{RouteBook, Served};
use crate::store::{Fault, Position, Store, StoreSize};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use windlass_p2p::Control;
use windlass_p2p::relay::{RelayStats, Usage};
use windlass_protocol::head::{Trust, verify_head};
use windlass_protocol::spec::VerifiedSpec;
use windlass_protocol::{Address, B256};

/// What health is read from.
#[derive(Clone)]
pub struct Gauges {
    /// What clients check heads against.
    pub spec: Arc<VerifiedSpec>,
    /// Whose attestations count, in which epoch.
    pub lineage: KnownLineage,
    /// The follower's state.
    pub mirror: watch::Receiver<MirrorState>,
    /// The served head.
    pub served: Served,
    /// Whether this node signs.
    pub signing: watch::Receiver<SigningState>,
    /// The data directory.
    pub store: Arc<Store>,
    /// The network's counts.
    pub network: Arc<NetworkStats>,
    /// The relay's.
    pub relay: RelayStats,
    /// Who is connected.
    pub control: Control,
    /// How the chain providers do.
    pub providers: Arc<Providers>,
    /// The routes kept.
    pub routes: Arc<RouteBook>,
    /// Other nodes, and what they were asked.
    pub dht: Dht,
    /// What became of reports of faults.
    pub reported: Reported,
}

/// Everything at one moment.
pub struct Vitals {
    pub(crate) mirror: MirrorState,
    pub(crate) served: Option<Arc<ServedHead>>,
    pub(crate) signing: SigningState,
    /// `None` when the disk doesn't say.
    pub(crate) size: Option<StoreSize>,
    pub(crate) faults: Vec<(Address, Fault)>,
    /// What became of our reports of them; none without an account for it.
    pub(crate) reports: Arc<BTreeMap<Address, Report>>,
    pub(crate) providers: Vec<ProviderHealth>,
    pub(crate) counts: Counts,
    /// Version and hash of the chain spec in use, and until when it lets fresh devices in, in Unix seconds.
    pub(crate) spec: (u64, B256, u64),
    /// Why a client whose clock is ours would refuse what is served.
    refused: Option<String>,
    /// The highest block that any provider had lately.
    highest: u64,
    /// Bytes sent into the relay.
    pub(crate) relayed: Usage,
    pub(crate) relay_refused: u64,
    pub(crate) relay_buffer_bytes: u64,
    now: u64,
}

/// How many there are.
#[derive(Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) peers: usize,
    pub(crate) connections: usize,
    pub(crate) reservations: usize,
    pub(crate) circuits: usize,
    pub(crate) routes: usize,
    pub(crate) dht: DhtCounts,
}

/// Serves until cancelled.
pub async fn run(listener: TcpListener, gauges: Gauges, cancelled: CancellationToken) {
    let local = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    let mut router =
        Router::new().route("/health", get(health)).route("/metrics", get(metrics_text)).with_state(gauges);
    if local {
        router = router.layer(from_fn(guard));
    }
    let stop = async move { cancelled.cancelled().await };
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop).await {
        tracing::error!(%error, "the admin listener failed");
    }
}

/// Turns away who came by a name that isn't this machine's.
async fn guard(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or_default());
    match host.is_none_or(is_local) {
        true => next.run(request).await,
        false => {
            let advice = "this node's health is for this machine: use 127.0.0.1 or localhost\n";
            (StatusCode::FORBIDDEN, advice).into_response()
        }
    }
}

/// Whether a Host header can only mean this machine: an IP address, which nobody else's name led to, or localhost.
fn is_local(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
}

async fn health(State(gauges): State<Gauges>) -> impl IntoResponse {
    let vitals = gauges.read(unix_seconds()).await;
    let status = if vitals.healthy() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(vitals.report()))
}

async fn metrics_text(State(gauges): State<Gauges>) -> impl IntoResponse {
    let vitals = gauges.read(unix_seconds()).await;
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::render(&vitals))
}

impl Gauges {
    async fn read(&self, now: u64) -> Vitals {
        let store = self.store.clone();
        let read =
            tokio::task::spawn_blocking(move || (store.size().ok(), store.faults().unwrap_or_default()));
        let (size, faults) = read.await.unwrap_or_default();
        let served = self.served.borrow().clone();
        Vitals {
            mirror: self.mirror.borrow().clone(),
            refused: served.as_ref().and_then(|head| self.refused(head, now)),
            highest: self.providers.highest(),
            served,
            signing: self.signing.borrow().clone(),
            size,
            faults,
            spec: (self.spec.version, self.spec.hash(), self.spec.good_until()),
            reports: self.reported.borrow().clone().unwrap_or_default(),
            providers: self.providers.health(),
            counts: Counts {
                peers: self.control.connected_peers().len(),
                connections: self.network.connections(),
                reservations: self.relay.reservations(),
                circuits: self.relay.circuits(),
                routes: self.routes.len(),
                dht: self.dht.counts(),
            },
            relayed: self.relay.usage(),
            relay_refused: self.relay.refused(),
            relay_buffer_bytes: self.relay.buffer_bytes() as u64,
            now,
        }
    }

    fn refused(&self, head: &ServedHead, now: u64) -> Option<String> {
        let (lineage, epoch) = (self.lineage.borrow(), self.spec.epoch_at(head.header.timestamp));
        let committee = lineage.of(epoch).unwrap_or_else(|| lineage.committees().latest());
        let trust = Trust { spec: &self.spec, committee, now: Some(now), nonce: None };
        verify_head(&trust, &head.rlp, &head.attestations).err().map(|error| error.to_string())
    }
}

impl Vitals {
    /// Seconds since a threshold vouched for the served head.
    pub(crate) fn age(&self) -> Option<u64> {
        self.served.as_ref().map(|head| self.now.saturating_sub(head.attested_at))
    }

    /// Blocks from the served head to the newest one.
    pub(crate) fn lag(&self) -> Option<u64> {
        let (latest, served) = (self.mirror.latest?, self.served.as_ref()?);
        Some(latest.number.max(self.highest).saturating_sub(served.position.number))
    }

    /// Whether something fresh can be proven that clients take.
    pub(crate) fn healthy(&self) -> bool {
        self.age().is_some_and(|age| age <= HEALTHY_AGE) && self.refused.is_none()
    }

    /// Whether this node signs what it mirrors.
    pub(crate) fn is_signing(&self) -> bool {
        let lately = self.signing.signed_at.is_some_and(|at| self.now.saturating_sub(at) <= ATTESTING_AGE);
        lately && self.signing.held_back.is_none() && self.mirror.attestable.is_some()
    }

    fn status(&self) -> &'static str {
        match self.mirror.phase {
            Phase::Rebuilding => "rebuilding",
            Phase::Disputed => "disputed",
            _ if self.healthy() => "ok",
            Phase::Syncing => "syncing",
            Phase::Following if self.served.is_some() => "stale",
            Phase::Following => "waiting for attestations",
        }
    }

    fn report(&self) -> Value {
        let mirror = &self.mirror;
        json!({
            "status": self.status(),
            "head": mirror.latest.map(place),
            "final": mirror.base.map(place),
            "lag": self.lag(),
            "root_check": mirror.attestable.map(|head| place(head.position)),
            "served": self.served.as_ref().map(|head| json!({
                "number": head.position.number,
                "hash": head.position.hash.to_string(),
                "attested_at": head.attested_at,
                "age": self.age(),
                "attestations": head.attestations.len(),
                "refused": self.refused,
            })),
            "attesting": self.is_signing(),
            "signing": json!({
                "member": self.signing.member,
                "last": self.signing.last,
                "held_back": self.signing.held_back,
                "epoch_kept": self.signing.kept,
            }),
            "faults": self
                .faults
                .iter()
                .map(|(member, fault)| evidence(*member, fault, self.reports.get(member)))
                .collect::<Vec<_>>(),
            "mirror": json!({
                "bytes": self.size.map(|size| size.bytes),
                "slots": self.size.map(|size| size.slots),
                "rebuilds": mirror.generation,
                "beside": mirror.beside,
            }),
            "spec": json!({
                "version": self.spec.0,
                "hash": self.spec.1.to_string(),
                "good_until": self.spec.2,
            }),
            "peers": self.counts.peers,
            "connections": self.counts.connections,
            "reservations": self.counts.reservations,
            "circuits": self.counts.circuits,
            "relayed_bytes": self.relayed.total(),
            "routes": self.counts.routes,
            "nodes": self.counts.dht.nodes,
            "providers": self.providers,
            "unproven": mirror.unproven,
            "trouble": mirror.trouble,
        })
    }
}

/// A fault with the call of NodeStaking that convicts its member, and what became of our own report of it.
fn evidence(member: Address, fault: &Fault, report: Option<&Report>) -> Value {
    json!({
        "member": member.to_string(),
        "number": fault.number,
        "hashes": [fault.one.0.to_string(), fault.other.0.to_string()],
        "report": call_of(member, fault).to_string(),
        "outcome": report.map(outcome),
    })
}

fn outcome(report: &Report) -> Value {
    match report {
        Report::Sent { transaction, attempts } => {
            json!({ "state": "sent", "transaction": transaction.to_string(), "attempts": attempts })
        }
        Report::Convicted { transaction, block } => {
            json!({ "state": "convicted", "transaction": transaction.to_string(), "block": block })
        }
        Report::Closed { reason, attempts } => {
            json!({ "state": "closed", "reason": reason, "attempts": attempts })
        }
        Report::Waiting { reason, attempts } => {
            json!({ "state": "waiting", "reason": reason, "attempts": attempts })
        }
    }
}

fn place(position: Position) -> Value {
    json!({ "number": position.number, "hash": position.hash.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_a_foreign_page_may_have_chosen_is_told_from_this_machine() {
        for local in ["127.0.0.1:9090", "localhost", "LOCALHOST:1", "[::1]:9090", "[::1]", "192.168.1.4:80"] {
            assert!(is_local(local), "{local}");
        }
        for foreign in ["evil.example:9090", "localhost.evil.example", "", "127.0.0.1.evil.example", "[evil]"]
        {
            assert!(!is_local(foreign), "{foreign}");
        }
    }
}
