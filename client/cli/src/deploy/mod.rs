//! Putting the contracts on a chain and writing the chain spec that devices will pin.
//!
//! Owns the order of it: judge the chain, predict the addresses, create the contracts, read their code back, judge
//! the proofs, and only then compose and sign the spec. Each step first looks at what is there, so a second run after
//! an interruption goes on where the first ended. Never trusts a receipt alone: what counts is the code found on chain.

mod contracts;
mod eligibility;
mod journal;
mod terms;

pub use eligibility::{Eligibility, Ineligible};
pub use journal::{Journal, JournalError};
pub(crate) use terms::ascending;
pub use terms::{Terms, TermsError};

use crate::chain::{Chain, ChainError};
use crate::transact::{Action, TransactError};
use alloy_eips::BlockId;
use contracts::{Creation, Ground, creations};
use windlass_contracts::Addresses;
use windlass_protocol::spec::{ChainSpec, ContractPin, Contracts, SignedSpec};
use windlass_protocol::{Address, B256, SecretKey, U256, keccak256};

/// Why nothing was deployed, or not everything. What was is kept in the journal; a second run goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The chain doesn't answer as it must.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A transaction isn't done.
    #[error("deploying {contract}: {source}")]
    Transact {
        /// Which contract.
        contract: &'static str,
        /// Why.
        source: TransactError,
    },
    /// The chain can't carry Windlass.
    #[error(transparent)]
    Ineligible(#[from] Ineligible),
    /// The terms contradict each other.
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// The journal can't be kept, or is of another deployment.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The account can't pay for everything.
    #[error(
        "the account {account} has {has} wei and deploying needs up to {needs}: send it some of the chain's coin"
    )]
    Balance {
        /// The deployer.
        account: Address,
        /// In wei.
        has: U256,
        /// In wei.
        needs: U256,
    },
    /// The addresses rest on nonces that another transaction took.
    #[error(
        "the account {account} sent another transaction while deploying, so the predicted addresses are lost: \
         delete {journal} and deploy again, with an account that does nothing else"
    )]
    NonceTaken {
        /// The deployer.
        account: Address,
        /// The journal's path.
        journal: String,
    },
    /// Something else is where the contract should be.
    #[error(
        "the code of {contract} at {address} has hash {actual}, expected {expected}: this chain runs it differently"
    )]
    Code {
        /// Which contract.
        contract: &'static str,
        /// Where.
        address: Address,
        /// What is there.
        actual: B256,
        /// What should be.
        expected: B256,
    },
}

/// What a deployment made.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// The spec.
    pub spec: ChainSpec,
    /// The spec as devices and nodes take it.
    pub signed: SignedSpec,
    /// What the chain showed about itself.
    pub eligibility: Eligibility,
}

/// Deploys the contracts with `deployer` as the paying account and signs the chain spec with `publisher`.
///
/// `date` (Unix seconds) goes into the spec. `progress` is told of each step in a line.
///
/// # Errors
/// [`DeployError`]. After any of them, and after a crash at any time, the same call goes on where this one ended.
pub async fn deploy(
    chain: &Chain,
    deployer: &SecretKey,
    publisher: &SecretKey,
    terms: &Terms,
    journal: &mut Journal,
    date: u64,
    progress: &mut dyn FnMut(&str),
) -> Result<Deployment, DeployError> {
    terms.check()?;
    let account = deployer.address().0;
    let (chain_id, genesis_hash) = (chain.id().await?, chain.genesis_hash().await?);
    let eligibility = eligibility::check_headers(chain, terms).await?;
    let nonce = chain.nonce(account, true).await?;
    journal.begin(chain_id, genesis_hash, account, nonce, terms)?;
    let addresses = Addresses::predict(account, journal.first_nonce());
    let ground = Ground { genesis_hash, number_is_headers: eligibility.number_is_headers };
    let creations = creations(&addresses, terms, &ground);
    let run = Run { chain, deployer, account, creations: &creations };
    run.check_balance(journal).await?;
    for index in 0..creations.len() {
        run.create(index, journal, progress).await?;
    }
    progress("checking that the chain proves what the contracts hold");
    eligibility::check_proofs(chain, deployer, &addresses, journal).await?;
    let deploy_block = run.first_block(journal).await?;
    let spec = compose(chain_id, genesis_hash, deploy_block, &creations, terms, date);
    Ok(Deployment { signed: SignedSpec::sign(&spec, publisher), spec, eligibility })
}

struct Run<'a> {
    chain: &'a Chain,
    deployer: &'a SecretKey,
    account: Address,
    creations: &'a [Creation],
}

