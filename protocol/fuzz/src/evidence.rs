//! Verifiers: whatever is done to evidence, nothing but what was proven is believed.

use crate::Target;
use crate::codecs::{route, ticket};
use crate::world::{self, NOW, SERVICE, device, epoch, key};
use windlass_protocol::bundle::{Bundle, open_bundle, verify_bundle};
use windlass_protocol::committee::{Committee, CommitteeStep, Committees, verify_step};
use windlass_protocol::head::Trust;
use windlass_protocol::message::MAX_FRAME;
use windlass_protocol::message::resolve::Response;
use windlass_protocol::question::{Question, Target as Asked};
use windlass_protocol::route::{SignedRoute, verify_route};
use windlass_protocol::slot::Slot;
use windlass_protocol::spec::{MAX_SPEC_BYTES, verify_renewal, verify_spec};
use windlass_protocol::ticket::{SignedTicket, verify_ticket};
use windlass_protocol::trie::{self, MemoryStore, verify_multiproof, verify_proof};
use windlass_protocol::{B256, Bytes, wire};

pub(crate) fn targets() -> Vec<Target> {
    vec![
        Target { name: "bundle", run: bundle, seeds: || vec![wire::encode(&world::bundle(&asked()))] },
        Target { name: "step", run: step, seeds: || vec![wire::encode(&Response::Step(next_committee()))] },
        Target { name: "spec", run: spec, seeds: || vec![world::signed(1), world::signed(2)] },
        Target { name: "route", run: signed_route, seeds: || vec![route().to_bytes()] },
        Target { name: "ticket-proof", run: signed_ticket, seeds: || vec![ticket().to_bytes()] },
        Target { name: "proof", run: proof, seeds: proofs },
    ]
}

/// The slots that connecting as device 21 to the lamp leads to, in the order they are asked for.
fn asked() -> Vec<Slot> {
    let mut slots = Vec::new();
    let mut collect = |slot: Slot| -> Result<B256, std::convert::Infallible> {
        slots.push(slot);
        Ok(world::value(slot))
    };
    let expanded = question().expand(NOW, &mut collect);
    assert!(expanded.is_ok(), "the world is as the layout says");
    slots
}

fn question() -> Question {
    Question::Open { target: Asked::Name(world::lamp()), caller: device(21), service: SERVICE }
}

/// A bundle that verifies says of every slot what the registry holds, whatever was done to its bytes.
fn bundle(bytes: &[u8]) -> bool {
    let Ok(bundle) = wire::decode::<Bundle>(bytes, MAX_FRAME) else { return false };
    let spec = world::verified();
    let committee = Committee::first(&spec);
    let trust = Trust { spec: &spec, committee: &committee, now: Some(NOW), nonce: None };
    let Ok(mut open) = open_bundle(&trust, &bundle) else { return false };
    let timestamp = open.head().header().timestamp;
    assert_eq!(timestamp, NOW, "a header that nobody signed");
    if question().expand(timestamp, &mut |slot| open.value(slot)).is_err() {
        return false;
    }
    let Ok(verified) = open.finish() else { return false };
    for (slot, value) in verified.values() {
        assert_eq!(*value, world::value(*slot), "{slot:?} is proven to be what it isn't");
    }
    // And once more in its own words.
    assert!(verify_bundle(&trust, &bundle, &asked()).is_ok());
    true
}

/// From yesterday's committee over today, for which nobody was proposed, to tomorrow's.
fn next_committee() -> CommitteeStep {
    let slots: Vec<Slot> = (epoch()..=epoch() + 1).map(Slot::Committee).collect();
    CommitteeStep { bundle: world::bundle(&slots), last: epoch() + 1, members: world::members(&[4, 5, 6]) }
}

/// A step that verifies leads to tomorrow's committee, or says that today's is yesterday's.
fn step(bytes: &[u8]) -> bool {
    let Ok(Response::Step(step)) = wire::decode::<Response>(bytes, MAX_FRAME) else { return false };
    let spec = world::verified();
    let committees = Committees::first(&spec);
    let Ok(verified) = verify_step(&spec, &committees, Some(NOW), &step) else { return false };
    match verified.next() {
        Some(members) => {
            assert_eq!((verified.last(), members), (epoch() + 1, &world::members(&[4, 5, 6])[..]));
        }
        None => assert_eq!(verified.last(), epoch(), "nobody steps over a proposal"),
    }
    true
}

