//! The RPC boundary against requests nobody meant: every method with arguments of every kind, in every
//! state they lead to, and requests with broken bytes. Nothing panics, every answer is well-formed, no
//! defect is answered, and the next request is served.
//!
//! `PROPTEST_CASES` makes it longer; `make soak` does.

use crate::{KEEPER, deploy, keep, manual, mine, send, start};
use alloy::primitives::{Address, B256};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;
use windlass_testnet::chain::{Chain, DEV_ACCOUNTS, methods};

/// What exists on the chain, so that arguments mean something often enough.
#[derive(Clone, Debug)]
struct Known {
    addresses: Vec<Address>,
    hashes: Vec<B256>,
}

/// How one request is damaged on its way.
#[derive(Clone, Debug)]
enum Damage {
    None,
    Cut(Index),
    Flip(Index, u8),
    Insert(Index, u8),
}

fn quantity() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => (0u64..9).prop_map(|number| json!(format!("{number:#x}"))),
        1 => any::<u64>().prop_map(|number| json!(format!("{number:#x}"))),
        1 => select(vec!["0x", "0x00", "0x01", "7", "-0x1", "0xffffffffffffffffff", "0xg"]).prop_map(Value::from),
        1 => Just(json!(format!("0x{}", "f".repeat(64)))),
        1 => Just(json!("0xde0b6b3a7640000")),
    ]
}

fn scalar(known: &Known) -> BoxedStrategy<Value> {
    let (addresses, hashes) = (known.addresses.clone(), known.hashes.clone());
    prop_oneof![
        6 => select(addresses).prop_map(|address| json!(address)),
        4 => select(hashes).prop_map(|hash| json!(hash)),
        5 => quantity(),
        4 => select(vec!["latest", "pending", "safe", "finalized", "earliest", "newest"]).prop_map(Value::from),
        2 => select(vec!["newHeads", "logs", "newPendingTransactions", "a", "0x"]).prop_map(Value::from),
        2 => vec(any::<u8>(), 0..70).prop_map(|bytes| json!(alloy::primitives::Bytes::from(bytes))),
        1 => Just(json!(KEEPER)),
        2 => any::<bool>().prop_map(Value::from),
        2 => (0u64..6).prop_map(Value::from),
        1 => select(vec![json!(-1), json!(1.5), json!(u64::MAX), json!(1e300), Value::Null]),
        1 => "\\PC{0,12}".prop_map(Value::from),
    ]
    .boxed()
}

/// An object with some of these members, each of its kind or of any.
fn object(known: &Known, members: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let any = scalar(known);
    let some = members.into_iter().map(move |(name, own)| {
        let value = prop_oneof![8 => own, 1 => any.clone()];
        proptest::option::weighted(0.5, value)
            .prop_map(move |value| value.map(|value| (name.to_owned(), value)))
    });
    let some: Vec<_> = some.collect();
    some.prop_map(|members| Value::Object(members.into_iter().flatten().collect::<Map<_, _>>())).boxed()
}

fn transaction(known: &Known) -> BoxedStrategy<Value> {
    let address = select(known.addresses.clone()).prop_map(|address| json!(address)).boxed();
    let data = prop_oneof![
        Just(json!(KEEPER)),
        Just(json!("0x")),
        (0u8..3).prop_map(|word| json!(B256::with_last_byte(word))),
    ];
    let gas = select(vec!["0x0", "0x5208", "0x186a0", "0xffffffff"]).prop_map(Value::from);
    let fee = select(vec!["0x0", "0x1", "0x3b9aca00", "0x77359400", "0xffffffffffffffffffffffffffffffff"])
        .prop_map(Value::from)
        .boxed();
    let list = vec(select(known.addresses.clone()), 0..2).prop_map(|all| {
        json!(all.iter().map(|one| json!({"address": one, "storageKeys": []})).collect::<Vec<_>>())
    });
    object(
        known,
        vec![
            ("from", address.clone()),
            ("to", address),
            ("value", quantity().boxed()),
            ("data", data.boxed()),
            ("gas", gas.boxed()),
            ("gasPrice", fee.clone()),
            ("maxFeePerGas", fee.clone()),
            ("maxPriorityFeePerGas", fee),
            ("nonce", quantity().boxed()),
            ("accessList", list.boxed()),
            ("type", select(vec!["0x0", "0x1", "0x2", "0x3", "0x4"]).prop_map(Value::from).boxed()),
        ],
    )
}

