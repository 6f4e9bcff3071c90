//! Requests that no well-meaning client makes: each gets the usual error, and the next one is served.

use crate::{ask, quiet, start};
use alloy::providers::Provider;
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sends one HTTP request as written, and gives the status and the body.
async fn http(address: SocketAddr, head: &str, body: &[u8]) -> (u16, String, String) {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let head = format!("{head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    connection.write_all(head.as_bytes()).await.unwrap();
    // A server that refuses a large body may close before it has read it all.
    let _ = connection.write_all(body).await;
    let mut answer = Vec::new();
    let _ = connection.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), body.to_owned())
}

fn post(host: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json")
}

async fn rpc(address: SocketAddr, body: &str) -> Value {
    let (status, _, body) = http(address, &post("127.0.0.1"), body.as_bytes()).await;
    assert_eq!(status, 200);
    serde_json::from_str(&body).unwrap()
}

const CHAIN_ID: &str = r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}"#;

#[tokio::test]
async fn malformed_requests_get_the_standard_errors() {
    let (chain, _) = start(quiet()).await;
    let address = chain.address();
    let deep = "[".repeat(100_000);
    for (body, code) in [
        ("{", -32700),
        ("", -32700),
        (&deep, -32700),
        ("\u{0}", -32700),
        ("[]", -32600),
        ("7", -32600),
        (r#"{"jsonrpc":"2.0","id":1}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":"eth_nothing"}"#, -32601),
        (r#"{"jsonrpc":"2.0","id":1,"method":"eth_getBalance","params":{}}"#, -32602),
    ] {
        assert_eq!(rpc(address, body).await["error"]["code"], code, "{body:.80}");
        assert_eq!(rpc(address, CHAIN_ID).await["result"], "0x7a69");
    }
    let batch = rpc(address, &format!("[{CHAIN_ID},7,{CHAIN_ID}]")).await;
    assert_eq!(batch.as_array().unwrap().len(), 3);
    assert_eq!(batch[2]["result"], "0x7a69");
}

#[tokio::test]
async fn wrong_arguments_are_refused() {
    let (_chain, provider) = start(quiet()).await;
    let address = json!("0x00000000000000000000000000000000000000aa");
    for (method, params) in [
        ("eth_getBalance", json!([])),
        ("eth_getBalance", json!(["0xaa", "latest"])),
        ("eth_getBalance", json!([address, "0x01"])),
        ("eth_getBalance", json!([address, "newest"])),
        ("eth_getBalance", json!([address, 1])),
        ("eth_getBalance", json!([address, "latest", 1])),
        ("eth_blockNumber", json!([1])),
        ("eth_getBlockByNumber", json!(["latest", "yes"])),
        ("eth_getBlockByHash", json!(["0x12"])),
        ("eth_getStorageAt", json!([address, "0x", "latest"])),
        ("eth_getStorageAt", json!([address, format!("0x{}", "1".repeat(65)), "latest"])),
        ("eth_getProof", json!([address, "0x0", "latest"])),
        ("eth_call", json!(["0x"])),
        ("eth_call", json!([{"to": address, "gas": "0x05"}])),
        ("eth_call", json!([{"to": address, "value": 1}])),
        ("eth_getLogs", json!([{"fromBlock": "0x1", "blockHash": format!("0x{}", "0".repeat(64))}])),
        ("eth_getLogs", json!([{"topics": [null, null, null, null, null]}])),
        ("eth_getLogs", json!([{"address": "0xaa"}])),
        ("eth_getLogs", json!([{"address": vec![address.clone(); 1_001]}])),
        ("eth_sendRawTransaction", json!(["02"])),
        ("eth_sendRawTransaction", json!(["0x0"])),
        ("evm_mine", json!([{"blocks": 10_001}])),
        ("dev_reorg", json!([])),
        ("dev_reorg", json!([1, {"transactions": "hide"}])),
    ] {
        let (code, message) = ask(&provider, method, params.clone()).await.unwrap_err();
        assert_eq!(code, -32602, "{method} {params}: {message}");
    }
    assert_eq!(provider.get_block_number().await.unwrap(), 0);
}

#[tokio::test]
async fn a_request_over_the_bound_is_refused() {
    let (chain, provider) = start(quiet()).await;
    let body = vec![b' '; 5 * 1024 * 1024 + 1];
    let (status, ..) = http(chain.address(), &post("127.0.0.1"), &body).await;
    assert_eq!(status, 413);
    let batch = format!("[{}]", vec![CHAIN_ID; 1_001].join(","));
    assert_eq!(rpc(chain.address(), &batch).await["error"]["code"], -32005);
    let keys = vec!["0x0"; 1_025];
    let proof = json!(["0x00000000000000000000000000000000000000aa", keys, "latest"]);
    assert_eq!(ask(&provider, "eth_getProof", proof).await.unwrap_err().0, -32005);
    assert_eq!(provider.get_chain_id().await.unwrap(), 31_337);
}

#[tokio::test]
async fn a_foreign_host_or_origin_is_turned_away() {
    let (chain, _) = start(quiet()).await;
    let address = chain.address();
    let body = CHAIN_ID.as_bytes();
    for host in ["localhost", "127.0.0.1:8545", "[::1]:1"] {
        assert_eq!(http(address, &post(host), body).await.0, 200, "{host}");
    }
    for host in ["example.org", "127.0.0.1.example.org", ""] {
        assert_eq!(http(address, &post(host), body).await.0, 403, "{host}");
    }
    let from = |origin: &str| format!("{}\r\nOrigin: {origin}", post("localhost"));
    let (status, head, _) = http(address, &from("http://localhost:3000"), body).await;
    assert_eq!(status, 200);
    assert!(head.contains("access-control-allow-origin: http://localhost:3000"));
    for origin in ["https://example.org", "null", "http://localhost.example.org"] {
        assert_eq!(http(address, &from(origin), body).await.0, 403, "{origin}");
    }
    let preflight = "OPTIONS / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://127.0.0.1:5173";
    let (status, head, _) = http(address, preflight, b"").await;
    assert_eq!(status, 204);
    assert!(head.contains("access-control-allow-headers: content-type"));
}

#[tokio::test]
async fn every_method_that_names_a_block_takes_every_form() {
    let (_chain, provider) = start(quiet()).await;
    crate::mine(&provider, 2).await;
    let hash = provider.get_block_by_number(1.into()).await.unwrap().unwrap().header.hash;
    let address = json!("0x00000000000000000000000000000000000000aa");
    let call = json!({"to": address});
    for (method, before) in [
        ("eth_getBalance", vec![address.clone()]),
        ("eth_getCode", vec![address.clone()]),
        ("eth_getTransactionCount", vec![address.clone()]),
        ("eth_getStorageAt", vec![address.clone(), json!("0x0")]),
        ("eth_getProof", vec![address.clone(), json!(["0x0"])]),
        ("eth_call", vec![call.clone()]),
        ("eth_estimateGas", vec![call.clone()]),
        ("eth_createAccessList", vec![call]),
        ("eth_getBlockReceipts", vec![]),
        ("debug_getRawHeader", vec![]),
    ] {
        let with = |block: Value| Value::Array(before.iter().cloned().chain([block]).collect());
        for tag in ["earliest", "finalized", "safe", "latest", "pending", "0x1"] {
            ask(&provider, method, with(json!(tag))).await.unwrap();
        }
        for form in [
            json!(hash),
            json!({"blockNumber": "0x1"}),
            json!({"blockNumber": "latest"}),
            json!({"blockHash": hash}),
            json!({"blockHash": hash, "requireCanonical": true}),
        ] {
            ask(&provider, method, with(form)).await.unwrap();
        }
        for wrong in [json!("newest"), json!(1), json!("0x01"), json!({}), json!({"blockHash": "0x1"})] {
            assert_eq!(ask(&provider, method, with(wrong)).await.unwrap_err().0, -32602, "{method}");
        }
        match ask(&provider, method, with(json!("0x99"))).await {
            Ok(answer) => assert_eq!((method, answer), ("eth_getBlockReceipts", Value::Null)),
            Err((code, message)) => assert_eq!((code, message.as_str()), (-32000, "header not found")),
        }
    }
}

#[test]
fn the_page_about_the_chain_lists_every_method_and_no_other() {
    let page = include_str!("../../../docs/testnet.md");
    let (_, table) = page.split_once("## Methods").unwrap();
    let (table, _) = table.split_once("Blocks are named").unwrap();
    let mut listed: Vec<_> = table.split('`').skip(1).step_by(2).collect();
    let mut served: Vec<_> = windlass_testnet::chain::methods().collect();
    listed.sort_unstable();
    served.sort_unstable();
    assert_eq!(listed, served);
}
