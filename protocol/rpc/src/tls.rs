//! What https certificates are checked against.

use crate::error::{UrlError, one_line};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;

/// Checks certificates against the machine's authorities, or those that SSL_CERT_FILE and SSL_CERT_DIR name.
pub(crate) fn of_this_machine() -> Result<ClientConfig, UrlError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let reasons: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        let reason = if reasons.is_empty() { "none were found".to_owned() } else { reasons.join("; ") };
        return Err(UrlError::NoAuthorities(one_line(&reason)));
    }
    Ok(trusting(roots))
}

/// Checks certificates against these authorities.
pub(crate) fn trusting(roots: RootCertStore) -> ClientConfig {
    // Named here instead of once for the process: a library has no say in that.
    let crypto = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(crypto)
        .with_safe_default_protocol_versions()
        .expect("ring has the cipher suites of TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
}
