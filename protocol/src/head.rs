//! Which head to believe: a final block that enough members of the committee attested.

use crate::address::KeyAddress;
pub use crate::committee::{Committee, committee_hash};
use crate::header::{Header, HeaderError};
use crate::keys::{SecretKey, Signature};
use crate::spec::{ChainSpec, MAX_COMMITTEE, VerifiedSpec};
use crate::wire;
use alloc::vec::Vec;
use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::{Eip712Domain, SolStruct};
use rlp::{Decodable, DecoderError, Encodable, Rlp, RlpStream};

/// Seconds another machine's clock may run ahead of ours.
pub const MAX_CLOCK_SKEW: u64 = 60;

mod eip712 {
    #![allow(missing_docs)]
    alloy_sol_types::sol! {
        struct Head { uint64 number; bytes32 hash; uint64 attestedAt; bytes32 nonce; }
    }
}

/// What a committee member signs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// The block's number: a multiple of the spec's head interval.
    pub number: u64,
    /// The block's hash.
    pub hash: B256,
    /// Unix seconds when the member vouched for it.
    pub attested_at: u64,
    /// Zero, or the nonce of a device that asked for freshness.
    pub nonce: B256,
}

impl Head {
    /// The EIP-712 digest: domain {"Windlass Head", "1", chainId, salt = genesis hash}.
    pub fn digest(&self, spec: &ChainSpec) -> B256 {
        let domain = Eip712Domain::new(
            Some("Windlass Head".into()),
            Some("1".into()),
            Some(U256::from(spec.chain_id)),
            None,
            Some(spec.genesis_hash),
        );
        let head = eip712::Head {
            number: self.number,
            hash: self.hash,
            attestedAt: self.attested_at,
            nonce: self.nonce,
        };
        head.eip712_signing_hash(&domain)
    }

    /// Signs this head as a member.
    pub fn attest(&self, spec: &ChainSpec, member: &SecretKey) -> Attestation {
        Attestation {
            attested_at: self.attested_at,
            nonce: self.nonce,
            signature: member.sign(&self.digest(spec)),
        }
    }
}

/// One member's signature over a head; the head's number and hash come from the header it travels with.
/// RLP `[attestedAt, nonce ("" when zero), signature]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attestation {
    /// Unix seconds when the member vouched.
    pub attested_at: u64,
    /// Zero, or the nonce it answers.
    pub nonce: B256,
    /// Over [`Head::digest`].
    pub signature: Signature,
}

impl Attestation {
    /// Who signed this as an attestation of that block. Every signature recovers to some address: whether
    /// it is a member's is for the caller to check.
    pub fn signer(&self, spec: &ChainSpec, number: u64, hash: B256) -> Option<Address> {
        let head = Head { number, hash, attested_at: self.attested_at, nonce: self.nonce };
        self.signature.recover(&head.digest(spec)).ok().map(|key| key.address().0)
    }
}

impl Encodable for Attestation {
    fn rlp_append(&self, s: &mut RlpStream) {
        s.begin_list(3).append(&self.attested_at);
        if self.nonce.is_zero() {
            s.append_empty_data();
        } else {
            s.append(&self.nonce.as_slice());
        }
        s.append(&self.signature.as_bytes().as_slice());
    }
}

impl Decodable for Attestation {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        let items = wire::fields(rlp, 3)?;
        let nonce = if items[1].is_empty() { B256::ZERO } else { wire::word(&items[1])? };
        Ok(Self { attested_at: items[0].as_val()?, nonce, signature: wire::signature(&items[2])? })
    }
}

