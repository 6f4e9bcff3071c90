//! Which spec may take another's place: a later one of the same network, signed by the same publisher.
//!
//! A renewal names who attests heads from a newer date on, so that devices which know only a spec are let in again.
//! What a mirror holds, what members sign and how epochs are counted rest on the rest of a spec, which stays.

use super::{ChainSpec, SpecError, VerifiedSpec, verify_spec};
use crate::address::KeyAddress;
use crate::head::MAX_CLOCK_SKEW;
use alloc::vec::Vec;
use alloy_primitives::{B256, keccak256};
use core::fmt;
use rlp::RlpStream;

/// What makes another network of a spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fixed {
    /// The EIP-155 chain id.
    ChainId,
    /// The hash of block 0.
    GenesisHash,
    /// Addresses and code hashes.
    Contracts,
    /// Where followers start.
    DeployBlock,
    /// Which heights are attested.
    HeadInterval,
    /// When a block is final.
    Finality,
    /// How epochs are counted.
    EpochLength,
    /// What NodeStaking asks of a node.
    StakeAge,
    /// What NodeStaking asks of who leaves.
    UnbondingPeriod,
    /// How many members make a threshold.
    FaultFraction,
    /// Whether it is a development chain.
    Dev,
}

impl fmt::Display for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ChainId => "chain id",
            Self::GenesisHash => "genesis hash",
            Self::Contracts => "contracts",
            Self::DeployBlock => "deploy block",
            Self::HeadInterval => "head interval",
            Self::Finality => "finality rule",
            Self::EpochLength => "epoch length",
            Self::StakeAge => "stake age",
            Self::UnbondingPeriod => "unbonding period",
            Self::FaultFraction => "fault fraction",
            Self::Dev => "development mark",
        })
    }
}

/// Why a spec can't take another's place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SuccessionError {
    /// Somebody else's.
    #[error("it is signed by {newer}, the present one by {older}")]
    Publisher {
        /// Who signed the present one.
        older: KeyAddress,
        /// Who signed this one.
        newer: KeyAddress,
    },
    /// Of another network.
    #[error("it is of another network: its {0} is another")]
    OtherNetwork(Fixed),
    /// The same version, or a lower one.
    #[error("its version {offered} is not above the present one's, {present}")]
    NotHigher {
        /// The present one's.
        present: u64,
        /// This one's.
        offered: u64,
    },
    /// It is dated before the one it should replace.
    #[error("its date {offered} is before the present one's, {present} (Unix seconds)")]
    Earlier {
        /// The present one's.
        present: u64,
        /// This one's.
        offered: u64,
    },
}

/// Why a renewal is not adopted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenewalError {
    /// Not a spec of the publisher's.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// Not one that may take the present one's place.
    #[error("the chain spec can't take the present one's place: {0}")]
    Succession(#[from] SuccessionError),
    /// It is dated ahead of our clock: either may be wrong.
    #[error("the chain spec is dated {date}, and it is {now} here (Unix seconds): is this clock slow?")]
    Ahead {
        /// The spec's date.
        date: u64,
        /// Our clock.
        now: u64,
    },
}

impl VerifiedSpec {
    /// Tells networks apart, whatever version of its spec is at hand: the same for every spec that may take this one's
    /// place, or whose place this one may take.
    pub fn network(&self) -> B256 {
        let fixed = ChainSpec {
            version: 0,
            committee: Vec::new(),
            max_finality_lag: 0,
            trusting_period: 0,
            date: 0,
            ..self.spec.clone()
        };
        let mut s = RlpStream::new_list(2);
        s.append(&self.publisher.0.as_slice()).append(&fixed);
        keccak256(s.out())
    }

    /// Whether this spec may take `older`'s place: a higher version of the same network by the same publisher, dated no
    /// earlier. It may name another committee, finality lag and trusting period; all else stays.
    pub fn succeeds(&self, older: &Self) -> Result<(), SuccessionError> {
        self.is_of_network(older)?;
        let (present, offered) = (older.version, self.version);
        if offered <= present {
            return Err(SuccessionError::NotHigher { present, offered });
        }
        let (present, offered) = (older.date, self.date);
        if offered < present {
            return Err(SuccessionError::Earlier { present, offered });
        }
        Ok(())
    }

