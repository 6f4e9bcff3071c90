//! Changes to the state that no transaction makes: what a test sets up.
//!
//! Owns what may be set. An amendment is laid over the state at the start of a block of its own, so that a
//! header commits to it like to everything else: proofs, reorgs and readers need not know about it.

use super::evm::{Code, Overlay};
use super::state::{Basic, StateError};
use windlass_protocol::trie::{EMPTY_CODE_HASH, EMPTY_ROOT};
use windlass_protocol::{Address, Bytes, U256, keccak256};

/// One change to one account.
#[derive(Clone, Debug)]
pub(crate) struct Amendment {
    pub(crate) address: Address,
    pub(crate) change: Change,
}

/// What becomes of it.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Balance(U256),
    Nonce(u64),
    Code(Bytes),
    Slot { slot: U256, value: U256 },
}

/// Why the state can't be amended like this.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AmendError {
    #[error(
        "account {0} would be empty but have storage, which no account may (EIP-161): give it code, a nonce or a balance first"
    )]
    EmptyWithStorage(Address),
    #[error("no room for a block before the timestamp {next} that the next one was promised")]
    NoRoom { next: u64 },
    #[error(transparent)]
    State(#[from] StateError),
}

impl Amendment {
    /// Lays the change over `overlay`.
    pub(crate) fn apply(&self, overlay: &mut Overlay<'_>) -> Result<(), AmendError> {
        let address = self.address;
        let mut basic = overlay.basic(address)?.unwrap_or_default();
        let mut slot_set = None;
        match &self.change {
            Change::Balance(balance) => basic.balance = *balance,
            Change::Nonce(nonce) => basic.nonce = *nonce,
            Change::Code(code) if code.is_empty() => basic.code_hash = EMPTY_CODE_HASH,
            Change::Code(code) => {
                basic.code_hash = keccak256(code);
                overlay.changes.codes.insert(basic.code_hash, Code::new(code.clone()));
            }
            Change::Slot { slot, value } => slot_set = Some((*slot, *value)),
        }
        let empty = basic == Basic::default();
        if empty && (slot_set.is_some() || has_storage(overlay, address)?) {
            return Err(AmendError::EmptyWithStorage(address));
        }
        let account = overlay.changes.accounts.entry(address).or_default();
        account.basic = (!empty).then_some(basic);
        account.slots.extend(slot_set);
        Ok(())
    }
}

fn has_storage(overlay: &Overlay<'_>, address: Address) -> Result<bool, StateError> {
    let account = overlay.base.account(address)?;
    Ok(account.is_some_and(|account| account.storage_root != EMPTY_ROOT))
}
