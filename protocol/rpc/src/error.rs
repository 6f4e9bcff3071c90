//! What goes wrong between a URL and an answer, in words for whoever runs the program.

use hyper_util::client::legacy;
use rustls::CertificateError;
use std::error::Error;
use std::io;

/// Characters of a stranger's text that are shown.
const MAX_SHOWN: usize = 300;

/// Why a URL can't be used. It names no more of the URL than its scheme: the rest may be secret.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UrlError {
    /// Not a URL.
    #[error("{0}")]
    Unreadable(String),
    /// Neither http nor https.
    #[error("the scheme is {0:?}, and only http and https are spoken")]
    Scheme(String),
    /// Nothing to check a certificate against.
    #[error(
        "this machine has no certificates of authorities to check https against ({0}): install the package \
         ca-certificates, or name a file of them in SSL_CERT_FILE"
    )]
    NoAuthorities(String),
}

/// Why there was no answer that could be one.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HttpError {
    /// Nobody answered, or the connection broke.
    #[error("{0}")]
    Unreachable(String),
    /// Its certificate proves nothing.
    #[error("its certificate {0}")]
    Certificate(String),
    /// The other side of an https URL doesn't speak TLS.
    #[error("it doesn't speak TLS there ({0}): if it is a plain http port, write http:// in its URL")]
    NoTls(String),
    /// The other side of an http URL doesn't speak HTTP.
    #[error("what it sends is no HTTP ({0}): if it is an https port, write https:// in its URL")]
    NoHttp(String),
    /// We ask more often than it allows.
    #[error("it limits how often it may be asked (HTTP 429)")]
    TooOften,
    /// It wants to be asked elsewhere.
    #[error("it answers with a redirect (HTTP {status}) to {to}: write the URL that it leads to")]
    Moved {
        /// The status.
        status: u16,
        /// Where to, without path.
        to: String,
    },
    /// It answers with no JSON-RPC but a status.
    #[error("it answers HTTP {0}{hint}", hint = hint(*.0))]
    Status(u16),
    /// An answer longer than is taken.
    #[error("its answer is longer than {0} bytes")]
    TooLarge(usize),
}

fn hint(status: u16) -> &'static str {
    match status {
        401 | 403 => ": is the access key in its URL right?",
        404 => ": is the path in its URL right?",
        _ => "",
    }
}

/// What a failed request comes down to.
pub(crate) fn explain(error: &legacy::Error, https: bool) -> HttpError {
    let mut at: &(dyn Error + 'static) = error;
    loop {
        if let Some(known) = explained(at, https) {
            return known;
        }
        match at.source() {
            Some(source) => at = source,
            None => return HttpError::Unreachable(one_line(&at.to_string())),
        }
    }
}

fn explained(error: &(dyn Error + 'static), https: bool) -> Option<HttpError> {
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(of_tls(error));
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        let (error, tls) = innermost(error);
        if let Some(tls) = tls {
            return Some(of_tls(tls));
        }
        // A server of plain http that ends the connection because a handshake is no request.
        let ended = matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset);
        return (https && ended).then(|| HttpError::NoTls(one_line(&error.to_string())));
    }
    let error = error.downcast_ref::<hyper::Error>()?;
    (!https && error.is_parse()).then(|| HttpError::NoHttp(one_line(&error.to_string())))
}

/// What an error of the connection was wrapped around; its `source` leaves that out.
fn innermost(error: &io::Error) -> (&io::Error, Option<&rustls::Error>) {
    let Some(inner) = error.get_ref() else { return (error, None) };
    match inner.downcast_ref::<io::Error>() {
        Some(inner) => innermost(inner),
        None => (error, inner.downcast_ref()),
    }
}

fn of_tls(error: &rustls::Error) -> HttpError {
    match error {
        rustls::Error::InvalidCertificate(fault) => HttpError::Certificate(of_certificate(fault)),
        rustls::Error::InvalidMessage(_) | rustls::Error::InappropriateMessage { .. } => {
            HttpError::NoTls(one_line(&error.to_string()))
        }
        other => HttpError::Unreachable(one_line(&format!("TLS failed: {other}"))),
    }
}

fn of_certificate(fault: &CertificateError) -> String {
    match fault {
        // Who made a certificate themselves may have given it the name of somebody else's.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "is signed by nobody this machine trusts (further authorities can be named in SSL_CERT_FILE)"
                .to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "is another host's: the name in the URL isn't in it".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "has expired, or this machine's clock is wrong".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet, or this machine's clock is wrong".to_owned()
        }
        other => one_line(&format!("proves nothing: {other}")),
    }
}

/// What a stranger wrote, short, on one line and of printable characters: fit for a log, a terminal and a line of
/// health, where others could forge what is shown.
pub fn one_line(text: &str) -> String {
    let plain = |c: char| if matches!(c, ' '..='~') { c } else { ' ' };
    let shown: String = text.chars().take(4 * MAX_SHOWN).map(plain).collect();
    shown.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_SHOWN).collect()
}