/// Only what its publisher signed is a spec, and only the higher version succeeds.
fn spec(bytes: &[u8]) -> bool {
    let present = world::verified();
    let verified = verify_spec(bytes, key(9).address());
    if bytes.len() > MAX_SPEC_BYTES {
        assert!(verified.is_err());
    }
    let renewed = verify_renewal(bytes, &present, NOW);
    let Ok(verified) = verified else {
        assert!(renewed.is_err());
        return false;
    };
    let known = [1, 2].map(world::spec);
    assert!(known.contains(&verified), "a spec that nobody signed");
    assert_eq!(renewed.is_ok(), verified.version == 2);
    true
}

/// Only what the device signed is its route.
fn signed_route(bytes: &[u8]) -> bool {
    let Ok(signed) = SignedRoute::from_bytes(bytes) else { return false };
    // Anybody may look at what it claims.
    let claimed = signed.claimed();
    let spec = world::spec(1);
    let Ok(verified) = verify_route(&spec, &signed, device(20), &world::record(20), NOW) else {
        return false;
    };
    assert_eq!(claimed.as_ref(), Ok(verified.route()));
    assert_eq!(Ok(verified.route()), route().claimed().as_ref(), "a route that nobody signed");
    true
}

/// Only what the device signed is its ticket.
fn signed_ticket(bytes: &[u8]) -> bool {
    let Ok(signed) = SignedTicket::from_bytes(bytes) else { return false };
    let verified = verify_ticket(&signed, &world::spec(1), &world::record(20), |_| None, NOW);
    if verified.is_ok() {
        assert_eq!(signed.ticket, ticket().ticket, "a ticket that nobody signed");
    }
    verified.is_ok()
}

const KEYS: u8 = 40;

fn trie_key(number: u8) -> B256 {
    windlass_protocol::keccak256([number])
}

/// A trie of a few dozen keys, and its root.
fn trie() -> (MemoryStore, B256) {
    let mut store = MemoryStore::new();
    let changes = (0..KEYS).map(|number| (trie_key(number), Some(vec![0x81, 0x80 + number]))).collect();
    let root = trie::update(&mut store, trie::ACCOUNT_TRIE, &changes).expect("a fresh trie");
    (store, root)
}

/// Each trie node behind its length, a big-endian u16.
fn packed(nodes: &[Bytes]) -> Vec<u8> {
    nodes.iter().flat_map(|node| [&(node.len() as u16).to_be_bytes()[..], node].concat()).collect()
}

fn unpacked(mut bytes: &[u8]) -> Vec<Bytes> {
    let mut nodes = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        nodes.push(Bytes::copy_from_slice(&rest[..length]));
        bytes = &rest[length..];
    }
    nodes
}

fn proofs() -> Vec<Vec<u8>> {
    let (store, _) = trie();
    let prove =
        |number| trie::prove(&store, trie::ACCOUNT_TRIE, &trie_key(number)).expect("all of it is there");
    let both = trie::prove_all(&store, trie::ACCOUNT_TRIE, &[trie_key(0), trie_key(KEYS)]);
    vec![packed(&prove(0)), packed(&prove(KEYS)), packed(&both.expect("all of it is there"))]
}

/// Key 0 is in the trie and the next one after the last is not, whatever nodes are shown.
fn proof(bytes: &[u8]) -> bool {
    let (_, root) = trie();
    let nodes = unpacked(bytes);
    let (there, absent) = (trie_key(0), trie_key(KEYS));
    let value = Some(vec![0x81, 0x80]);
    let one = verify_proof(root, &there, &nodes);
    let none = verify_proof(root, &absent, &nodes);
    let both = verify_multiproof(root, &[there, absent], &nodes);
    assert!(one.as_ref().is_err() || one.as_ref() == Ok(&value), "{one:?}");
    assert!(none.as_ref().is_err() || none.as_ref() == Ok(&None), "{none:?}");
    let told = Ok(vec![value, None]);
    assert!(both.is_err() || both == told, "{both:?}");
    one.is_ok() || none.is_ok() || both.is_ok()
}
