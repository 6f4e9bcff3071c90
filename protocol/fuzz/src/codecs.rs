//! Decoders: whatever one takes, it takes again in its own encoding, for the same.

use crate::Target;
use crate::world::{self, EPOCH, FLEET, NOW, SERVICE, device, key};
use rlp::{Decodable, Encodable};
use std::fmt::Debug;
use windlass_protocol::authorise::{Claim, Refusal};
use windlass_protocol::committee::CommitteeStep;
use windlass_protocol::head::Attestation;
use windlass_protocol::header::Header;
use windlass_protocol::message::MAX_FRAME;
use windlass_protocol::message::head::HeadMessage;
use windlass_protocol::message::nodes::{
    MAX_NODES_ANSWER_BYTES, MAX_NODES_REQUEST_BYTES, NodeAt, NodesAnswer, NodesRequest,
};
use windlass_protocol::message::resolve::{MAX_REQUEST_BYTES, Reason, Request, Response};
use windlass_protocol::message::route::{MAX_ROUTE_MESSAGE_BYTES, RouteRefusal, RouteRequest, RouteResponse};
use windlass_protocol::message::stream::{MAX_OPEN_BYTES, MAX_REPLY_BYTES, Open, Reply};
use windlass_protocol::message::watch::{FromNode, Push, TailNotice, Watch};
use windlass_protocol::peer_id;
use windlass_protocol::question::{Question, Target as Asked};
use windlass_protocol::record::{DeviceRecord, FleetRecord, GrantRecord, KeyRecord, NameRecord, NodeRecord};
use windlass_protocol::route::{Route, SignedRoute};
use windlass_protocol::slot::Slot;
use windlass_protocol::ticket::{SignedTicket, SignedVoucher, Ticket, Voucher};
use windlass_protocol::trie::{Account, decode_slot_value, encode_slot_value};
use windlass_protocol::{B256, Bytes, DeviceId, KeyAddress, Name, Service, Signature, U256, wire};

pub(crate) fn targets() -> Vec<Target> {
    [messages(), records(), primitives()].concat()
}

/// Decodes, and what came of it must come of its own encoding as well.
fn codec<T: Decodable + Encodable + PartialEq + Debug>(bytes: &[u8], limit: usize) -> bool {
    let Ok(value) = wire::decode::<T>(bytes, limit) else { return false };
    let again = wire::decode::<T>(&wire::encode(&value), usize::MAX);
    assert_eq!(again.as_ref(), Ok(&value), "decoded to something else than was encoded");
    true
}

fn seeds<T: Encodable>(values: &[T]) -> Vec<Vec<u8>> {
    values.iter().map(wire::encode).collect()
}

/// `/ip4/127.0.0.1/tcp/4001`.
const NODE_AT: [u8; 8] = [4, 127, 0, 0, 1, 6, 0x0f, 0xa1];