    /// Whether both are of one network, whichever is newer.
    pub fn is_of_network(&self, other: &Self) -> Result<(), SuccessionError> {
        if self.publisher != other.publisher {
            return Err(SuccessionError::Publisher { older: other.publisher, newer: self.publisher });
        }
        let (a, b) = (&self.spec, &other.spec);
        let fixed = [
            (a.chain_id == b.chain_id, Fixed::ChainId),
            (a.genesis_hash == b.genesis_hash, Fixed::GenesisHash),
            (a.contracts == b.contracts, Fixed::Contracts),
            (a.deploy_block == b.deploy_block, Fixed::DeployBlock),
            (a.head_interval == b.head_interval, Fixed::HeadInterval),
            (a.finality == b.finality, Fixed::Finality),
            (a.epoch_length == b.epoch_length, Fixed::EpochLength),
            (a.stake_age == b.stake_age, Fixed::StakeAge),
            (a.unbonding_period == b.unbonding_period, Fixed::UnbondingPeriod),
            (a.fault_fraction == b.fault_fraction, Fixed::FaultFraction),
            (a.dev == b.dev, Fixed::Dev),
        ];
        let other = fixed.iter().find(|(same, _)| !same);
        other.map_or(Ok(()), |(_, what)| Err(SuccessionError::OtherNetwork(*what)))
    }

    /// Unix seconds until which a device that knows nothing later than this spec is let in.
    pub fn good_until(&self) -> u64 {
        let ends = self.epoch_start(self.epoch_at(self.date).saturating_add(1));
        ends.saturating_add(self.trusting_period)
    }
}

