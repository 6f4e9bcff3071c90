#![allow(clippy::unwrap_used)]
//! Every codec: golden bytes, round trip, and no panic on any input.

use super::MAX_FRAME;
use super::head::HeadMessage;
use super::resolve::{Reason, Request, Response};
use super::route::{RouteRefusal, RouteRequest, RouteResponse};
use super::stream::{Open, Reply};
use super::watch::{Push, Watch};
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
    golden(Request { questions: vec![Question::Fleet(7)] }, "c4c3c20307");
    golden(Question::Target(Target::Name("pump-7".parse().unwrap())), "ca80c8808670756d702d37");
    golden(Question::Slot(Slot::FleetCount), &format!("e3080ca0{}", "00".repeat(32)));
    golden(Reply::Accepted, "c180");
    golden(Reply::Refused(Refusal::NoGrant), "c105");
    golden(RouteResponse::Kept, "c180");
    golden(RouteResponse::Refused(RouteRefusal::NotActive), "c20302");
    golden(HeadMessage::Report { number: 9, hash: B256::ZERO }, &format!("e30109a0{}", "00".repeat(32)));
    golden(Watch { add: vec![], drop: vec![] }, "c380c0c0");
}

#[test]
fn every_message_round_trips_and_is_refused_when_cut() {
    for question in questions() {
        round_trip(question);
    }
    round_trip(Request { questions: questions() });
    round_trip(Response::Proven { bundle: bundle(), routes: vec![route()] });
    round_trip(Response::Refused { reason: Reason::RateLimited, text: "slow down".into() });
    round_trip(Watch { add: vec![Slot::Device(WHO)], drop: vec![Slot::Fleet(1)] });
    round_trip(Push { slots: vec![Slot::Device(WHO)], bundle: bundle() });
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
    let request = Request { questions: vec![Question::Fleet(1); MAX_QUESTIONS + 1] };
    assert!(decode::<Request>(&encode(&request), MAX_FRAME).is_err());
    let watch = Watch { add: vec![Slot::Fleet(1); super::watch::MAX_WATCH_FRAME_SLOTS + 1], drop: vec![] };
    assert!(decode::<Watch>(&encode(&watch), MAX_FRAME).is_err());
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
            1 => encode(&Request { questions: questions() }),
            _ => encode(&Push { slots: vec![Slot::Device(WHO)], bundle: bundle() }),
        };
        let place = place.index(bytes.len());
        if cut { bytes.truncate(place) } else { bytes[place] = byte }
        never_panics(&bytes);
    }
}
