//! What an operator decides about a deployment: the committee, periods, fees. Everything else follows from the chain
//! and the contracts.

use serde::Serialize;
use windlass_protocol::spec::{FinalityRule, Fraction, MAX_COMMITTEE};
use windlass_protocol::{Address, B256, keccak256};

/// Seconds of a day.
const DAY: u64 = 24 * 3_600;

/// The terms of a deployment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Terms {
    /// The first committee, strictly ascending: addresses of nodes.
    pub committee: Vec<Address>,
    /// Who is paid the fees of names; not the zero address.
    pub treasury: Address,
    /// The registry this one succeeds; zero for none.
    pub predecessor: Address,
    /// Of the spec: only a higher one replaces another.
    pub version: u64,
    /// Blocks from one attestable head to the next.
    pub head_interval: u64,
    /// When a block is final.
    pub finality: FinalityRule,
    /// Seconds a final block may be old when it is attested.
    pub max_finality_lag: u64,
    /// Seconds for which an old committee may vouch for its successor.
    pub trusting_period: u64,
    /// Seconds of a committee epoch.
    pub epoch_length: u32,
    /// Seconds of staking before a node may join a committee.
    pub stake_age: u32,
    /// Seconds from a node's notice to the return of its stake.
    pub unbonding_period: u32,
    /// The least stake of a node, in wei.
    pub min_stake: u128,
    /// How much of the committee may be wrong.
    pub fault_fraction: Fraction,
    /// A chain for development: one provider is enough, and clocks may run ahead.
    pub dev: bool,
    /// Seconds a name's commitment must wait, and may wait at most.
    pub commitment_ages: (u32, u32),
    /// Seconds an expired name is kept for renewal.
    pub grace: u32,
    /// Wei per year for names of 3, of 4, and of 5 or more characters.
    pub fees: [u128; 3],
}

/// Why terms can't be deployed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// None, or too many.
    #[error(
        "a committee has 1 to {MAX_COMMITTEE} members, this one has {0}: name the addresses of your nodes"
    )]
    CommitteeSize(usize),
    /// Named twice.
    #[error("{0} is named twice in the committee")]
    Twice(Address),
    /// A period or interval that can't work.
    #[error("the terms contradict each other: {0}")]
    Contradiction(&'static str),
}

impl Terms {
    /// For a chain that others rely on: two thirds of the committee must be right, and every period is real.
    ///
    /// # Errors
    /// [`TermsError`] about the committee.
    pub fn public(committee: Vec<Address>, treasury: Address) -> Result<Self, TermsError> {
        Ok(Self {
            committee: ascending(committee)?,
            treasury,
            predecessor: Address::ZERO,
            version: 1,
            head_interval: 1,
            finality: FinalityRule::Tag,
            max_finality_lag: 3_600,
            trusting_period: 7 * DAY,
            epoch_length: DAY as u32,
            stake_age: 7 * DAY as u32,
            unbonding_period: 21 * DAY as u32,
            min_stake: 1_000_000_000_000_000_000,
            fault_fraction: Fraction { numerator: 2, denominator: 3 },
            dev: false,
            commitment_ages: (60, 86_400),
            grace: 30 * DAY as u32,
            fees: [64_000_000_000_000_000, 16_000_000_000_000_000, 500_000_000_000_000],
        })
    }

    /// For the embedded chain: more than half of the committee, and periods of seconds.
    ///
    /// # Errors
    /// [`TermsError`] about the committee.
    pub fn development(committee: Vec<Address>) -> Result<Self, TermsError> {
        let public = Self::public(committee, Address::ZERO)?;
        Ok(Self {
            treasury: public.committee[0],
            max_finality_lag: 60,
            epoch_length: 600,
            stake_age: 10,
            // Networks for development are left alone for days, and nobody's stake is worth anything there.
            trusting_period: 30 * DAY,
            unbonding_period: 1_800,
            fault_fraction: Fraction { numerator: 1, denominator: 2 },
            dev: true,
            commitment_ages: (1, 86_400),
            grace: 60,
            ..public
        })
    }