impl Run<'_> {
    /// Before the first transaction: whether the account can pay for all of them.
    async fn check_balance(&self, journal: &Journal) -> Result<(), DeployError> {
        let mut gas = U256::ZERO;
        for (index, creation) in self.creations.iter().enumerate() {
            if journal.transactions(index).is_empty() {
                gas += U256::from(creation.gas_bound());
            }
        }
        let price = self.chain.gas_price().await?;
        let (has, needs) = (self.chain.balance(self.account).await?, gas * U256::from(price));
        if has < needs {
            return Err(DeployError::Balance { account: self.account, has, needs });
        }
        Ok(())
    }

    /// Creates one contract unless it is there, and checks its code.
    async fn create(
        &self,
        index: usize,
        journal: &mut Journal,
        progress: &mut dyn FnMut(&str),
    ) -> Result<(), DeployError> {
        let creation = &self.creations[index];
        if self.chain.code(creation.address).await?.is_empty() {
            self.send(index, journal).await?;
        }
        let actual = keccak256(self.chain.code(creation.address).await?);
        if actual != creation.code_hash {
            let Creation { contract, address, code_hash: expected, .. } = *creation;
            return Err(DeployError::Code { contract, address, actual, expected });
        }
        progress(&format!("{} is at {}", creation.contract, creation.address));
        Ok(())
    }

    async fn send(&self, index: usize, journal: &mut Journal) -> Result<(), DeployError> {
        let creation = &self.creations[index];
        let failed = |source| DeployError::Transact { contract: creation.contract, source };
        let nonce = journal.first_nonce() + index as u64;
        if self.chain.nonce(self.account, false).await? > nonce {
            return Err(DeployError::NonceTaken { account: self.account, journal: journal.place() });
        }
        // A transaction of an interrupted run may still wait in the pool: it will do.
        if self.chain.nonce(self.account, true).await? > nonce
            && let Some(waiting) = journal.transactions(index).last()
        {
            return self.chain.wait(*waiting).await.map(drop).map_err(failed);
        }
        let action = Action { to: None, input: creation.code.clone(), value: U256::ZERO };
        let signed = self.chain.prepare(self.deployer, &action, nonce).await.map_err(failed)?;
        journal.record(index, signed.hash)?;
        self.chain.send(&signed).await?;
        self.chain.wait(signed.hash).await.map(drop).map_err(failed)
    }

    /// The block of the first contract's creation, where followers start.
    async fn first_block(&self, journal: &Journal) -> Result<u64, DeployError> {
        for transaction in journal.transactions(0) {
            let receipt = self.chain.receipt(*transaction).await?;
            if let Some(number) = receipt.and_then(|receipt| receipt.block_number) {
                return Ok(number);
            }
        }
        Err(self.chain.malformed("give the receipt of a deployment", "it is gone").into())
    }
}

impl Chain {
    /// The most a unit of gas costs now, in wei.
    async fn gas_price(&self) -> Result<u128, ChainError> {
        use alloy::providers::Provider;
        self.ask("estimate fees", self.provider.estimate_eip1559_fees())
            .await
            .map(|fees| fees.max_fee_per_gas)
    }

    /// The header of a final block, if the chain marks any.
    async fn finalized(&self) -> Result<(), ChainError> {
        self.block(BlockId::finalized()).await.map(drop)
    }
}

fn compose(
    chain_id: u64,
    genesis_hash: B256,
    deploy_block: u64,
    creations: &[Creation],
    terms: &Terms,
    date: u64,
) -> ChainSpec {
    let pin = |contract| {
        let creation = creations.iter().find(|creation| creation.contract == contract);
        creation
            .map_or_else(ContractPin::default, |c| ContractPin { address: c.address, code_hash: c.code_hash })
    };
    ChainSpec {
        version: terms.version,
        chain_id,
        genesis_hash,
        contracts: Contracts {
            registry: pin(contracts::REGISTRY),
            name_registrar: pin(contracts::NAME_REGISTRAR),
            node_staking: pin(contracts::NODE_STAKING),
            settlement: pin(contracts::SETTLEMENT),
        },
        deploy_block,
        committee: terms.committee.clone(),
        head_interval: terms.head_interval,
        finality: terms.finality,
        max_finality_lag: terms.max_finality_lag,
        trusting_period: terms.trusting_period,
        epoch_length: u64::from(terms.epoch_length),
        stake_age: u64::from(terms.stake_age),
        unbonding_period: u64::from(terms.unbonding_period),
        fault_fraction: terms.fault_fraction,
        dev: terms.dev,
        date,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use windlass_protocol::spec::verify_spec;

    fn key(byte: u8) -> SecretKey {
        SecretKey::from_bytes(&[byte; 32]).unwrap()
    }

    fn ground() -> Ground {
        Ground { genesis_hash: B256::repeat_byte(1), number_is_headers: true }
    }

    pub(crate) fn example_spec() -> ChainSpec {
        let terms = Terms::development(vec![key(1).address().0, key(2).address().0]).unwrap();
        let addresses = Addresses::predict(key(9).address().0, 3);
        let creations = creations(&addresses, &terms, &ground());
        compose(31_337, B256::repeat_byte(1), 4, &creations, &terms, 1_800_000_000)
    }

    #[test]
    fn the_composed_spec_pins_predicted_addresses_and_verifies() {
        let spec = example_spec();
        let deployer = key(9).address().0;
        assert_eq!(spec.contracts.registry.address, deployer.create(3));
        assert_eq!(spec.contracts.name_registrar.address, deployer.create(4));
        assert_eq!(spec.contracts.node_staking.address, deployer.create(5));
        assert_eq!(spec.contracts.settlement.address, deployer.create(6));
        assert_ne!(spec.contracts.settlement.code_hash, B256::ZERO);
        assert!(spec.committee.windows(2).all(|pair| pair[0] < pair[1]));
        let signed = SignedSpec::sign(&spec, &key(8)).to_bytes();
        assert_eq!(*verify_spec(&signed, key(8).address()).unwrap(), spec);
    }

    #[test]
    fn another_nonce_or_deployer_is_another_registry() {
        let terms = Terms::development(vec![key(1).address().0]).unwrap();
        let at = |account: Address, nonce| {
            creations(&Addresses::predict(account, nonce), &terms, &ground())[0].address
        };
        assert_ne!(at(key(9).address().0, 0), at(key(9).address().0, 1));
        assert_ne!(at(key(9).address().0, 0), at(key(8).address().0, 0));
    }
}
