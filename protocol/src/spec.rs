//! The chain spec: what a device pins before it believes anything. Canonical RLP signed by a publisher,
//! whose address is the root of trust.

use crate::address::KeyAddress;
use crate::keys::Signature;
use crate::wire;
use alloc::vec::Vec;
use alloy_primitives::{Address, B256, keccak256};
use alloy_sol_types::{Eip712Domain, SolStruct};
use core::ops::Deref;
use rlp::{Decodable, DecoderError, Encodable, Rlp, RlpStream};

mod renewal;

pub use renewal::{Fixed, RenewalError, SuccessionError, verify_renewal};

/// Most members of a committee.
pub const MAX_COMMITTEE: usize = 16;
/// Most bytes of a signed chain spec.
pub const MAX_SPEC_BYTES: usize = 4_096;

mod eip712 {
    #![allow(missing_docs)]
    alloy_sol_types::sol! {
        struct ChainSpec { bytes32 rlpHash; }
    }
}

/// A contract that the spec pins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ContractPin {
    /// Where it is deployed.
    pub address: Address,
    /// keccak256 of the deployed code, immutables included.
    pub code_hash: B256,
}

/// The four contracts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Contracts {
    /// Everything a device must prove.
    pub registry: ContractPin,
    /// Names.
    pub name_registrar: ContractPin,
    /// Nodes and committees.
    pub node_staking: ContractPin,
    /// Tickets and channels.
    pub settlement: ContractPin,
}

/// When a block counts as final.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FinalityRule {
    /// The chain's `finalized` tag.
    Tag,
    /// This many blocks deep.
    Depth(u64),
}

/// A share of the committee, as numerator and denominator, both at most 255.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fraction {
    /// Upper part.
    pub numerator: u8,
    /// Lower part, not zero.
    pub denominator: u8,
}

/// What a device pins about a chain and its registry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChainSpec {
    /// Only a higher version replaces a spec.
    pub version: u64,
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The hash of block 0.
    pub genesis_hash: B256,
    /// Addresses and code hashes.
    pub contracts: Contracts,
    /// The block that holds the first deployment: the follower starts here.
    pub deploy_block: u64,
    /// The first committee, strictly ascending.
    pub committee: Vec<Address>,
    /// Heights that are multiples of this are attestable. Not zero.
    pub head_interval: u64,
    /// When a block counts as final.
    pub finality: FinalityRule,
    /// Seconds a final header's timestamp may be behind its attestation.
    pub max_finality_lag: u64,
    /// Seconds for which an old committee may still vouch for its successor.
    pub trusting_period: u64,
    /// Seconds of one committee epoch. Not zero.
    pub epoch_length: u64,
    /// Seconds a node must have been staked to join a committee.
    pub stake_age: u64,
    /// Seconds between a node's notice and the return of its stake.
    pub unbonding_period: u64,
    /// The threshold is ⌊n·f⌋+1 of n members.
    pub fault_fraction: Fraction,
    /// A development chain: one provider is enough, and headers may run ahead of the clock.
    pub dev: bool,
    /// Unix seconds when the spec was made.
    pub date: u64,
}

impl ChainSpec {
    /// How many of `members` must attest a head.
    pub fn threshold(&self, members: usize) -> usize {
        members * usize::from(self.fault_fraction.numerator) / usize::from(self.fault_fraction.denominator)
            + 1
    }

    /// Whether nodes attest blocks of this height.
    pub fn attestable(&self, number: u64) -> bool {
        number.is_multiple_of(self.head_interval)
    }

    /// The committee epoch of a block with this timestamp. The registry counts them in 32 bits.
    pub fn epoch_at(&self, timestamp: u64) -> u32 {
        u32::try_from(timestamp / self.epoch_length).unwrap_or(u32::MAX)
    }

    /// Whether this is in the second half of its epoch: the next one's committee is settled then, since it may only be
    /// proposed in the first.
    pub fn is_second_half(&self, timestamp: u64) -> bool {
        timestamp % self.epoch_length >= self.epoch_length / 2
    }

    /// Unix seconds at which an epoch begins.
    pub fn epoch_start(&self, epoch: u32) -> u64 {
        u64::from(epoch).saturating_mul(self.epoch_length)
    }

    fn valid(&self) -> bool {
        let ascending = self.committee.windows(2).all(|pair| pair[0] < pair[1]);
        let fraction = self.fault_fraction;
        ascending
            && (1..=MAX_COMMITTEE).contains(&self.committee.len())
            && self.head_interval > 0
            && self.epoch_length > 0
            && fraction.denominator > 0
            && fraction.numerator < fraction.denominator
            && self.contracts.registry.code_hash != B256::ZERO
    }
}

impl Encodable for ContractPin {
    fn rlp_append(&self, s: &mut RlpStream) {
        s.begin_list(2).append(&self.address.as_slice()).append(&self.code_hash.as_slice());
    }
}

impl Decodable for ContractPin {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        let items = wire::fields(rlp, 2)?;
        Ok(Self { address: wire::address(&items[0])?, code_hash: wire::word(&items[1])? })
    }
}

