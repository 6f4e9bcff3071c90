//! What `/metrics` says: the numbers of `/health` in the OpenMetrics text format, read at the moment they are
//! asked for.

use crate::admin::Vitals;
use crate::dht::DhtCounts;
use crate::evidence::Report;
use crate::limits::METRICS_DEVICES;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The format that [`render`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type ByUrl = Vec<(&'static str, String)>;

/// All numbers as text.
pub fn render(vitals: &Vitals) -> String {
    let mut registry = Registry::with_prefix("windlass");
    heads(&mut registry, vitals);
    mirror(&mut registry, vitals);
    providers(&mut registry, vitals);
    let counts = vitals.counts;
    gauge(&mut registry, "peers", "Connected peers", Some(counts.peers as u64));
    gauge(&mut registry, "connections", "Established connections", Some(counts.connections as u64));
    gauge(&mut registry, "reservations", "Devices that hold a reservation", Some(counts.reservations as u64));
    gauge(&mut registry, "circuits", "Circuits carried", Some(counts.circuits as u64));
    gauge(&mut registry, "routes", "Routes kept", Some(counts.routes as u64));
    dht(&mut registry, &counts.dht);
    relay(&mut registry, vitals);
    let mut text = String::new();
    // Writing into memory can't fail.
    let _ = encode(&mut text, &registry);
    text
}

fn heads(registry: &mut Registry, vitals: &Vitals) {
    let mirror = &vitals.mirror;
    let served = vitals.served.as_ref();
    gauge(registry, "healthy", "1 while something fresh can be proven", Some(u64::from(vitals.healthy())));
    gauge(registry, "head", "The newest block of the chain", mirror.latest.map(|head| head.number));
    gauge(registry, "final_head", "The last final block in the mirror", mirror.base.map(|base| base.number));
    gauge(
        registry,
        "served_head",
        "The block that answers are proven under",
        served.map(|head| head.position.number),
    );
    gauge(registry, "lag_blocks", "Blocks from the served head to the newest one", vitals.lag());
    gauge(registry, "attestation_age_seconds", "Since a threshold vouched for the served head", vitals.age());
    let checked = mirror.attestable.map(|head| head.position.number);
    gauge(
        registry,
        "root_checked_head",
        "The last block whose storage root the mirror was seen to have",
        checked,
    );
    gauge(registry, "committee_member", "1 if this node may sign", Some(u64::from(vitals.signing.member)));
    gauge(registry, "signing", "1 while this node signs", Some(u64::from(vitals.is_signing())));
    gauge(
        registry,
        "member_faults",
        "Members known to have signed two blocks at one number",
        Some(vitals.faults.len() as u64),
    );
    gauge(registry, "spec_version", "The version of the chain spec in use", Some(vitals.spec.0));
    gauge(
        registry,
        "spec_good_until_seconds",
        "Unix seconds until which the chain spec lets fresh devices in",
        Some(vitals.spec.2),
    );
    let convicted =
        vitals.reports.values().filter(|report| matches!(report, Report::Convicted { .. })).count();
    gauge(
        registry,
        "member_convictions",
        "Members that were convicted on this node's report",
        Some(convicted as u64),
    );
    let given_up = vitals.reports.values().filter(|report| matches!(report, Report::Closed { .. })).count();
    gauge(
        registry,
        "member_reports_closed",
        "Members with a fault that this node doesn't report, or no more",
        Some(given_up as u64),
    );
    gauge(registry, "signed_head", "The highest block this node signed", vitals.signing.last);
}

fn mirror(registry: &mut Registry, vitals: &Vitals) {
    gauge(registry, "mirror_bytes", "Size of the data directory", vitals.size.map(|size| size.bytes));
    gauge(registry, "mirror_slots", "Versions of slots, estimated", vitals.size.map(|size| size.slots));
    let trie_nodes = vitals.size.map(|size| size.trie_nodes);
    gauge(registry, "mirror_trie_nodes", "Versions of trie nodes, estimated", trie_nodes);
    let rebuilds = Counter::<u64>::default();
    rebuilds.inc_by(vitals.mirror.generation);
    registry.register("mirror_rebuilds", "Times that the mirror contradicted the chain", rebuilds);
}

fn providers(registry: &mut Registry, vitals: &Vitals) {
    let (failures, contradictions) =
        (Family::<ByUrl, Counter>::default(), Family::<ByUrl, Counter>::default());
    let (preferred, newest) = (Family::<ByUrl, Gauge>::default(), Family::<ByUrl, Gauge>::default());
    for provider in &vitals.providers {
        let url = vec![("url", provider.url.clone())];
        failures.get_or_create(&url).inc_by(provider.failures);
        contradictions.get_or_create(&url).inc_by(provider.contradictions);
        preferred.get_or_create(&url).set(i64::from(provider.preferred));
        newest.get_or_create(&url).set(i64::try_from(provider.newest).unwrap_or(i64::MAX));
    }
    registry.register("provider_failures", "Failed or false answers of a chain provider", failures);
    registry.register(
        "provider_contradictions",
        "Times a provider had another final block than the one it was compared with",
        contradictions,
    );
    registry.register("provider_head", "The newest block a chain provider was seen to have", newest);
    registry.register("provider_preferred", "1 for the chain provider that is asked first", preferred);
}

fn dht(registry: &mut Registry, counts: &DhtCounts) {
    gauge(registry, "nodes", "Registered nodes that are known, besides this one", Some(counts.nodes));
    for (name, help, value) in [
        ("route_walks", "Times that other nodes were asked for a route", counts.walks),
        ("route_walks_found", "Those that found one", counts.found),
        ("routes_placed", "Routes of devices here that another node took", counts.placed),
        (
            "node_answers_refused",
            "Answers of nodes that were none, or held a route that isn't one",
            counts.refused,
        ),
    ] {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    }
}

/// What each device sent into the relay: those that sent most by name, in the address of their keys.
fn relay(registry: &mut Registry, vitals: &Vitals) {
    let bytes = Family::<Vec<(&'static str, String)>, Counter>::default();
    let mut devices: Vec<_> = vitals.relayed.by_peer.iter().filter(|(_, sent)| *sent > 0).collect();
    devices.sort_unstable_by_key(|(peer, sent)| (std::cmp::Reverse(*sent), *peer));
    let mut others = vitals.relayed.others;
    for (place, (peer, sent)) in devices.into_iter().enumerate() {
        match windlass_p2p::identity::key_address_of(peer) {
            Ok(key) if place < METRICS_DEVICES => {
                bytes.get_or_create(&vec![("device", key.to_string())]).inc_by(*sent);
            }
            _ => others = others.saturating_add(*sent),
        }
    }
    bytes.get_or_create(&vec![("device", "others".to_owned())]).inc_by(others);
    registry.register("relayed_bytes", "Bytes that devices sent into the relay, by their keys", bytes);
    let refused = Counter::<u64>::default();
    refused.inc_by(vitals.relay_refused);
    registry.register("relay_refused", "Requests that the relay refused", refused);
    gauge(
        registry,
        "relay_buffer_bytes",
        "Memory that relayed bytes pass through",
        Some(vitals.relay_buffer_bytes),
    );
}

/// A number that isn't known is left out.
fn gauge(registry: &mut Registry, name: &'static str, help: &'static str, value: Option<u64>) {
    let Some(value) = value else { return };
    let gauge = Gauge::<i64>::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    registry.register(name, help, gauge);
}
