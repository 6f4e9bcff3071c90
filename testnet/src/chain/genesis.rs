//! Block 0: the accounts and contracts a fresh chain starts with.
//!
//! Owns the genesis state and header; its state root is as real as any other's.

use super::accounts::DEV_ACCOUNTS;
use super::block::{Block, bare_header};
use super::evm::Code;
use super::state::{AccountChange, Basic, Changes, State, StateError};
use super::store::Batch;
use alloy_consensus::Header;
use alloy_eips::eip1559::INITIAL_BASE_FEE;
use alloy_eips::eip2935::{HISTORY_STORAGE_ADDRESS, HISTORY_STORAGE_CODE};
use alloy_eips::eip4788::{BEACON_ROOTS_ADDRESS, BEACON_ROOTS_CODE};
use windlass_protocol::{Address, B256, Bytes, U256, keccak256};

/// Wei each funded account starts with: 10,000 ether.
const DEV_BALANCE: U256 = U256::from_limbs([0x19e0_c9ba_b240_0000, 0x21e, 0, 0]);

/// What a genesis is made from.
pub(crate) struct Genesis {
    pub(crate) timestamp: u64,
    pub(crate) gas_limit: u64,
    pub(crate) extra_data: Bytes,
    /// Random, so that no two chains share a genesis, not even when they start within one second: the
    /// genesis hash is what tells a chain from another.
    pub(crate) seed: B256,
}

impl Genesis {
    /// Seals block 0 and puts its state, on top of an empty `state`, into `batch`.
    pub(crate) fn seal(self, state: &State, batch: &mut Batch) -> Result<Block, StateError> {
        let changes = allocation();
        let (state_root, writes) = state.at(0).apply(&changes)?;
        state.commit(batch, 0, 0, &writes, &changes.codes)?;
        let header = Header {
            state_root,
            timestamp: self.timestamp,
            gas_limit: self.gas_limit,
            extra_data: self.extra_data,
            mix_hash: self.seed,
            base_fee_per_gas: Some(INITIAL_BASE_FEE),
            parent_beacon_block_root: Some(B256::ZERO),
            ..bare_header()
        };
        Ok(Block::seal(header, Vec::new()))
    }
}

fn allocation() -> Changes {
    let mut changes = Changes::default();
    for account in DEV_ACCOUNTS {
        put(&mut changes, account.address, Basic { balance: DEV_BALANCE, ..Basic::default() });
    }
    let contracts =
        [(HISTORY_STORAGE_ADDRESS, &HISTORY_STORAGE_CODE), (BEACON_ROOTS_ADDRESS, &BEACON_ROOTS_CODE)];
    for (address, code) in contracts {
        let code_hash = keccak256(code);
        changes.codes.insert(code_hash, Code::new((*code).clone()));
        // Contracts have had nonce 1 since EIP-161; both EIPs deploy theirs like this.
        put(&mut changes, address, Basic { nonce: 1, code_hash, ..Basic::default() });
    }
    changes
}

fn put(changes: &mut Changes, address: Address, basic: Basic) {
    changes.accounts.insert(address, AccountChange { basic: Some(basic), ..AccountChange::default() });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dev_accounts_start_with_ten_thousand_ether() {
        assert_eq!(DEV_BALANCE, U256::from(10_000) * U256::from(10).pow(U256::from(18)));
    }
}