/// `[version, chainId, genesisHash, [registry, nameRegistrar, nodeStaking, settlement] each [address,
/// codeHash], deployBlock, [committee…], headInterval, finalityDepth (0 = tag), maxFinalityLag,
/// trustingPeriod, epochLength, stakeAge, unbondingPeriod, [numerator, denominator], dev, date]`.
impl Encodable for ChainSpec {
    fn rlp_append(&self, s: &mut RlpStream) {
        s.begin_list(16);
        s.append(&self.version).append(&self.chain_id).append(&self.genesis_hash.as_slice());
        let c = &self.contracts;
        s.begin_list(4)
            .append(&c.registry)
            .append(&c.name_registrar)
            .append(&c.node_staking)
            .append(&c.settlement);
        s.append(&self.deploy_block);
        wire::append_slices(s, &self.committee);
        s.append(&self.head_interval);
        s.append(&match self.finality {
            FinalityRule::Tag => 0u64,
            FinalityRule::Depth(depth) => depth,
        });
        s.append(&self.max_finality_lag).append(&self.trusting_period).append(&self.epoch_length);
        s.append(&self.stake_age).append(&self.unbonding_period);
        s.begin_list(2).append(&self.fault_fraction.numerator).append(&self.fault_fraction.denominator);
        s.append(&self.dev).append(&self.date);
    }
}

impl Decodable for ChainSpec {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        let f = wire::items(rlp, 16, 16)?;
        let contracts = wire::items(&f[3], 4, 4)?;
        let fraction = wire::items(&f[13], 2, 2)?;
        let depth: u64 = f[7].as_val()?;
        let spec = Self {
            version: f[0].as_val()?,
            chain_id: f[1].as_val()?,
            genesis_hash: wire::word(&f[2])?,
            contracts: Contracts {
                registry: contracts[0].as_val()?,
                name_registrar: contracts[1].as_val()?,
                node_staking: contracts[2].as_val()?,
                settlement: contracts[3].as_val()?,
            },
            deploy_block: f[4].as_val()?,
            committee: wire::addresses(&f[5], MAX_COMMITTEE)?,
            head_interval: f[6].as_val()?,
            finality: if depth == 0 { FinalityRule::Tag } else { FinalityRule::Depth(depth) },
            max_finality_lag: f[8].as_val()?,
            trusting_period: f[9].as_val()?,
            epoch_length: f[10].as_val()?,
            stake_age: f[11].as_val()?,
            unbonding_period: f[12].as_val()?,
            fault_fraction: Fraction { numerator: fraction[0].as_val()?, denominator: fraction[1].as_val()? },
            dev: f[14].as_val()?,
            date: f[15].as_val()?,
        };
        if spec.valid() { Ok(spec) } else { Err(DecoderError::Custom("a chain spec with impossible values")) }
    }
}

/// Why a chain spec is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Not a signed chain spec.
    #[error("not a chain spec: {0}")]
    Decode(#[from] wire::DecodeError),
    /// The RLP is not the one encoding of its content.
    #[error("not a chain spec: its encoding is not canonical")]
    NotCanonical,
    /// Signed by somebody else than the publisher the user named.
    #[error("the chain spec is signed by {signer}, not by the publisher {publisher}")]
    Publisher {
        /// Who signed.
        signer: KeyAddress,
        /// Who should have.
        publisher: KeyAddress,
    },
}

/// A chain spec with its publisher's signature, as stored and exchanged: RLP `[spec, signature]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedSpec {
    spec: Vec<u8>,
    signature: Signature,
}

impl SignedSpec {
    /// Signs a spec with the publisher's key.
    pub fn sign(spec: &ChainSpec, publisher: &crate::SecretKey) -> Self {
        let spec = wire::encode(spec);
        let signature = publisher.sign(&digest(keccak256(&spec)));
        Self { spec, signature }
    }

    /// What it says, whoever signed it.
    pub fn claimed(&self) -> Result<ChainSpec, wire::DecodeError> {
        wire::decode(&self.spec, MAX_SPEC_BYTES)
    }

    /// The bytes to store.
    pub fn to_bytes(&self) -> Vec<u8> {
        wire::encode(self)
    }
}

impl Encodable for SignedSpec {
    fn rlp_append(&self, s: &mut RlpStream) {
        s.begin_list(2).append(&self.spec).append(&self.signature.as_bytes().as_slice());
    }
}

impl Decodable for SignedSpec {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        let items = wire::items(rlp, 2, 2)?;
        Ok(Self { spec: items[0].data()?.to_vec(), signature: wire::signature(&items[1])? })
    }
}

/// EIP-712: `ChainSpec(bytes32 rlpHash)` in domain {"Windlass ChainSpec", "1"}.
fn digest(rlp_hash: B256) -> B256 {
    let domain = Eip712Domain::new(Some("Windlass ChainSpec".into()), Some("1".into()), None, None, None);
    eip712::ChainSpec { rlpHash: rlp_hash }.eip712_signing_hash(&domain)
}

/// A spec whose publisher's signature was checked; made only by [`verify_spec`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedSpec {
    spec: ChainSpec,
    hash: B256,
    publisher: KeyAddress,
    signature: Signature,
}

