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
