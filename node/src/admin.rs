//! The HTTP listener for whoever runs the node: `/health`.
//!
//! It reads what other tasks publish and changes nothing. 200 while the node can prove something that is
//! fresh, 503 otherwise, the same JSON either way.

use crate::chain::Providers;
use crate::clock::unix_seconds;
use crate::follower::{MirrorState, Phase};
use crate::limits::HEALTHY_AGE;
use crate::network::NetworkStats;
use crate::serve::{RouteBook, Served};
use crate::store::Position;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use windlass_p2p::Control;

/// What health is read from.
#[derive(Clone)]
pub struct Gauges {
    /// The follower's state.
    pub mirror: watch::Receiver<MirrorState>,
    /// The served head.
    pub served: Served,
    /// Whether this node is in the committee.
    pub member: bool,
    /// The network's counts.
    pub network: Arc<NetworkStats>,
    /// Who is connected.
    pub control: Control,
    /// How the chain providers do.
    pub providers: Arc<Providers>,
    /// The routes kept.
    pub routes: Arc<RouteBook>,
}

/// Serves until cancelled.
pub async fn run(listener: TcpListener, gauges: Gauges, cancelled: CancellationToken) {
    let router = Router::new().route("/health", get(health)).with_state(gauges);
    let stop = async move { cancelled.cancelled().await };
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop).await {
        tracing::error!(%error, "the admin listener failed");
    }
}

async fn health(State(gauges): State<Gauges>) -> impl IntoResponse {
    let (healthy, report) = gauges.report(unix_seconds());
    let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report))
}

impl Gauges {
    /// Whether the node can prove something fresh, and the whole report.
    fn report(&self, now: u64) -> (bool, Value) {
        let mirror = self.mirror.borrow().clone();
        let served = self.served.borrow().clone();
        let age = served.as_ref().map(|head| now.saturating_sub(head.attested_at));
        let healthy = age.is_some_and(|age| age <= HEALTHY_AGE);
        let status = match mirror.phase {
            Phase::Rebuilding => "rebuilding",
            _ if healthy => "ok",
            Phase::Syncing => "syncing",
            Phase::Following if served.is_some() => "stale",
            Phase::Following => "waiting for attestations",
        };
        let lag = mirror
            .latest
            .zip(served.as_ref())
            .map(|(latest, head)| latest.number.saturating_sub(head.position.number));
        let report = json!({
            "status": status,
            "head": mirror.latest.map(place),
            "final": mirror.base.map(place),
            "lag": lag,
            "root_check": mirror.attestable.map(|head| place(head.position)),
            "served": served.as_ref().map(|head| json!({
                "number": head.position.number,
                "hash": head.position.hash.to_string(),
                "attested_at": head.attested_at,
                "age": age,
                "attestations": head.attestations.len(),
            })),
            "attesting": self.member && mirror.attestable.is_some(),
            "peers": self.control.connected_peers().len(),
            "connections": self.network.connections(),
            "reservations": self.network.reservations(),
            "circuits": self.network.circuits(),
            "routes": self.routes.len(),
            "providers": self.providers.health(),
            "trouble": mirror.trouble,
        });
        (healthy, report)
    }
}

fn place(position: Position) -> Value {
    json!({ "number": position.number, "hash": position.hash.to_string() })
}