/// Why a head is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// The header itself.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// Not a multiple of the head interval.
    #[error("block {0} is not at an attestable height")]
    NotAttestable(u64),
    /// More attestations than a committee has members.
    #[error("{0} attestations are more than a committee's")]
    TooMany(usize),
    /// A signature that is nobody's of the committee: another chain, another header, or a stranger.
    #[error("an attestation of block {number} is signed by {signer}, who is not in the committee")]
    NotCommittee {
        /// The block.
        number: u64,
        /// Who signed.
        signer: KeyAddress,
    },
    /// The committee it is checked with is not the one of its epoch.
    #[error(
        "block {number} is of epoch {epoch}, not of one from {from} to {through}, for which the committee is known"
    )]
    OtherEpoch {
        /// The block.
        number: u64,
        /// Its epoch.
        epoch: u32,
        /// The committee's first epoch.
        from: u32,
        /// The last one it is known to be in office for.
        through: u32,
    },
    /// The same member twice.
    #[error("{signer} attested block {number} twice in one answer")]
    Repeated {
        /// The block.
        number: u64,
        /// Who signed.
        signer: KeyAddress,
    },
    /// Fewer members than the threshold.
    #[error("block {number} has {signers} of the {threshold} attestations it needs")]
    TooFew {
        /// The block.
        number: u64,
        /// Distinct members.
        signers: usize,
        /// What the spec asks.
        threshold: usize,
    },
    /// Another nonce than the one asked for.
    #[error("an attestation of block {0} answers another nonce")]
    Nonce(u64),
    /// An attestation or header from more than [`MAX_CLOCK_SKEW`] ahead of our clock.
    #[error("block {0} or its attestation is dated in the future")]
    Future(u64),
    /// The header is older than the finality lag allows: finality stalled, or the chain is withheld.
    #[error("block {number} is {lag} s older than its attestation, over the finality lag of {limit} s")]
    Lag {
        /// The block.
        number: u64,
        /// Seconds between header and attestation.
        lag: u64,
        /// What the spec allows.
        limit: u64,
    },
}

/// A head that enough members attested; made only by [`verify_head`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VerifiedHead {
    header: Header,
    attested_at: u64,
    signers: usize,
}

impl VerifiedHead {
    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The block's number.
    pub fn number(&self) -> u64 {
        self.header.number
    }

    /// The latest Unix second t such that a threshold of members vouched at t or later.
    pub fn attested_at(&self) -> u64 {
        self.attested_at
    }

    /// How many members attested it.
    pub fn signers(&self) -> usize {
        self.signers
    }

    /// Seconds since a threshold of members last vouched for this head.
    pub fn age(&self, now: u64) -> u64 {
        now.saturating_sub(self.attested_at)
    }
}

/// What a head is checked against.
#[derive(Clone, Copy, Debug)]
pub struct Trust<'a> {
    /// The pinned spec.
    pub spec: &'a VerifiedSpec,
    /// The committee of the head's epoch.
    pub committee: &'a Committee,
    /// Unix seconds, `None` on a device without a clock.
    pub now: Option<u64>,
    /// The nonce every attestation must answer, if one was sent.
    pub nonce: Option<B256>,
}

/// Believes a header if a threshold of the committee attested exactly this block, recently enough after it.
pub fn verify_head(
    trust: &Trust<'_>,
    header: &[u8],
    attestations: &[Attestation],
) -> Result<VerifiedHead, HeadError> {
    let header = Header::decode(header)?;
    let number = header.number;
    if !trust.spec.attestable(number) {
        return Err(HeadError::NotAttestable(number));
    }
    let (epoch, committee) = (trust.spec.epoch_at(header.timestamp), trust.committee);
    if !committee.is_in_office(epoch) {
        let (from, through) = (committee.from(), committee.through());
        return Err(HeadError::OtherEpoch { number, epoch, from, through });
    }
    if attestations.len() > MAX_COMMITTEE {
        return Err(HeadError::TooMany(attestations.len()));
    }
    let mut signers: Vec<Address> = Vec::with_capacity(attestations.len());
    for attestation in attestations {
        signers.push(verify_attestation(trust, &header, attestation, &signers)?);
    }
    let threshold = trust.spec.threshold(trust.committee.members().len());
    if signers.len() < threshold {
        return Err(HeadError::TooFew { number, signers: signers.len(), threshold });
    }
    let mut times: Vec<u64> = attestations.iter().map(|a| a.attested_at).collect();
    times.sort_unstable_by(|a, b| b.cmp(a));
    let attested_at = times[threshold - 1];
    verify_times(trust, &header, attested_at)?;
    Ok(VerifiedHead { header, attested_at, signers: signers.len() })
}

