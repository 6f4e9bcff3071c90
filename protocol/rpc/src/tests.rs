//! Providers that answer as none should, over plain http and over TLS.
#![allow(clippy::unwrap_used)]

use crate::http::BoundedHttp;
use crate::tls::trusting;
use crate::{HttpError, UrlError, one_line};
use alloy::providers::{Provider, RootProvider};
use alloy::rpc::client::RpcClient;
use alloy::transports::{RpcError, TransportError, TransportErrorKind};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{RootCertStore, ServerConfig};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

const MOST: usize = 4_096;
const CHAIN_ID: &str = "{\"jsonrpc\":\"2.0\",\"id\":0,\"result\":\"0x539\"}";

/// A response with this status line and body.
fn response(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}connection: close\r\n\r\n{body}")
        .into_bytes()
}

/// Reads a request's head, says what it was, and answers.
async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: &[u8],
    heard: &mpsc::Sender<String>,
) {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut byte = [0];
        if !matches!(stream.read(&mut byte).await, Ok(1)) {
            return;
        }
        request.push(byte[0]);
    }
    let _ = heard.send(String::from_utf8_lossy(&request).into_owned()).await;
    // Whoever asked may have had enough of it.
    let _ = stream.write_all(answer).await;
    let _ = stream.shutdown().await;
}

/// Answers every connection alike; the port, and what it was asked.
async fn plain(answer: Vec<u8>) -> (u16, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (heard, asked) = mpsc::channel(8);
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            converse(stream, &answer, &heard).await;
        }
    });
    (port, asked)
}

/// The same behind TLS with a certificate of these parameters, and what trusts it.
async fn behind_tls(certificate: CertificateParams) -> (u16, RootCertStore) {
    let key = KeyPair::generate().unwrap();
    let made = certificate.self_signed(&key).unwrap();
    let crypto = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(crypto)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.der().clone()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (heard, _asked) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that distrusts the certificate ends the handshake.
            if let Ok(stream) = acceptor.accept(stream).await {
                converse(stream, &response("200 OK", "", CHAIN_ID), &heard).await;
            }
        }
    });
    (port, roots)
}

fn named(name: &str) -> CertificateParams {
    CertificateParams::new(vec![name.to_owned()]).unwrap()
}

async fn ask(http: BoundedHttp) -> Result<u64, TransportError> {
    RootProvider::<alloy::network::Ethereum>::new(RpcClient::new(http, false)).get_chain_id().await
}

async fn asked(port: u16) -> Result<u64, TransportError> {
    ask(BoundedHttp::new(&format!("http://127.0.0.1:{port}"), MOST).unwrap()).await
}

async fn asked_over_tls(host: &str, port: u16, roots: RootCertStore) -> Result<u64, TransportError> {
    let url = format!("https://{host}:{port}").parse().unwrap();
    ask(BoundedHttp::with(url, MOST, trusting(roots)).unwrap()).await
}

