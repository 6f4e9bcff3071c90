//! Posting to one URL, with an answer that is bounded: nothing of a longer one is kept.

use crate::error::{HttpError, UrlError, explain, one_line};
use crate::tls;
use alloy::rpc::json_rpc::{RequestPacket, ResponsePacket};
use alloy::transports::{TransportError, TransportErrorKind, TransportFut};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use std::task::{Context, Poll};
use tower_service::Service;
use url::Url;

/// A provider's URL, and connections to it.
#[derive(Clone, Debug)]
pub struct BoundedHttp {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: Uri,
    authorization: Option<HeaderValue>,
    origin: String,
    host: (String, u16),
    https: bool,
    most: usize,
}

impl BoundedHttp {
    /// Prepares to post to this URL and to take answers of at most so many bytes. Nothing is sent yet.
    ///
    /// # Errors
    /// [`UrlError`].
    pub fn new(url: &str, most: usize) -> Result<Self, UrlError> {
        let url: Url =
            url.parse().map_err(|error: url::ParseError| UrlError::Unreadable(error.to_string()))?;
        let config = match url.scheme() {
            "https" => tls::of_this_machine()?,
            // Never asked: nothing but http is spoken.
            _ => tls::trusting(RootCertStore::empty()),
        };
        Self::with(url, most, config)
    }

    pub(crate) fn with(mut url: Url, most: usize, config: ClientConfig) -> Result<Self, UrlError> {
        if !["http", "https"].contains(&url.scheme()) {
            return Err(UrlError::Scheme(url.scheme().to_owned()));
        }
        let authorization = authorization(&url);
        // Neither fails on a URL that has a host, as these schemes' have.
        let _ = url.set_username("").and_then(|()| url.set_password(None));
        url.set_fragment(None);
        let uri = url.as_str().parse().map_err(|error| UrlError::Unreadable(format!("{error}")))?;
        let host = url.host_str().unwrap_or_default().trim_end_matches('.').to_owned();
        let connector = HttpsConnectorBuilder::new().with_tls_config(config);
        let https = url.scheme() == "https";
        let connector = match https {
            true => connector.https_only().enable_http1().build(),
            false => connector.https_or_http().enable_http1().build(),
        };
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            uri,
            authorization,
            origin: url.origin().ascii_serialization(),
            host: (host, url.port_or_known_default().unwrap_or_default()),
            https,
            most,
        })
    }

    /// Scheme, host and port: what may be shown.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// What tells independent providers apart: whatever the path or the key in it, one host and port is one provider.
    pub fn host(&self) -> &(String, u16) {
        &self.host
    }

    async fn post(self, request: RequestPacket) -> Result<ResponsePacket, TransportError> {
        let body = serde_json::to_vec(&request).map_err(TransportError::ser_err)?;
        let mut post = Request::post(self.uri.clone()).header(CONTENT_TYPE, "application/json");
        if let Some(key) = &self.authorization {
            post = post.header(AUTHORIZATION, key);
        }
        let post = post.body(Full::new(body.into())).map_err(TransportErrorKind::custom)?;
        let sent = self.client.request(post).await;
        let response = sent.map_err(|error| TransportErrorKind::custom(explain(&error, self.https)))?;
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS {
            return Err(TransportErrorKind::custom(HttpError::TooOften));
        }
        if status.is_redirection() {
            return Err(TransportErrorKind::custom(moved(&response)));
        }
        let body = self.read(response).await.map_err(TransportErrorKind::custom)?;
        match serde_json::from_slice(&body) {
            // Whatever the status: some providers send JSON-RPC errors with one of their own.
            Ok(answer) => Ok(answer),
            Err(_) if !status.is_success() => {
                Err(TransportErrorKind::custom(HttpError::Status(status.as_u16())))
            }
            // What it sent instead is nobody's to log.
            Err(error) => Err(TransportError::deser_err(error, "")),
        }
    }

    async fn read(&self, mut response: Response<Incoming>) -> Result<Vec<u8>, HttpError> {
        let stated =
            response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if stated.is_some_and(|length: usize| length > self.most) {
            return Err(HttpError::TooLarge(self.most));
        }
        let mut body = Vec::new();
        while let Some(frame) = response.body_mut().frame().await {
            let frame = frame.map_err(|error| HttpError::Unreachable(one_line(&error.to_string())))?;
            let Some(chunk) = frame.data_ref() else { continue };
            if body.len() + chunk.len() > self.most {
                return Err(HttpError::TooLarge(self.most));
            }
            body.extend_from_slice(chunk);
        }
        Ok(body)
    }
}

/// User and password of a URL, as HTTP's basic authentication has them.
fn authorization(url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let plain = |part: &str| percent_encoding::percent_decode_str(part).collect::<Vec<u8>>();
    let mut pair = plain(url.username());
    pair.push(b':');
    pair.extend(plain(url.password().unwrap_or_default()));
    let mut value = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(pair))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Where a redirect leads, without what may be secret in it.
fn moved(response: &Response<Incoming>) -> HttpError {
    let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok()?.parse::<Url>().ok());
    let to = to.map_or_else(|| "another path".to_owned(), |to| to.origin().ascii_serialization());
    HttpError::Moved { status: response.status().as_u16(), to: one_line(&to) }
}

impl Service<RequestPacket> for BoundedHttp {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: RequestPacket) -> Self::Future {
        Box::pin(self.clone().post(request))
    }
}