/// Accepts a signed spec in place of the present one: see [`VerifiedSpec::succeeds`]; and not ahead of the clock, which is
/// Unix seconds.
pub fn verify_renewal(bytes: &[u8], present: &VerifiedSpec, now: u64) -> Result<VerifiedSpec, RenewalError> {
    let renewed = verify_spec(bytes, present.publisher)?;
    renewed.succeeds(present)?;
    match renewed.date {
        date if date > now.saturating_add(MAX_CLOCK_SKEW) => Err(RenewalError::Ahead { date, now }),
        _ => Ok(renewed),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tests::{example, key, verified};
    use super::super::{ContractPin, FinalityRule, Fraction, SignedSpec};
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;
    use alloy_primitives::Address;

    /// A year after the example.
    const LATER: u64 = 1_731_536_000;

    fn renewed() -> ChainSpec {
        ChainSpec { version: 2, date: LATER, ..example() }
    }

    fn signed(spec: &ChainSpec) -> Vec<u8> {
        SignedSpec::sign(spec, &key(9)).to_bytes()
    }

    #[test]
    fn a_higher_version_with_another_committee_and_other_periods_takes_its_place() {
        let older = verified(&example());
        let spec = ChainSpec {
            committee: vec![key(7).address().0],
            trusting_period: 99,
            max_finality_lag: 77,
            ..renewed()
        };
        let newer = verified(&spec);
        assert_eq!(newer.succeeds(&older), Ok(()));
        assert_eq!(newer.network(), older.network());
        assert_ne!(newer.hash(), older.hash());
        assert_eq!(verify_renewal(&signed(&spec), &older, LATER), Ok(newer.clone()));
        // What was verified can be passed on.
        assert_eq!(newer.to_bytes(), signed(&spec));
    }

    /// One change of what a network is, and what it is called.
    type Change = (Fixed, fn(&mut ChainSpec));

    const CHANGES: [Change; 14] = [
        (Fixed::ChainId, |spec| spec.chain_id += 1),
        (Fixed::GenesisHash, |spec| spec.genesis_hash = B256::ZERO),
        (Fixed::Contracts, |spec| spec.contracts.registry.address = Address::ZERO),
        (Fixed::Contracts, |spec| spec.contracts.registry.code_hash = B256::repeat_byte(9)),
        (Fixed::Contracts, |spec| {
            spec.contracts.settlement =
                ContractPin { address: Address::ZERO, code_hash: B256::repeat_byte(1) };
        }),
        (Fixed::DeployBlock, |spec| spec.deploy_block += 1),
        (Fixed::HeadInterval, |spec| spec.head_interval = 2),
        (Fixed::Finality, |spec| spec.finality = FinalityRule::Depth(1)),
        (Fixed::EpochLength, |spec| spec.epoch_length -= 1),
        (Fixed::StakeAge, |spec| spec.stake_age += 1),
        (Fixed::UnbondingPeriod, |spec| spec.unbonding_period += 1),
        (Fixed::FaultFraction, |spec| spec.fault_fraction = Fraction { numerator: 2, denominator: 3 }),
        (Fixed::FaultFraction, |spec| spec.fault_fraction = Fraction { numerator: 0, denominator: 2 }),
        (Fixed::Dev, |spec| spec.dev = false),
    ];

    #[test]
    fn every_difference_that_makes_another_network_is_named() {
        let older = verified(&example());
        for (what, change) in CHANGES {
            let mut spec = renewed();
            change(&mut spec);
            let newer = verified(&spec);
            assert_eq!(newer.succeeds(&older), Err(SuccessionError::OtherNetwork(what)));
            assert_ne!(newer.network(), older.network(), "{what}");
            let error = verify_renewal(&signed(&spec), &older, LATER).unwrap_err().to_string();
            let name = what.to_string();
            assert!(!name.is_empty() && error.contains(&name), "{error}");
        }
    }

    #[test]
    fn the_same_or_a_lower_version_never_takes_its_place() {
        let older = verified(&ChainSpec { version: 2, ..example() });
        for offered in [0, 1, 2] {
            let newer = verified(&ChainSpec { version: offered, ..renewed() });
            assert_eq!(newer.succeeds(&older), Err(SuccessionError::NotHigher { present: 2, offered }));
        }
    }

    #[test]
    fn an_earlier_date_is_refused_and_the_same_one_taken() {
        let older = verified(&example());
        let present = older.date;
        let earlier = verified(&ChainSpec { date: present - 1, ..renewed() });
        assert_eq!(earlier.succeeds(&older), Err(SuccessionError::Earlier { present, offered: present - 1 }));
        assert_eq!(verified(&ChainSpec { date: present, ..renewed() }).succeeds(&older), Ok(()));
    }

    #[test]
    fn another_publishers_is_refused_however_it_is_offered() {
        let older = verified(&example());
        let bytes = SignedSpec::sign(&renewed(), &key(8)).to_bytes();
        let newer = verify_spec(&bytes, key(8).address()).unwrap();
        assert!(matches!(newer.succeeds(&older), Err(SuccessionError::Publisher { .. })));
        assert_ne!(newer.network(), older.network());
        let refused = verify_renewal(&bytes, &older, LATER);
        assert!(matches!(refused, Err(RenewalError::Spec(SpecError::Publisher { .. }))), "{refused:?}");
    }

    #[test]
    fn what_is_dated_ahead_of_the_clock_is_not_adopted() {
        let older = verified(&example());
        let at = |now| verify_renewal(&signed(&renewed()), &older, now);
        assert!(at(LATER - MAX_CLOCK_SKEW).is_ok());
        let now = LATER - MAX_CLOCK_SKEW - 1;
        assert_eq!(at(now), Err(RenewalError::Ahead { date: LATER, now }));
        assert!(at(0).is_err() && at(u64::MAX).is_ok());
    }

    #[test]
    fn a_changed_bit_of_a_renewal_is_refused() {
        let older = verified(&example());
        let bytes = signed(&renewed());
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            assert!(verify_renewal(&changed, &older, LATER).is_err(), "byte {index}");
            assert!(verify_renewal(&bytes[..index], &older, LATER).is_err(), "cut to {index}");
        }
    }

    #[test]
    fn a_spec_is_good_until_its_epochs_end_and_the_trusting_period() {
        let spec = verified(&example());
        let end = (spec.date / spec.epoch_length + 1) * spec.epoch_length;
        assert_eq!(spec.good_until(), end + spec.trusting_period);
        let endless = verified(&ChainSpec { trusting_period: u64::MAX, ..example() });
        assert_eq!(endless.good_until(), u64::MAX);
    }
}