/// What our own transport said of a failure.
fn fault(answer: Result<u64, TransportError>) -> HttpError {
    match answer {
        Err(RpcError::Transport(TransportErrorKind::Custom(fault))) => {
            fault.downcast_ref::<HttpError>().unwrap_or_else(|| panic!("{fault:?}")).clone()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_answer_is_taken_up_to_its_bound_whether_its_length_is_stated_or_not() {
    let padded = |bytes: usize| format!("{CHAIN_ID}{}", " ".repeat(bytes - CHAIN_ID.len()));
    let (port, _) = plain(response("200 OK", "", &padded(MOST))).await;
    assert_eq!(asked(port).await.unwrap(), 1_337);
    let (port, _) = plain(response("200 OK", "", &padded(MOST + 1))).await;
    assert_eq!(fault(asked(port).await), HttpError::TooLarge(MOST));
    // Without a length the body ends with the connection.
    let unstated =
        |bytes| format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}", padded(bytes)).into_bytes();
    let (port, _) = plain(unstated(MOST)).await;
    assert_eq!(asked(port).await.unwrap(), 1_337);
    let (port, _) = plain(unstated(1 << 20)).await;
    assert_eq!(fault(asked(port).await), HttpError::TooLarge(MOST));
}

#[tokio::test]
async fn each_status_says_what_to_do() {
    let (port, _) = plain(response("429 Too Many Requests", "", CHAIN_ID)).await;
    assert_eq!(fault(asked(port).await), HttpError::TooOften, "whatever its body says");
    let (port, _) = plain(response("403 Forbidden", "", "<html>no</html>")).await;
    assert!(fault(asked(port).await).to_string().contains("access key"));
    let (port, _) = plain(response("502 Bad Gateway", "", "")).await;
    assert_eq!(fault(asked(port).await), HttpError::Status(502));
    // Not followed: what is asked, access key and all, is for the URL that was given.
    let elsewhere = "location: https://elsewhere.example/v3/key\r\n";
    let (port, _) = plain(response("308 Permanent Redirect", elsewhere, "")).await;
    let moved = HttpError::Moved { status: 308, to: "https://elsewhere.example".to_owned() };
    assert_eq!(fault(asked(port).await), moved);
    // A JSON-RPC error is one whatever its status.
    let refused = "{\"jsonrpc\":\"2.0\",\"id\":0,\"error\":{\"code\":-32000,\"message\":\"busy\"}}";
    let (port, _) = plain(response("503 Service Unavailable", "", refused)).await;
    assert!(matches!(asked(port).await, Err(RpcError::ErrorResp(error)) if error.message == "busy"));
    let (port, _) = plain(response("200 OK", "", "<html>hello</html>")).await;
    assert!(matches!(asked(port).await, Err(RpcError::DeserError { text, .. }) if text.is_empty()));
}

#[tokio::test]
async fn the_access_key_goes_to_the_provider_and_nowhere_else() {
    let (port, mut asked) = plain(response("200 OK", "", CHAIN_ID)).await;
    let url = format!("http://us%20er:pass%3Aword@127.0.0.1:{port}/v3/key?x=1#part");
    let http = BoundedHttp::new(&url, MOST).unwrap();
    assert_eq!(http.origin(), format!("http://127.0.0.1:{port}"));
    assert!(!format!("{http:?}").contains("pass"), "{http:?}");
    ask(http).await.unwrap();
    let request = asked.recv().await.unwrap();
    assert!(request.starts_with("POST /v3/key?x=1 HTTP/1.1\r\n"), "{request}");
    // "us er:pass:word" in base64.
    assert!(request.contains("authorization: Basic dXMgZXI6cGFzczp3b3Jk\r\n"), "{request}");
}

#[test]
fn what_is_no_url_is_refused_with_its_reason() {
    for bad in ["127.0.0.1:8545", "", "http://", "/path"] {
        assert!(matches!(BoundedHttp::new(bad, MOST), Err(UrlError::Unreadable(_))), "{bad}");
    }
    for bad in ["ws://127.0.0.1:8545", "file:///x", "localhost:8545"] {
        assert!(matches!(BoundedHttp::new(bad, MOST), Err(UrlError::Scheme(_))), "{bad}");
    }
}

#[test]
fn one_host_and_port_is_one_provider_however_it_is_written() {
    let host = |url: &str| BoundedHttp::new(url, MOST).unwrap().host().clone();
    assert_eq!(host("http://EXAMPLE.org/v3/one"), host("http://key@example.org.:80/v3/two"));
    assert_ne!(host("http://example.org"), host("http://example.org:8545"));
}

#[tokio::test]
async fn a_trusted_certificate_is_enough() {
    let (port, roots) = behind_tls(named("localhost")).await;
    assert_eq!(asked_over_tls("localhost", port, roots).await.unwrap(), 1_337);
}

#[tokio::test]
async fn nothing_is_asked_behind_a_certificate_that_proves_nothing() {
    let (port, _) = behind_tls(named("localhost")).await;
    let (_, others) = behind_tls(named("localhost")).await;
    let said = fault(asked_over_tls("localhost", port, others).await).to_string();
    assert!(said.contains("nobody this machine trusts"), "{said}");

    let (port, roots) = behind_tls(named("provider.example")).await;
    let said = fault(asked_over_tls("localhost", port, roots).await).to_string();
    assert!(said.contains("another host's"), "{said}");

    let mut past = named("localhost");
    (past.not_before, past.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
    let (port, roots) = behind_tls(past).await;
    let said = fault(asked_over_tls("localhost", port, roots).await).to_string();
    assert!(said.contains("expired"), "{said}");

    let mut future = named("localhost");
    (future.not_before, future.not_after) = (date_time_ymd(3001, 1, 1), date_time_ymd(3002, 1, 1));
    let (port, roots) = behind_tls(future).await;
    let said = fault(asked_over_tls("localhost", port, roots).await).to_string();
    assert!(said.contains("not valid yet"), "{said}");
}

#[tokio::test]
async fn http_and_https_taken_for_each_other_are_told_apart() {
    // One that answers a handshake with a page, and one that hangs up.
    for answer in [response("400 Bad Request", "", "no"), Vec::new()] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0; 5]).await.unwrap();
            stream.write_all(&answer).await.unwrap();
            stream.shutdown().await.unwrap();
        });
        let said = fault(asked_over_tls("localhost", port, RootCertStore::empty()).await).to_string();
        assert!(said.contains("write http://"), "{said}");
    }
    // A TLS alert instead of a response.
    let (port, _) = plain(vec![0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x46]).await;
    let said = fault(asked(port).await).to_string();
    assert!(said.contains("write https://"), "{said}");
}

#[tokio::test]
async fn nobody_there_is_said_without_the_url() {
    // Nobody is given this port by the system.
    let said = fault(asked(1).await).to_string();
    assert!(said.to_lowercase().contains("refused") && !said.contains("127.0.0.1"), "{said}");
}

#[test]
fn a_strangers_words_are_one_short_line_without_control_characters() {
    let words = format!("it failed\nERROR forged line\u{1b}[2J\u{202e} {}", "x".repeat(1 << 20));
    let line = one_line(&words);
    assert!(line.starts_with("it failed ERROR forged line [2J xx"), "{line}");
    assert!(line.len() <= 300 && line.chars().all(|c| matches!(c, ' '..='~')));
}