fn verify_attestation(
    trust: &Trust<'_>,
    header: &Header,
    attestation: &Attestation,
    earlier: &[Address],
) -> Result<Address, HeadError> {
    let number = header.number;
    if trust.nonce.is_some_and(|nonce| nonce != attestation.nonce) {
        return Err(HeadError::Nonce(number));
    }
    if trust.now.is_some_and(|now| attestation.attested_at > now + MAX_CLOCK_SKEW) {
        return Err(HeadError::Future(number));
    }
    let signer = attestation.signer(trust.spec, number, header.hash).unwrap_or(Address::ZERO);
    if !trust.committee.contains(&signer) {
        return Err(HeadError::NotCommittee { number, signer: KeyAddress(signer) });
    }
    if earlier.contains(&signer) {
        return Err(HeadError::Repeated { number, signer: KeyAddress(signer) });
    }
    Ok(signer)
}

fn verify_times(trust: &Trust<'_>, header: &Header, attested_at: u64) -> Result<(), HeadError> {
    // On a development chain blocks mined within one second, and time travel, run ahead of the clock.
    let ahead = trust.now.is_some_and(|now| header.timestamp > now + MAX_CLOCK_SKEW);
    if ahead && !trust.spec.dev {
        return Err(HeadError::Future(header.number));
    }
    let lag = attested_at.saturating_sub(header.timestamp);
    let limit = trust.spec.max_finality_lag;
    if lag > limit {
        return Err(HeadError::Lag { number: header.number, lag, limit });
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::header::tests::header_rlp;
    use crate::spec::tests::{example, key, verified};

    const NOW: u64 = 1_800_000_000;

    pub(crate) fn attest(spec: &ChainSpec, header: &[u8], member: u8, at: u64) -> Attestation {
        let decoded = Header::decode(header).unwrap();
        let head = Head { number: decoded.number, hash: decoded.hash, attested_at: at, nonce: B256::ZERO };
        head.attest(spec, &key(member))
    }

    fn check(
        spec: &VerifiedSpec,
        header: &[u8],
        attestations: &[Attestation],
    ) -> Result<VerifiedHead, HeadError> {
        let committee = Committee::first(spec);
        verify_head(&Trust { spec, committee: &committee, now: Some(NOW), nonce: None }, header, attestations)
    }

    #[test]
    fn two_of_three_are_believed_and_the_age_is_the_threshold_members() {
        let spec = verified(&example());
        let header = header_rlp(7, NOW - 10, B256::ZERO);
        let head =
            check(&spec, &header, &[attest(&spec, &header, 1, NOW - 9), attest(&spec, &header, 2, NOW - 3)]);
        assert_eq!(head.unwrap().age(NOW), 9);
        let all = [
            attest(&spec, &header, 1, NOW - 9),
            attest(&spec, &header, 2, NOW - 3),
            attest(&spec, &header, 3, NOW - 5),
        ];
        assert_eq!(check(&spec, &header, &all).unwrap().age(NOW), 5);
    }

    #[test]
    fn one_attestation_is_too_few() {
        let spec = verified(&example());
        let header = header_rlp(7, NOW - 10, B256::ZERO);
        let result = check(&spec, &header, &[attest(&spec, &header, 1, NOW)]);
        assert_eq!(result, Err(HeadError::TooFew { number: 7, signers: 1, threshold: 2 }));
    }

    #[test]
    fn more_attestations_than_a_committee_can_have_are_refused_unread() {
        let spec = verified(&example());
        let header = header_rlp(7, NOW - 10, B256::ZERO);
        let one = attest(&spec, &header, 1, NOW);
        for (count, too_many) in
            [(MAX_COMMITTEE, false), (MAX_COMMITTEE + 1, true), (MAX_COMMITTEE + 2, true)]
        {
            let result = check(&spec, &header, &alloc::vec![one.clone(); count]);
            assert_eq!(matches!(result, Err(HeadError::TooMany(_))), too_many, "{count}: {result:?}");
        }
    }

    #[test]
    fn the_same_member_does_not_count_twice() {
        let spec = verified(&example());
        let header = header_rlp(7, NOW - 10, B256::ZERO);
        let twice = [attest(&spec, &header, 1, NOW), attest(&spec, &header, 1, NOW - 1)];
        assert!(matches!(check(&spec, &header, &twice), Err(HeadError::Repeated { .. })));
    }

    #[test]
    fn a_stranger_another_header_and_another_chain_are_not_the_committee() {
        let spec = verified(&example());
        let header = header_rlp(7, NOW - 10, B256::ZERO);
        let other_header = header_rlp(7, NOW - 10, B256::repeat_byte(1));
        let mut elsewhere = example();
        elsewhere.genesis_hash = B256::repeat_byte(9);
        let good = attest(&spec, &header, 1, NOW);
        for bad in [
            attest(&spec, &header, 4, NOW),
            attest(&spec, &other_header, 2, NOW),
            attest(&elsewhere, &header, 2, NOW),
        ] {
            assert!(matches!(check(&spec, &header, &[good, bad]), Err(HeadError::NotCommittee { .. })));
        }
    }

    #[test]
    fn attested_at_and_nonce_are_signed() {
        let spec = verified(&example());
        let header = header_rlp(7, NOW - 10, B256::ZERO);
        let (a, mut b) = (attest(&spec, &header, 1, NOW - 5), attest(&spec, &header, 2, NOW - 5));
        b.attested_at += 1;
        assert!(matches!(check(&spec, &header, &[a, b]), Err(HeadError::NotCommittee { .. })));
        b.attested_at -= 1;
        b.nonce = B256::repeat_byte(1);
        assert!(matches!(check(&spec, &header, &[a, b]), Err(HeadError::NotCommittee { .. })));
    }

    #[test]
    fn a_cached_attestation_does_not_answer_a_nonce() {
        let spec = verified(&example());
        let header = header_rlp(7, NOW - 10, B256::ZERO);
        let committee = Committee::first(&spec);
        let trust =
            Trust { spec: &spec, committee: &committee, now: Some(NOW), nonce: Some(B256::repeat_byte(5)) };
        let cached = [attest(&spec, &header, 1, NOW), attest(&spec, &header, 2, NOW)];
        assert_eq!(verify_head(&trust, &header, &cached), Err(HeadError::Nonce(7)));
    }

    #[test]
    fn the_future_is_refused() {
        let spec = verified(&ChainSpec { dev: false, ..example() });
        let header = header_rlp(7, NOW - 10, B256::ZERO);
        let late = NOW + MAX_CLOCK_SKEW + 1;
        let ahead = [attest(&spec, &header, 1, NOW), attest(&spec, &header, 2, late)];
        assert_eq!(check(&spec, &header, &ahead), Err(HeadError::Future(7)));
        let header = header_rlp(7, late, B256::ZERO);
        let now = [attest(&spec, &header, 1, NOW), attest(&spec, &header, 2, NOW)];
        assert_eq!(check(&spec, &header, &now), Err(HeadError::Future(7)));
    }

    #[test]
    fn a_header_behind_the_finality_lag_is_refused() {
        let spec = verified(&example());
        let header = header_rlp(7, NOW - 61, B256::ZERO);
        let both = [attest(&spec, &header, 1, NOW), attest(&spec, &header, 2, NOW)];
        assert_eq!(check(&spec, &header, &both), Err(HeadError::Lag { number: 7, lag: 61, limit: 60 }));
    }

    #[test]
    fn heights_between_intervals_are_refused() {
        let spec = verified(&ChainSpec { head_interval: 5, ..example() });
        let header = header_rlp(7, NOW, B256::ZERO);
        let both = [attest(&spec, &header, 1, NOW), attest(&spec, &header, 2, NOW)];
        assert_eq!(check(&spec, &header, &both), Err(HeadError::NotAttestable(7)));
    }

    #[test]
    fn attestations_round_trip() {
        let spec = verified(&example());
        let header = header_rlp(7, NOW, B256::ZERO);
        let mut attestation = attest(&spec, &header, 1, NOW);
        assert_eq!(wire::decode(&wire::encode(&attestation), 200), Ok(attestation));
        attestation.nonce = B256::repeat_byte(1);
        assert_eq!(wire::decode(&wire::encode(&attestation), 200), Ok(attestation));
    }
}