fn other_object(known: &Known) -> BoxedStrategy<Value> {
    let any = scalar(known);
    let hash = select(known.hashes.clone()).prop_map(|hash| json!(hash)).boxed();
    let address = select(known.addresses.clone()).prop_map(|address| json!(address)).boxed();
    let tag =
        prop_oneof![quantity(), select(vec!["latest", "earliest", "pending"]).prop_map(Value::from)].boxed();
    let tracer = json!({"tracer": "callTracer", "tracerConfig": {"withLog": true}});
    prop_oneof![
        object(known, vec![("blockHash", hash.clone()), ("requireCanonical", Just(json!(true)).boxed())]),
        object(known, vec![("fromBlock", tag.clone()), ("toBlock", tag.clone()), ("address", address)]),
        object(
            known,
            vec![("topics", vec(prop_oneof![hash, any.clone()], 0..6).prop_map(Value::from).boxed())]
        ),
        object(
            known,
            vec![("blocks", (0u64..4).prop_map(Value::from).boxed()), ("timestamp", quantity().boxed())]
        ),
        object(
            known,
            vec![("lag", (0u64..4).prop_map(Value::from).boxed()), ("keep", Just(json!(1)).boxed())]
        ),
        select(vec![tracer, json!({"transactions": "keep"}), json!({"tracer": "callTracer"}), json!({})]),
        vec(any, 0..4).prop_map(Value::from),
    ]
    .boxed()
}

/// The kinds of argument a method takes, so that it often gets them: a letter each, see [`of_kind`].
fn shape(method: &str) -> &'static str {
    match method {
        "eth_getBlockByNumber" => "qB",
        "eth_getBlockByHash" => "hB",
        "eth_getTransactionByBlockNumberAndIndex" | "eth_feeHistory" | "anvil_mine" => "qq",
        "eth_getTransactionByBlockHashAndIndex" => "hq",
        "eth_getBlockTransactionCountByHash" | "eth_getTransactionByHash" | "eth_getTransactionReceipt" => {
            "h"
        }
        "eth_getBlockReceipts" | "debug_getRawHeader" => "r",
        "eth_getLogs" | "eth_newFilter" => "o",
        "eth_getTransactionCount" | "eth_getBalance" | "eth_getCode" => "ar",
        "eth_getStorageAt" | "anvil_setStorageAt" => "aqq",
        "eth_getProof" => "aQr",
        "eth_call" | "eth_estimateGas" | "eth_createAccessList" => "tr",
        "eth_sendTransaction" => "t",
        "web3_sha3" | "eth_sendRawTransaction" => "b",
        "eth_sign" | "anvil_setCode" => "ab",
        "personal_sign" => "ba",
        "debug_traceTransaction" => "hT",
        "anvil_setBalance" | "anvil_setNonce" => "aq",
        "anvil_impersonateAccount" | "anvil_stopImpersonatingAccount" => "a",
        "evm_setAutomine" => "B",
        "evm_mine" => "o",
        "dev_faults" => "no",
        "eth_signTypedData_v4" => "ax",
        "dev_reorg" | "dev_finalize" | "evm_revert" | "evm_increaseTime" | "evm_setIntervalMining" => "q",
        "evm_setNextBlockTimestamp" | "eth_getBlockTransactionCountByNumber" => "q",
        "eth_getFilterChanges" | "eth_getFilterLogs" | "eth_uninstallFilter" | "eth_unsubscribe" => "x",
        "eth_subscribe" => "no",
        _ => "",
    }
}

fn of_kind(known: &Known, kind: char) -> BoxedStrategy<Value> {
    let own = match kind {
        'a' => select(known.addresses.clone()).prop_map(|address| json!(address)).boxed(),
        'h' => select(known.hashes.clone()).prop_map(|hash| json!(hash)).boxed(),
        'q' => quantity().boxed(),
        'Q' => vec(quantity(), 0..3).prop_map(Value::from).boxed(),
        'r' => prop_oneof![
            3 => select(vec!["latest", "pending", "safe", "earliest"]).prop_map(Value::from),
            1 => quantity(),
            1 => other_object(known),
        ]
        .boxed(),
        'b' => vec(any::<u8>(), 0..70).prop_map(|bytes| json!(alloy::primitives::Bytes::from(bytes))).boxed(),
        't' => transaction(known),
        'o' => other_object(known),
        'B' => any::<bool>().prop_map(Value::from).boxed(),
        'T' => Just(json!({"tracer": "callTracer", "tracerConfig": {"withLog": true}})).boxed(),
        'n' => select(vec!["a", "b-1", "newHeads", "logs"]).prop_map(Value::from).boxed(),
        _ => scalar(known),
    };
    prop_oneof![12 => own, 1 => scalar(known)].boxed()
}

