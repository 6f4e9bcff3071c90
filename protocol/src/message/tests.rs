#![allow(clippy::unwrap_used)]
//! Every codec: golden bytes, round trip, and no panic on any input.

use super::MAX_FRAME;
use super::head::HeadMessage;
use super::resolve::{Reason, Request, Response};
use super::route::{RouteRefusal, RouteRequest, RouteResponse};
use super::stream::{Open, Reply};
use super::watch::{FromNode, Push, TailNotice, Watch};
use crate::address::{DeviceId, KeyAddress};
use crate::authorise::{Claim, Refusal};
use crate::bundle::Bundle;
use crate::head::Attestation;
use crate::question::{MAX_QUESTIONS, Question, Target};
use crate::route::{Route, SignedRoute};
use crate::service::Service;
use crate::slot::Slot;
use crate::spec::tests::key;
use crate::spec::{ChainSpec, SignedSpec};
use crate::wire::{decode, encode};
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use alloy_primitives::{Address, B256, Bytes, hex, keccak256};
use core::fmt::Debug;
use proptest::prelude::*;
use rlp::{Decodable, Encodable};

/// What [`golden_digests`] must find: any change here is a change of the wire format.
const GOLDEN: [&str; 26] = [
    "bundle e5ad898e73a879855a5cf917e3c88b755a68f07c4a86ddcdc0df9b9e098de6d1",
    "attestation 5bd5cb99acb10ff9fcf4711cc2542faf87a0e62b94d2a1962b339231f5e90671",
    "proven 832fdec99eae4200ca1f434a939520ba4b5ce71336bc6857ba5f77d5954ead0b",
    "declined 30c0ba48f16df9eaa8339b6b0cde917bdafa77b575e96d169ebcbc805986b4a2",
    "push e125b27be7afcb497cd7d4f984f176037d5d04ea91f3e95e5904326a6ff7ecb0",
    "attested 8aeedf03f30e7bfba021b71b399d07811be067c175d8179a16cfc848a1fdf88b",
    "publish 340a54f16546483ffc212d84e9e0042073b83f3c6c88a3f2e485095530e1120e",
    "fetch 827f1f00af8ab37346199e768fc7575a0c4dd5319bdc1602ace30bebe9a697f4",
    "found 6811c3d5ef6cc2fcd454d31f82453eb67db5eb7295b8f67c6c9d09c662c19924",
    "open, unenrolled bf4ee3d894ee806b1e800284d3330b5a98f6338bb9c996270da1d60fb7b0e698",
    "open, a device b7405ac2abf9a321fb9eee14727b540cadbb29c295383aa189f276cd3cce815e",
    "open, granted 8e87b2a076a1afbe6a787531cb86380e60b3da84b0fa7be36f63945c0fc2245b",
    "chain spec 5df1316c9e5f0f92728c1cdc344e34c7b5d6dc424f2561a82232d06cdb151c34",
    "signed spec e47aaedeb48e8cc4a37fc3da909b6e3644ca24af5f768a32c310836889a2bd27",
    "renewal 4fc306dee8099a2b2c79089061080f877d3c107601d51f475293b0f31a8b4d53",
    "question 0f9ab5d57404861f22ad3cd2197d60ed1e0690abe074a7a7724d2b13d67e9416",
    "question 696b3b76d060adfc0f075b889060568704c07ff730fa73afbfc4ad28b16eeb07",
    "question 827f1f00af8ab37346199e768fc7575a0c4dd5319bdc1602ace30bebe9a697f4",
    "question 3059b25449b39adfee1fbf4683549e5c009653a86b24093095bdb1dd66903462",
    "question c4b96190db7777d5860c2860ff70202f16234250059455ecefb0e5e00b859570",
    "question fcb2a9918e0a9cf1f1a0e9ddaf5980533fc6e5cf463bee151a62d7b193e5320b",
    "question ced9679f213be93a0f27e4d8a50ab01527552a2e13cb63750d5d383a80ddc708",
    "question 93a087a8824a89151527d13cff0bfc8abedecf36279b3bbf9acb18cc4f53895e",
    "question 7610a96cbabd04ae0fde3a6ce57066c17e6c1cb33b697cc1ac80948cae5105c4",
    "question 9f8737f4898370b4de4a7544ade0bfdfa2e4db9312249bdfef8ea9341ee6e25f",
    "question 58f64fa7cebd30803f12e7088da43b40e870a4e4e9694736c6a5ba81338bd0b2",
];

const WHO: DeviceId = DeviceId(Address::repeat_byte(0xab));