fn messages() -> Vec<Target> {
    vec![
        Target {
            name: "request",
            run: |bytes| codec::<Request>(bytes, MAX_REQUEST_BYTES),
            seeds: || {
                let nonce = Some(B256::repeat_byte(7));
                seeds(&[
                    Request::of(questions()),
                    Request::default(),
                    Request { questions: Vec::new(), nonce },
                ])
            },
        },
        Target { name: "response", run: |bytes| codec::<Response>(bytes, MAX_FRAME), seeds: responses },
        Target {
            name: "watch",
            run: |bytes| codec::<Watch>(bytes, MAX_FRAME),
            seeds: || seeds(&[Watch { add: vec![slot(), Slot::FleetCount], drop: vec![Slot::Fleet(FLEET)] }]),
        },
        Target { name: "from-node", run: |bytes| codec::<FromNode>(bytes, MAX_FRAME), seeds: pushes },
        Target {
            name: "head",
            run: |bytes| codec::<HeadMessage>(bytes, MAX_FRAME),
            seeds: || {
                let (number, hash) = (9, B256::repeat_byte(3));
                seeds(&[
                    HeadMessage::Attested { number, hash, attestation: attestation() },
                    HeadMessage::Report { number, hash },
                    HeadMessage::Challenge { number, hash, nonce: B256::repeat_byte(4) },
                ])
            },
        },
        Target {
            name: "route-request",
            run: |bytes| codec::<RouteRequest>(bytes, MAX_ROUTE_MESSAGE_BYTES),
            seeds: || seeds(&[RouteRequest::Publish(route()), RouteRequest::Fetch(device(20))]),
        },
        Target {
            name: "route-response",
            run: |bytes| codec::<RouteResponse>(bytes, MAX_ROUTE_MESSAGE_BYTES),
            seeds: || {
                seeds(&[
                    RouteResponse::Found(route()),
                    RouteResponse::Kept,
                    RouteResponse::NotFound,
                    RouteResponse::Refused(RouteRefusal::NotActive),
                ])
            },
        },
        Target {
            name: "nodes-request",
            run: |bytes| codec::<NodesRequest>(bytes, MAX_NODES_REQUEST_BYTES),
            seeds: || seeds(&[NodesRequest { device: device(20), addresses: vec![NODE_AT.into()] }]),
        },
        Target {
            name: "nodes-answer",
            run: |bytes| codec::<NodesAnswer>(bytes, MAX_NODES_ANSWER_BYTES),
            seeds: || {
                let node = NodeAt { key: key(21).public_key(), addresses: vec![NODE_AT.into(); 2] };
                seeds(&[NodesAnswer::default(), NodesAnswer { route: Some(route()), nodes: vec![node] }])
            },
        },
        Target { name: "open", run: |bytes| codec::<Open>(bytes, MAX_OPEN_BYTES), seeds: opens },
        Target {
            name: "reply",
            run: |bytes| codec::<Reply>(bytes, MAX_REPLY_BYTES),
            seeds: || seeds(&[Reply::Accepted, Reply::Refused(Refusal::NoGrant), Reply::RefusedUnknown(200)]),
        },
        Target {
            name: "ticket",
            run: |bytes| codec::<SignedTicket>(bytes, MAX_FRAME),
            seeds: || vec![ticket().to_bytes()],
        },
        Target {
            name: "voucher",
            run: |bytes| codec::<SignedVoucher>(bytes, MAX_FRAME),
            seeds: || {
                let voucher = Voucher { fleet: FLEET, node: device(3).0, total: U256::from(1_u64 << 40) };
                vec![voucher.sign(&world::spec(1), &key(5)).to_bytes()]
            },
        },
    ]
}

fn questions() -> Vec<Question> {
    let target = Asked::Name(world::lamp());
    vec![
        Question::Target(target.clone()),
        Question::Target(Asked::Device(device(20))),
        Question::Reverse(device(20).0),
        Question::Key(key(20).address()),
        Question::Fleet(FLEET),
        Question::Grant(B256::repeat_byte(1)),
        Question::Node(device(3).0),
        Question::Committee(3),
        Question::Open { target, caller: device(21), service: SERVICE },
        Question::Slot(slot()),
        Question::Spec(1),
    ]
}

fn responses() -> Vec<Vec<u8>> {
    let bundle = world::bundle(&[slot()]);
    let step = CommitteeStep { bundle: bundle.clone(), last: 5, members: world::members(&[4, 5]) };
    seeds(&[
        Response::Proven { bundle, routes: vec![route()] },
        Response::Refused { reason: Reason::RateLimited, text: "slow down".to_owned() },
        Response::Step(step),
        Response::Spec(world::signed(2).into()),
        Response::Spec(Bytes::new()),
    ])
}

fn pushes() -> Vec<Vec<u8>> {
    let slots = vec![slot()];
    let notice = TailNotice { number: 9, hash: B256::repeat_byte(7), slots: vec![(slot(), B256::ZERO)] };
    seeds(&[FromNode::Push(Push { bundle: world::bundle(&slots), slots }), FromNode::Notice(notice)])
}

fn opens() -> Vec<Vec<u8>> {
    let staple = world::bundle(&[slot()]);
    let open = |claim| Open { service: SERVICE, claim, stream_id: 0, offset: 0, staple: staple.clone() };
    seeds(&[Claim::Unenrolled, Claim::Device(device(21)), Claim::Granted(device(21), 3)].map(open))
}

fn slot() -> Slot {
    Slot::Device(device(20))
}

fn attestation() -> Attestation {
    world::bundle(&[]).attestations[0]
}

pub(crate) fn route() -> SignedRoute {
    let spec = world::spec(1);
    let route = Route {
        chain_id: spec.chain_id,
        genesis_hash: spec.genesis_hash,
        device: device(20),
        seq: NOW * 1_000,
        issued_at: NOW,
        ttl: 600,
        // /ip4/127.0.0.1/tcp/4001/p2p/ and the peer id of key 3.
        relays: vec![relay()],
        direct: vec![Bytes::from_static(&[4, 127, 0, 0, 1, 6, 0x0f, 0xa1])],
    };
    SignedRoute::sign(&route, &key(20))
}

