//! The chain spec of a network that was left alone for weeks: signed anew before it is too old to let anybody in.
//!
//! A spec that isn't this network's is left as it is: nodes and devices say what is wrong with it.

use super::NetworkError;
use std::fs;
use std::path::Path;
use windlass_protocol::SecretKey;
use windlass_protocol::spec::{ChainSpec, SignedSpec, verify_spec};

/// Seconds that a spec must be good for; less, and the network's own devices could be refused while it runs.
const LEAST: u64 = 7 * 86_400;

/// Signs the next version, dated now, if this one is nearly too old; true if it did. The committee stays: who replaced it on
/// the chain renews the spec with `windlass chain renew`.
pub(super) fn renew_if_old(path: &Path, publisher: &SecretKey, now: u64) -> Result<bool, NetworkError> {
    let failed = |source| NetworkError::file(path, source);
    let bytes = fs::read(path).map_err(failed)?;
    let Ok(present) = verify_spec(&bytes, publisher.address()) else { return Ok(false) };
    if present.good_until() >= now.saturating_add(LEAST) || now < present.date {
        return Ok(false);
    }
    let renewed = ChainSpec { version: present.version.saturating_add(1), date: now, ..(*present).clone() };
    // Whole, whenever this process ends.
    let next = path.with_extension("next");
    fs::write(&next, SignedSpec::sign(&renewed, publisher).to_bytes()).map_err(failed)?;
    fs::rename(&next, path).map_err(failed)?;
    Ok(true)
}