    pub(super) fn check(&self) -> Result<(), TermsError> {
        if ascending(self.committee.clone())? != self.committee {
            return Err(TermsError::Contradiction("the committee isn't in ascending order"));
        }
        let (least, most) = self.commitment_ages;
        let rules = [
            (self.head_interval > 0, "the head interval is zero"),
            (self.epoch_length >= 2, "an epoch is shorter than 2 s"),
            (
                self.dev || u64::from(self.unbonding_period) > self.trusting_period,
                "stake leaves before the trusting period ends",
            ),
            (least > 0 && most > least, "a commitment's ages"),
            (
                self.fault_fraction.numerator < self.fault_fraction.denominator,
                "the fault fraction isn't below one",
            ),
            (self.min_stake > 0, "the least stake is zero"),
            (self.treasury != Address::ZERO, "the treasury is the zero address"),
        ];
        let broken = rules.iter().find(|(holds, _)| !holds);
        broken.map_or(Ok(()), |(_, rule)| Err(TermsError::Contradiction(rule)))
    }

    /// A digest of everything that the contracts' code depends on, so that a journal isn't continued under other terms.
    pub(super) fn digest(&self) -> B256 {
        #[derive(Serialize)]
        struct Fixed<'a>(&'a Address, &'a Address, (u32, u32), u32, [String; 4], [u32; 3]);
        let [three, four, five] = self.fees;
        let wei = [three, four, five, self.min_stake].map(|amount| amount.to_string());
        let periods = [self.epoch_length, self.stake_age, self.unbonding_period];
        let fixed = Fixed(&self.treasury, &self.predecessor, self.commitment_ages, self.grace, wei, periods);
        keccak256(serde_json::to_vec(&fixed).expect("addresses and numbers always serialise"))
    }
}

/// A committee as specs and the registry have it.
pub(crate) fn ascending(mut committee: Vec<Address>) -> Result<Vec<Address>, TermsError> {
    committee.sort_unstable();
    if !(1..=MAX_COMMITTEE).contains(&committee.len()) {
        return Err(TermsError::CommitteeSize(committee.len()));
    }
    match committee.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(TermsError::Twice(pair[0])),
        None => Ok(committee),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn members(count: u8) -> Vec<Address> {
        (1..=count).rev().map(Address::repeat_byte).collect()
    }

    #[test]
    fn committees_are_sorted_and_bounded() {
        let terms = Terms::development(members(3)).unwrap();
        assert_eq!(terms.committee, [1, 2, 3].map(Address::repeat_byte));
        assert_eq!(terms.check(), Ok(()));
        assert_eq!(Terms::development(vec![]).err(), Some(TermsError::CommitteeSize(0)));
        assert_eq!(Terms::development(members(17)).err(), Some(TermsError::CommitteeSize(17)));
        let twice = [members(2), members(1)].concat();
        assert_eq!(Terms::development(twice).err(), Some(TermsError::Twice(Address::repeat_byte(1))));
    }

    #[test]
    fn contradictions_are_refused_by_name() {
        let good = Terms::public(members(3), Address::repeat_byte(9)).unwrap();
        assert_eq!(good.check(), Ok(()));
        let bad = [
            (Terms { treasury: Address::ZERO, ..good.clone() }, "treasury"),
            (Terms { head_interval: 0, ..good.clone() }, "interval"),
            (Terms { epoch_length: 0, ..good.clone() }, "epoch"),
            (Terms { unbonding_period: 1, ..good.clone() }, "stake leaves"),
            (Terms { min_stake: 0, ..good.clone() }, "least stake"),
            (Terms { commitment_ages: (5, 5), ..good.clone() }, "ages"),
            (Terms { fault_fraction: Fraction { numerator: 1, denominator: 1 }, ..good.clone() }, "fraction"),
            (Terms { committee: members(3), ..good.clone() }, "ascending"),
        ];
        for (terms, word) in bad {
            assert!(terms.check().unwrap_err().to_string().contains(word), "{word}");
        }
    }

    #[test]
    fn the_digest_covers_what_is_in_the_code() {
        let terms = Terms::development(members(1)).unwrap();
        assert_eq!(terms.digest(), Terms { version: 2, ..terms.clone() }.digest());
        assert_ne!(terms.digest(), Terms { grace: 1, ..terms.clone() }.digest());
        assert_ne!(terms.digest(), Terms { min_stake: 1, ..terms.clone() }.digest());
        assert_ne!(terms.digest(), Terms { epoch_length: 9, ..terms.clone() }.digest());
        assert_ne!(terms.digest(), Terms { fees: [1, 2, 3], ..terms.clone() }.digest());
    }
}