impl VerifiedSpec {
    /// keccak256 of the spec's RLP without its signature.
    pub fn hash(&self) -> B256 {
        self.hash
    }

    /// Who signed it.
    pub fn publisher(&self) -> KeyAddress {
        self.publisher
    }

    /// With its signature, as stored and exchanged: for whoever has to check it anew.
    pub fn to_bytes(&self) -> Vec<u8> {
        SignedSpec { spec: wire::encode(&self.spec), signature: self.signature }.to_bytes()
    }
}

impl Deref for VerifiedSpec {
    type Target = ChainSpec;
    fn deref(&self) -> &ChainSpec {
        &self.spec
    }
}

/// Accepts a signed spec if `publisher` signed it.
pub fn verify_spec(bytes: &[u8], publisher: KeyAddress) -> Result<VerifiedSpec, SpecError> {
    let signed: SignedSpec = wire::decode(bytes, MAX_SPEC_BYTES)?;
    let hash = keccak256(&signed.spec);
    let nobody = KeyAddress(Address::ZERO);
    let signer = signed.signature.recover(&digest(hash)).map_or(nobody, |key| key.address());
    if signer != publisher {
        return Err(SpecError::Publisher { signer, publisher });
    }
    let spec: ChainSpec = wire::decode(&signed.spec, MAX_SPEC_BYTES)?;
    if wire::encode(&spec) != signed.spec {
        return Err(SpecError::NotCanonical);
    }
    Ok(VerifiedSpec { spec, hash, publisher, signature: signed.signature })
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::SecretKey;

    pub(crate) fn key(byte: u8) -> SecretKey {
        SecretKey::from_bytes(&[byte; 32]).unwrap()
    }

    /// A spec whose committee are the keys 1, 2 and 3.
    pub(crate) fn example() -> ChainSpec {
        let mut committee: Vec<Address> = (1..=3).map(|byte| key(byte).address().0).collect();
        committee.sort();
        ChainSpec {
            version: 1,
            chain_id: 1337,
            genesis_hash: B256::repeat_byte(1),
            contracts: Contracts {
                registry: ContractPin { address: Address::repeat_byte(2), code_hash: B256::repeat_byte(3) },
                ..Contracts::default()
            },
            deploy_block: 1,
            committee,
            head_interval: 1,
            finality: FinalityRule::Tag,
            max_finality_lag: 60,
            trusting_period: 604_800,
            epoch_length: 86_400,
            stake_age: 86_400,
            unbonding_period: 1_814_400,
            fault_fraction: Fraction { numerator: 1, denominator: 2 },
            dev: true,
            date: 1_700_000_000,
        }
    }

    pub(crate) fn verified(spec: &ChainSpec) -> VerifiedSpec {
        verify_spec(&SignedSpec::sign(spec, &key(9)).to_bytes(), key(9).address()).unwrap()
    }

    #[test]
    fn a_signed_spec_is_accepted_under_its_publisher_only() {
        let bytes = SignedSpec::sign(&example(), &key(9)).to_bytes();
        let spec = verify_spec(&bytes, key(9).address()).unwrap();
        assert_eq!(*spec, example());
        let signed: SignedSpec = wire::decode(&bytes, MAX_SPEC_BYTES).unwrap();
        assert_eq!(signed.claimed(), Ok(example()));
        let other = verify_spec(&bytes, key(8).address());
        assert!(matches!(other, Err(SpecError::Publisher { signer, .. }) if signer == key(9).address()));
    }

    #[test]
    fn any_flipped_bit_is_refused() {
        let bytes = SignedSpec::sign(&example(), &key(9)).to_bytes();
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            assert!(verify_spec(&changed, key(9).address()).is_err(), "byte {index}");
        }
    }

    #[test]
    fn impossible_values_are_refused() {
        let mut unsorted = example();
        unsorted.committee.reverse();
        let mut empty = example();
        empty.committee.clear();
        let mut whole = example();
        whole.fault_fraction = Fraction { numerator: 1, denominator: 1 };
        let mut no_interval = example();
        no_interval.head_interval = 0;
        for spec in [unsorted, empty, whole, no_interval] {
            let bytes = SignedSpec::sign(&spec, &key(9)).to_bytes();
            assert!(matches!(verify_spec(&bytes, key(9).address()), Err(SpecError::Decode(_))));
        }
    }

    #[test]
    fn a_non_canonical_encoding_is_refused() {
        // The same spec with finality depth 0 is the tag; a trailing field makes another encoding.
        let mut spec = wire::encode(&example());
        spec.push(0x80);
        let signature = key(9).sign(&digest(keccak256(&spec)));
        let bytes = SignedSpec { spec, signature }.to_bytes();
        assert!(verify_spec(&bytes, key(9).address()).is_err());
    }

    #[test]
    fn thresholds() {
        let mut spec = example();
        assert_eq!((spec.threshold(3), spec.threshold(4), spec.threshold(1)), (2, 3, 1));
        spec.fault_fraction = Fraction { numerator: 2, denominator: 3 };
        assert_eq!((spec.threshold(3), spec.threshold(4), spec.threshold(16)), (3, 3, 11));
    }
}