fn request(known: &Known) -> impl Strategy<Value = (Value, Damage)> {
    let argument = prop_oneof![5 => scalar(known), 2 => transaction(known), 2 => other_object(known)];
    let arbitrary = prop_oneof![
        20 => vec(argument, 0..4).prop_map(Value::from),
        1 => scalar(known),
    ]
    .boxed();
    let calls = methods().chain(["eth_nothing", ""]).map(|method| {
        let fitting: Vec<_> = shape(method).chars().map(|kind| of_kind(known, kind)).collect();
        let params = prop_oneof![5 => fitting.prop_map(Value::from), 1 => arbitrary.clone()];
        params
            .prop_map(move |params| json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}))
            .boxed()
    });
    let damage = prop_oneof![
        12 => Just(Damage::None),
        1 => any::<Index>().prop_map(Damage::Cut),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Flip(at, byte)),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
    ];
    (proptest::strategy::Union::new(calls), damage)
}

fn damaged(request: &Value, damage: &Damage) -> Vec<u8> {
    let mut body = request.to_string().into_bytes();
    match damage {
        Damage::None => {}
        Damage::Cut(at) => body.truncate(at.index(body.len())),
        Damage::Flip(at, byte) => {
            let at = at.index(body.len());
            body[at] ^= byte;
        }
        Damage::Insert(at, byte) => body.insert(at.index(body.len()), *byte),
    }
    body
}

/// How often each outcome came: a run in which one is rare tests little.
#[derive(Debug, Default)]
struct Counts {
    results: BTreeMap<String, u64>,
    errors: BTreeMap<i64, u64>,
}

fn check(answer: &Value, request: &Value, counts: &Mutex<Counts>) {
    let members: Vec<_> = answer.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(answer["jsonrpc"], "2.0");
    let mut counts = counts.lock().unwrap();
    match &members[..] {
        ["id", "jsonrpc", "result"] | ["jsonrpc", "id", "result"] => {
            let method = request["method"].as_str().unwrap_or_default().to_owned();
            *counts.results.entry(method).or_default() += 1;
        }
        ["error", "id", "jsonrpc"] | ["jsonrpc", "id", "error"] => {
            let code = answer["error"]["code"].as_i64().unwrap();
            assert!(!answer["error"]["message"].as_str().unwrap().is_empty());
            assert_ne!(code, -32603, "a defect: {answer} to {request}");
            *counts.errors.entry(code).or_default() += 1;
        }
        other => panic!("{other:?} in {answer}"),
    }
}

fn ask(chain: &Chain, request: &Value, damage: &Damage, counts: &Mutex<Counts>) {
    let answer = chain.answer(&damaged(request, damage));
    let answer = answer.map(|answer| serde_json::from_str::<Value>(&answer).unwrap());
    match answer {
        Some(Value::Array(answers)) => answers.iter().for_each(|answer| check(answer, request, counts)),
        Some(answer) => {
            check(&answer, request, counts);
            assert!(answer["id"] == 7 || !matches!(damage, Damage::None), "{answer}");
        }
        None => assert!(!matches!(damage, Damage::None), "no answer to {request}"),
    }
    let next = chain.answer(br#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}"#).unwrap();
    assert!(next.contains(r#""result":"0x7a69""#), "{next}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn any_request_gets_a_well_formed_answer_and_the_next_one_is_served() {
    let (chain, provider) = start(manual()).await;
    let keeper = deploy(&provider).await;
    let receipt = send(&provider, keep(keeper, 1)).await;
    mine(&provider, 3).await;
    let known = Known {
        addresses: vec![
            DEV_ACCOUNTS[0].address,
            DEV_ACCOUNTS[1].address,
            keeper,
            Address::ZERO,
            Address::repeat_byte(9),
        ],
        hashes: vec![
            receipt.transaction_hash,
            receipt.block_hash.unwrap(),
            B256::ZERO,
            B256::with_last_byte(7),
        ],
    };
    let counts = Mutex::new(Counts::default());
    let mut runner = TestRunner::default();
    tokio::task::block_in_place(|| {
        let run = runner.run(&vec(request(&known), 1..12), |requests| {
            requests.iter().for_each(|(request, damage)| ask(&chain, request, damage, &counts));
            Ok(())
        });
        run.unwrap();
    });
    let counts = counts.into_inner().unwrap();
    let (results, errors) = (counts.results.values().sum::<u64>(), counts.errors.values().sum::<u64>());
    assert!(results * 2 > errors, "too few calls succeed to test what they lead to: {counts:?}");
    assert!(counts.results.len() * 2 > methods().count(), "too few methods succeed: {counts:?}");
    for code in [-32700, -32601, -32602, -32000] {
        assert!(counts.errors.get(&code).is_some_and(|count| *count > 5), "{code} is rare: {counts:?}");
    }
}