fn round_trip<T: Encodable + Decodable + PartialEq + Debug>(value: T) -> Vec<u8> {
    let bytes = encode(&value);
    assert_eq!(decode::<T>(&bytes, MAX_FRAME).unwrap(), value);
    for length in 0..bytes.len() {
        assert!(decode::<T>(&bytes[..length], MAX_FRAME).is_err(), "cut to {length}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(decode::<T>(&longer, MAX_FRAME).is_err());
    bytes
}

fn golden<T: Encodable + Decodable + PartialEq + Debug>(value: T, bytes: &str) {
    assert_eq!(hex::encode(round_trip(value)), bytes);
}

fn questions() -> Vec<Question> {
    vec![
        Question::Target(Target::Name("pump-7".parse().unwrap())),
        Question::Target(Target::Device(WHO)),
        Question::Reverse(WHO.0),
        Question::Key(KeyAddress(WHO.0)),
        Question::Fleet(7),
        Question::Grant(B256::repeat_byte(1)),
        Question::Node(WHO.0),
        Question::Committee(3),
        Question::Open { target: Target::Device(WHO), caller: WHO, service: Service::Stream(80) },
        Question::Slot(Slot::Fleet(7)),
        Question::Spec(1),
    ]
}

fn bundle() -> Bundle {
    let signature = key(1).sign(&keccak256(b"head"));
    Bundle {
        header: Bytes::from_static(&[0xc0]),
        attestations: vec![Attestation { attested_at: 5, nonce: B256::ZERO, signature }],
        account: vec![Bytes::from_static(&[1, 2])],
        storage: vec![Bytes::from_static(&[3]), Bytes::from_static(&[0x80, 4])],
    }
}

fn route() -> SignedRoute {
    let route = Route {
        chain_id: 1,
        genesis_hash: B256::ZERO,
        device: WHO,
        seq: 1,
        issued_at: 1,
        ttl: 1,
        relays: vec![Bytes::from_static(&[4])],
        direct: vec![],
    };
    SignedRoute::sign(&route, &key(1))
}

#[test]
fn golden_bytes() {
    golden(Request::default(), "c1c0");
    golden(Request::of(vec![Question::Fleet(7)]), "c4c3c20307");
    golden(Question::Target(Target::Name("pump-7".parse().unwrap())), "ca80c8808670756d702d37");
    golden(Question::Slot(Slot::FleetCount), &format!("e3080ca0{}", "00".repeat(32)));
    golden(Request::of(vec![Question::Spec(2)]), "c4c3c20902");
    golden(Response::Spec(Bytes::new()), "c20380");
    golden(Response::Spec(Bytes::from_static(&[0xc0])), "c30381c0");
    golden(Reply::Accepted, "c180");
    golden(Reply::Refused(Refusal::NoGrant), "c105");
    golden(RouteResponse::Kept, "c180");
    golden(RouteResponse::Refused(RouteRefusal::NotActive), "c20302");
    let nonce = B256::repeat_byte(1);
    golden(Request { questions: vec![], nonce: Some(nonce) }, &format!("e2c0a0{}", "01".repeat(32)));
    let challenge = HeadMessage::Challenge { number: 9, hash: B256::ZERO, nonce };
    golden(challenge, &format!("f84402 09a0{}a0{}", "00".repeat(32), "01".repeat(32)).replace(' ', ""));
    golden(HeadMessage::Report { number: 9, hash: B256::ZERO }, &format!("e30109a0{}", "00".repeat(32)));
    golden(Watch { add: vec![], drop: vec![] }, "c380c0c0");
}

/// keccak256 of an encoding that is too long to read.
fn digest<T: Encodable + Decodable + PartialEq + Debug>(value: T) -> B256 {
    keccak256(round_trip(value))
}

#[test]
fn golden_digests() {
    let open =
        |claim| Open { service: Service::Stream(80), claim, stream_id: 0, offset: 0, staple: bundle() };
    let attestation = bundle().attestations[0];
    let spec = crate::spec::tests::example();
    let mut digests: Vec<(&str, B256)> = vec![
        ("bundle", digest(bundle())),
        ("attestation", digest(attestation)),
        ("proven", digest(Response::Proven { bundle: bundle(), routes: vec![route()] })),
        ("declined", digest(Response::Refused { reason: Reason::RateLimited, text: "slow down".into() })),
        ("push", digest(Push { slots: vec![Slot::Device(WHO)], bundle: bundle() })),
        ("attested", digest(HeadMessage::Attested { number: 1, hash: B256::repeat_byte(1), attestation })),
        ("publish", digest(RouteRequest::Publish(route()))),
        ("fetch", digest(RouteRequest::Fetch(WHO))),
        ("found", digest(RouteResponse::Found(route()))),
        ("open, unenrolled", digest(open(Claim::Unenrolled))),
        ("open, a device", digest(open(Claim::Device(WHO)))),
        ("open, granted", digest(open(Claim::Granted(WHO, 11)))),
        ("chain spec", digest(spec.clone())),
        ("signed spec", digest(SignedSpec::sign(&spec, &key(1)))),
        ("renewal", digest(Response::Spec(SignedSpec::sign(&spec, &key(1)).to_bytes().into()))),
    ];
    digests.extend(questions().into_iter().map(|question| ("question", digest(question))));
    let shown: Vec<_> = digests.iter().map(|(name, digest)| format!("{name} {digest:x}")).collect();
    assert_eq!(shown, GOLDEN, "{shown:#?}");
}

#[test]
fn every_message_round_trips_and_is_refused_when_cut() {
    for question in questions() {
        round_trip(question);
    }
    round_trip(Request::of(questions()));
    round_trip(Response::Proven { bundle: bundle(), routes: vec![route()] });
    round_trip(Response::Refused { reason: Reason::RateLimited, text: "slow down".into() });
    round_trip(Watch { add: vec![Slot::Device(WHO)], drop: vec![Slot::Fleet(1)] });
    round_trip(Push { slots: vec![Slot::Device(WHO)], bundle: bundle() });
    let notice = TailNotice {
        number: 9,
        hash: B256::repeat_byte(7),
        slots: vec![(Slot::Device(WHO), B256::ZERO), (Slot::FleetCount, B256::repeat_byte(1))],
    };
    round_trip(FromNode::Notice(notice.clone()));
    round_trip(notice);
    round_trip(FromNode::Push(Push { slots: vec![Slot::Device(WHO)], bundle: bundle() }));
    let attestation = bundle().attestations[0];
    round_trip(HeadMessage::Attested { number: 1, hash: B256::repeat_byte(1), attestation });
    round_trip(RouteRequest::Publish(route()));
    round_trip(RouteRequest::Fetch(WHO));
    round_trip(RouteResponse::Found(route()));
    round_trip(RouteResponse::NotFound);
    for claim in [Claim::Unenrolled, Claim::Device(WHO), Claim::Granted(WHO, 0), Claim::Granted(WHO, 11)] {
        let (stream_id, offset) = (0, 0);
        round_trip(Open { service: Service::Stream(80), claim, stream_id, offset, staple: bundle() });
    }
    round_trip(Reply::RefusedUnknown(200));
}

#[test]
fn more_questions_or_slots_than_allowed_are_refused() {
    let request = Request::of(vec![Question::Fleet(1); MAX_QUESTIONS + 1]);
    assert!(decode::<Request>(&encode(&request), MAX_FRAME).is_err());
    let watch = Watch { add: vec![Slot::Fleet(1); super::watch::MAX_WATCH_FRAME_SLOTS + 1], drop: vec![] };
    assert!(decode::<Watch>(&encode(&watch), MAX_FRAME).is_err());
}

#[test]
fn a_spec_longer_than_any_is_refused_before_it_is_kept() {
    let answer = |bytes: usize| encode(&Response::Spec(vec![7; bytes].into()));
    assert!(decode::<Response>(&answer(crate::spec::MAX_SPEC_BYTES), MAX_FRAME).is_ok());
    assert!(decode::<Response>(&answer(crate::spec::MAX_SPEC_BYTES + 1), MAX_FRAME).is_err());
}

#[test]
fn a_claim_with_an_impossible_place_cannot_overflow() {
    let open = Open {
        service: Service::Stream(80),
        claim: Claim::Granted(WHO, 253),
        stream_id: 0,
        offset: 0,
        staple: bundle(),
    };
    round_trip(open);
}

fn never_panics(bytes: &[u8]) {
    let _ = decode::<Request>(bytes, MAX_FRAME);
    let _ = decode::<Response>(bytes, MAX_FRAME);
    let _ = decode::<Watch>(bytes, MAX_FRAME);
    let _ = decode::<Push>(bytes, MAX_FRAME);
    let _ = decode::<FromNode>(bytes, MAX_FRAME);
    let _ = decode::<HeadMessage>(bytes, MAX_FRAME);
    let _ = decode::<RouteRequest>(bytes, MAX_FRAME);
    let _ = decode::<RouteResponse>(bytes, MAX_FRAME);
    let _ = decode::<Open>(bytes, MAX_FRAME);
    let _ = decode::<Reply>(bytes, MAX_FRAME);
    let _ = decode::<ChainSpec>(bytes, MAX_FRAME);
    let _ = decode::<SignedSpec>(bytes, MAX_FRAME);
    let _ = decode::<Route>(bytes, MAX_FRAME);
    let _ = crate::header::Header::decode(bytes);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        never_panics(&bytes);
    }

    #[test]
    fn mutated_messages_never_panic(
        which in 0usize..3, place in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()
    ) {
        let mut bytes = match which {
            0 => encode(&Response::Proven { bundle: bundle(), routes: vec![route()] }),
            1 => encode(&Request::of(questions())),
            _ => encode(&Push { slots: vec![Slot::Device(WHO)], bundle: bundle() }),
        };
        let place = place.index(bytes.len());
        if cut { bytes.truncate(place) } else { bytes[place] = byte }
        never_panics(&bytes);
    }
}