fn relay() -> Bytes {
    let id = peer_id::encode(&key(3).public_key());
    let mut bytes = vec![4, 127, 0, 0, 1, 6, 0x0f, 0xa1, 0xa5, 0x03, id.len() as u8];
    bytes.extend_from_slice(&id);
    bytes.into()
}

pub(crate) fn ticket() -> SignedTicket {
    let ticket = Ticket {
        fleet: FLEET,
        node: device(3).0,
        device: device(20),
        bytes_total: 1 << 40,
        conns_total: 7,
        issued_at: NOW - EPOCH,
    };
    ticket.sign(&world::spec(1), &key(20))
}

/// A record's 32 bytes: what is taken is encoded as it was.
macro_rules! record {
    ($name:literal, $record:ty, $seeds:expr) => {
        Target {
            name: $name,
            run: |bytes| {
                let Ok(word) = B256::try_from(bytes) else { return false };
                let Ok(record) = <$record>::decode(&word) else { return false };
                let again = record.as_ref().map_or(B256::ZERO, <$record>::encode);
                assert_eq!(<$record>::decode(&again).as_ref(), Ok(&record));
                true
            },
            seeds: || {
                let seeds: Vec<B256> = $seeds;
                seeds.into_iter().chain([B256::ZERO]).map(|word| word.to_vec()).collect()
            },
        }
    };
}

fn records() -> Vec<Target> {
    vec![
        record!("device-record", DeviceRecord, vec![world::value(Slot::Device(device(20)))]),
        record!("fleet-record", FleetRecord, vec![world::value(Slot::Fleet(FLEET))]),
        record!("name-record", NameRecord, vec![world::value(Slot::Name(world::lamp().label_hash()))]),
        record!("grant-record", GrantRecord, vec![B256::left_padding_from(&[1; 17])]),
        record!("key-record", KeyRecord, vec![B256::left_padding_from(&[1; 20])]),
        record!("node-record", NodeRecord, vec![B256::left_padding_from(&[1; 12])]),
    ]
}

fn primitives() -> Vec<Target> {
    vec![
        Target {
            name: "header",
            run: |bytes| Header::decode(bytes).is_ok(),
            seeds: || vec![world::bundle(&[]).header.to_vec()],
        },
        Target {
            name: "account",
            run: |bytes| {
                let Ok(account) = Account::decode(bytes) else { return false };
                // There is one encoding of an account and no other.
                assert_eq!(account.encode(), bytes);
                true
            },
            seeds: || {
                vec![Account::default().encode(), Account { nonce: 300, ..Account::default() }.encode()]
            },
        },
        Target {
            name: "slot-value",
            run: |bytes| {
                let Ok(value) = decode_slot_value(bytes) else { return false };
                assert_eq!(encode_slot_value(&value), bytes);
                true
            },
            seeds: || [B256::with_last_byte(1), B256::repeat_byte(9)].iter().map(encode_slot_value).collect(),
        },
        Target {
            name: "peer-id",
            run: |bytes| {
                let Ok(key) = peer_id::decode(bytes) else { return false };
                assert_eq!(peer_id::encode(&key), bytes);
                true
            },
            seeds: || vec![peer_id::encode(&key(3).public_key()).to_vec()],
        },
        Target {
            name: "signature",
            run: |bytes| {
                let Ok(signature) = Signature::from_bytes(bytes) else { return false };
                assert_eq!(signature.as_bytes(), bytes);
                // Whatever it recovers to, it does so without harm.
                let _ = signature.recover(&B256::repeat_byte(5));
                true
            },
            seeds: || vec![key(1).sign(&B256::repeat_byte(5)).as_bytes().to_vec()],
        },
        Target {
            name: "texts",
            run: texts,
            seeds: || texts_seeds().map(|text| text.as_bytes().to_vec()).to_vec(),
        },
    ]
}

fn texts_seeds() -> [&'static str; 6] {
    ["pump-7", "tcp/8080", "udp/53", "8080", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "xn-a"]
}

/// What people write: whatever is read is written so that it is read for the same.
fn texts(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    fn read<T: std::str::FromStr + ToString + PartialEq + Debug>(text: &str) -> bool {
        let Ok(value) = text.parse::<T>() else { return false };
        let again = value.to_string().parse::<T>().ok();
        assert_eq!(again.as_ref(), Some(&value), "written so that something else is read: {text:?}");
        true
    }
    let read = [
        read::<Name>(&text),
        read::<Service>(&text),
        read::<DeviceId>(&text),
        read::<KeyAddress>(&text),
        read::<Asked>(&text),
    ];
    read.contains(&true)
}
