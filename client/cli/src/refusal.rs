//! What a contract says when it refuses, in plain words.
//!
//! The matches name every error of the committed ABIs: a new one doesn't compile until it has its words. Contracts share
//! some errors, which have the same words in each: the data of a refusal doesn't say which contract it came from.

use alloy_sol_types::{Revert, SolError, SolInterface};
use windlass_contracts::abi::name_registrar::NameRegistrar::NameRegistrarErrors;
use windlass_contracts::abi::node_staking::NodeStaking::NodeStakingErrors;
use windlass_contracts::abi::registry::Registry::RegistryErrors;
use windlass_contracts::abi::settlement::Settlement::SettlementErrors;

/// A refusal by a contract.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} (the contract says {error})")]
pub struct Refusal {
    /// The error's name in the contract.
    pub error: String,
    /// In plain words, with what to do.
    pub reason: String,
    /// Whether it answers the question asked (taken, revoked, expired, none such) rather than faulting the request.
    pub is_answer: bool,
}

const ANSWER: bool = true;
const FAULT: bool = false;

type Words = (&'static str, bool, &'static str);

const BAD_AGES: Words =
    ("BadAges", FAULT, "the periods that the contract is made with contradict each other");
const BAD_SIGNATURE: Words = (
    "BadSignature",
    FAULT,
    "the signature isn't by whom it must be, over these very values: make the consent again for this fleet and operator",
);
const DEADLINE_PASSED: Words =
    ("DeadlinePassed", FAULT, "the deadline of the consent or signature has passed: make a new one");
const NOT_OPERATOR: Words =
    ("NotOperator", FAULT, "the key is not the operator of this fleet, or there is no such fleet");
const NO_SUCH_NODE: Words = ("NoSuchNode", ANSWER, "no node of this address was ever registered");
const NOT_NODE_OWNER: Words = ("NotNodeOwner", FAULT, "the key doesn't own this node");
const PAYMENT_REFUSED: Words = ("PaymentRefused", FAULT, "the receiver refused the payment");

impl Refusal {
    /// Reads what a call reverted with.
    pub fn decode(data: &[u8]) -> Self {
        if let Ok(error) = RegistryErrors::abi_decode(data) {
            return Self::known(registry(&error));
        }
        if let Ok(error) = NameRegistrarErrors::abi_decode(data) {
            return Self::known(name_registrar(&error));
        }
        if let Ok(error) = NodeStakingErrors::abi_decode(data) {
            return Self::known(node_staking(&error));
        }
        if let Ok(error) = SettlementErrors::abi_decode(data) {
            return Self::known(settlement(&error));
        }
        let error = match Revert::abi_decode(data) {
            Ok(revert) => windlass_rpc::one_line(&revert.reason),
            Err(_) => windlass_protocol::alloy_primitives::hex::encode_prefixed(&data[..data.len().min(36)]),
        };
        let reason = "the contract refuses, in words this program doesn't know".to_owned();
        Self { error, reason, is_answer: false }
    }

    fn known((error, is_answer, reason): Words) -> Self {
        Self { error: error.to_owned(), reason: reason.to_owned(), is_answer }
    }
}

fn registry(error: &RegistryErrors) -> Words {
    use RegistryErrors as E;
    match error {
        E::AlreadyEnrolled(_) => {
            ("AlreadyEnrolled", ANSWER, "the device was enrolled before, and a device enrols once, ever")
        }
        E::AlreadyExpired(_) => {
            ("AlreadyExpired", FAULT, "the time given is not in the future: choose a later one")
        }
        E::AlreadyRevoking(_) => ("AlreadyRevoking", ANSWER, "the device's revocation is under way already"),
        E::BadSignature(_) => BAD_SIGNATURE,
        E::DeadlinePassed(_) => DEADLINE_PASSED,
        E::DeviceRevoked(_) => ("DeviceRevoked", ANSWER, "the device is revoked, for ever"),
        E::KeyTaken(_) => (
            "KeyTaken",
            ANSWER,
            "the key serves or served already, and a key serves once, ever: make a new one",
        ),
        E::NoSuchGrant(_) => ("NoSuchGrant", ANSWER, "there is no such grant"),
        E::NotActive(_) => ("NotActive", ANSWER, "the device is not active, or its enrolment has expired"),
        E::NotEnrolled(_) => ("NotEnrolled", ANSWER, "no such device is enrolled"),
        E::NotKey(_) => ("NotKey", FAULT, "only the device's current key may do this"),
        E::NotLater(_) => (
            "NotLater",
            FAULT,
            "extending only raises the time until which the device is valid: choose a later one",
        ),
        E::NotOperator(_) => NOT_OPERATOR,
        E::NotOperatorOrKey(_) => {
            ("NotOperatorOrKey", FAULT, "only the fleet's operator or the device's current key may do this")
        }
        E::NotPendingOperator(_) => {
            ("NotPendingOperator", FAULT, "no transfer of the fleet to this key is pending")
        }
        E::NotRevoking(_) => ("NotRevoking", ANSWER, "no revocation is under way, or it has taken effect"),
        E::NotSuspended(_) => ("NotSuspended", ANSWER, "the device is not suspended"),
        E::NotWriter(_) => ("NotWriter", FAULT, "only the contract of these records may write them"),
        E::RevokedBefore(_) => {
            ("RevokedBefore", ANSWER, "the device was revoked in the registry before this one")
        }
        E::TooEarly(_) => ("TooEarly", FAULT, "the 48 hours of a fleet with slow revocation aren't over"),
        E::UnknownFlags(_) => ("UnknownFlags", FAULT, "a fleet flag that this registry doesn't know"),
        E::UnknownKind(_) => ("UnknownKind", FAULT, "a kind of record that this registry doesn't know"),
        E::ZeroAddress(_) => ("ZeroAddress", FAULT, "the zero address can't be an operator"),
        E::ZeroRights(_) => {
            ("ZeroRights", FAULT, "a grant must give something: take it back with `grant revoke`")
        }
    }
}

fn name_registrar(error: &NameRegistrarErrors) -> Words {
    use NameRegistrarErrors as E;
    match error {
        E::BadAges(_) => BAD_AGES,
        E::BadDuration(_) => (
            "BadDuration",
            FAULT,
            "a name is registered for at least its grace period, and held at most 100 years from now",
        ),
        E::BadSignature(_) => BAD_SIGNATURE,
        E::BadTarget(_) => {
            ("BadTarget", FAULT, "a name points at a device, a node or an account, with an address")
        }
        E::CommitmentLive(_) => {
            ("CommitmentLive", FAULT, "the same commitment was made before and can still be used")
        }
        E::CommitmentTooOld(_) => {
            ("CommitmentTooOld", FAULT, "the commitment is too old: register again from the start")
        }
        E::CommitmentTooYoung(_) => {
            ("CommitmentTooYoung", FAULT, "the commitment is too young: wait a little")
        }
        E::DeadlinePassed(_) => DEADLINE_PASSED,
        E::IllegalLabel(_) => {
            ("IllegalLabel", FAULT, "not a name: 3 to 63 characters of a-z, 0-9 and inner hyphens")
        }
        E::NameExpired(_) => {
            ("NameExpired", ANSWER, "the name has expired: only renewing works, and only in its grace period")
        }
        E::NameTaken(_) => ("NameTaken", ANSWER, "the name is taken"),
        E::NoCommitment(_) => ("NoCommitment", FAULT, "nobody committed to exactly this registration"),
        E::NoSuchName(_) => ("NoSuchName", ANSWER, "no such name"),
        E::NotNameOwner(_) => ("NotNameOwner", FAULT, "the key doesn't own the name"),
        E::NotSubject(_) => (
            "NotSubject",
            FAULT,
            "only the subject itself, a device by its current key, sets its reverse name",
        ),
        E::PaymentRefused(_) => PAYMENT_REFUSED,
        E::WrongFee(_) => {
            ("WrongFee", FAULT, "the payment isn't exactly the fee: the price changed, try again")
        }
        E::ZeroOwner(_) => ("ZeroOwner", FAULT, "the zero address can't own a name"),
    }
}

fn node_staking(error: &NodeStakingErrors) -> Words {
    use NodeStakingErrors as E;
    match error {
        E::BadAges(_) => BAD_AGES,
        E::BadCommittee(_) => {
            ("BadCommittee", FAULT, "a committee is 1 to 16 addresses, each once, in ascending order")
        }
        E::BadSignature(_) => BAD_SIGNATURE,
        E::BadStake(_) => ("BadStake", FAULT, "the payment is less than the least stake of a node"),
        E::DeadlinePassed(_) => DEADLINE_PASSED,
        E::HashUnknown(_) => (
            "HashUnknown",
            ANSWER,
            "the chain doesn't know the hash of that block any more, or not yet, and nobody anchored it",
        ),
        E::HeadIsTrue(_) => ("HeadIsTrue", ANSWER, "the head says what the chain says"),
        E::NoContradiction(_) => (
            "NoContradiction",
            ANSWER,
            "the two heads don't contradict each other: they must have one number and two hashes",
        ),
        E::NoSuchNode(_) => NO_SUCH_NODE,
        E::NodeExists(_) => ("NodeExists", ANSWER, "the node is bonded or on its way out already"),
        E::NodeIsSlashed(_) => ("NodeIsSlashed", ANSWER, "the node was convicted, for ever"),
        E::NotBetter(_) => {
            ("NotBetter", ANSWER, "an earlier proposal for this epoch has as much stake or more")
        }
        E::NotBonded(_) => ("NotBonded", ANSWER, "the node isn't bonded, or it is on its way out already"),
        E::NotEligible(_) => (
            "NotEligible",
            ANSWER,
            "a member of the list isn't bonded, not for long enough, on its way out, or convicted",
        ),
        E::NotInTime(_) => {
            ("NotInTime", FAULT, "a committee is proposed for the next epoch, in the first half of this one")
        }
        E::NotNodeOwner(_) => NOT_NODE_OWNER,
        E::NothingToClaim(_) => ("NothingToClaim", ANSWER, "there is nothing to claim"),
        E::NumbersUnknown(_) => (
            "NumbersUnknown",
            FAULT,
            "contracts don't see the headers' numbers or hashes on this chain: only two contradicting heads convict",
        ),
        E::PaymentRefused(_) => PAYMENT_REFUSED,
        E::StillBonded(_) => {
            ("StillBonded", ANSWER, "the node isn't on its way out, or its unbonding time isn't over")
        }
    }
}

fn settlement(error: &SettlementErrors) -> Words {
    use SettlementErrors as E;
    match error {
        E::BadAmount(_) => ("BadAmount", FAULT, "the payment is more wei than 128 bits hold"),
        E::BadSignature(_) => BAD_SIGNATURE,
        E::BadTicket(_) => (
            "BadTicket",
            FAULT,
            "a ticket isn't signed by its device's key, nor by an earlier one within 14 days of the rotation",
        ),
        E::ChannelExists(_) => ("ChannelExists", ANSWER, "the fleet opened a channel to this node before"),
        E::DeadlinePassed(_) => DEADLINE_PASSED,
        E::ForeignDevice(_) => ("ForeignDevice", ANSWER, "a ticket's device isn't in this fleet"),
        E::NoSuchChannel(_) => ("NoSuchChannel", ANSWER, "the fleet has no channel to this node"),
        E::NoSuchNode(_) => NO_SUCH_NODE,
        E::NotNodeOwner(_) => NOT_NODE_OWNER,
        E::NotOperator(_) => NOT_OPERATOR,
        E::NothingOwed(_) => ("NothingOwed", ANSWER, "the node is owed nothing"),
        E::NothingToWithdraw(_) => {
            ("NothingToWithdraw", ANSWER, "all that is in the channel is earned by the node")
        }
        E::NoticeNotOver(_) => {
            ("NoticeNotOver", ANSWER, "no withdrawal was announced, or its 14 days of notice aren't over")
        }
        E::PaymentRefused(_) => PAYMENT_REFUSED,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use windlass_contracts::abi::name_registrar::NameRegistrar;
    use windlass_contracts::abi::registry::Registry;

    #[test]
    fn known_errors_have_words() {
        let taken = Refusal::decode(&NameRegistrar::NameTaken {}.abi_encode());
        assert_eq!((taken.error.as_str(), taken.is_answer), ("NameTaken", true));
        assert_eq!(taken.to_string(), "the name is taken (the contract says NameTaken)");
        let operator = Refusal::decode(&Registry::NotOperator {}.abi_encode());
        assert!(operator.reason.contains("operator") && !operator.is_answer);
    }

    /// From the ABIs as committed, so that an error that no match above knows is found too.
    #[test]
    fn every_error_of_every_contract_has_words() {
        let abis = [
            include_str!("../../../contracts/artifacts/Registry.json"),
            include_str!("../../../contracts/artifacts/NameRegistrar.json"),
            include_str!("../../../contracts/artifacts/NodeStaking.json"),
            include_str!("../../../contracts/artifacts/Settlement.json"),
        ];
        let mut known = 0;
        for artifact in abis {
            let artifact: serde_json::Value = serde_json::from_str(artifact).unwrap();
            for entry in artifact["abi"].as_array().unwrap().iter().filter(|entry| entry["type"] == "error") {
                let name = entry["name"].as_str().unwrap();
                let types: Vec<_> =
                    entry["inputs"].as_array().unwrap().iter().map(|i| i["type"].as_str().unwrap()).collect();
                let signature = format!("{name}({})", types.join(","));
                let selector = &windlass_protocol::keccak256(&signature)[..4];
                let refusal = Refusal::decode(&[selector, &[0; 32].repeat(types.len())].concat());
                assert_eq!(refusal.error, name, "{signature}: {refusal}");
                assert!(!refusal.reason.contains("this program doesn't know"), "{signature}: {refusal}");
                known += 1;
            }
        }
        assert!(known >= 70, "{known} errors of the contracts");
    }

    #[test]
    fn unknown_ones_are_shown_and_stay_short() {
        let revert = Refusal::decode(&Revert::from("out of luck").abi_encode());
        assert_eq!(revert.error, "out of luck");
        assert_eq!(Refusal::decode(&[]).error, "0x");
        assert!(Refusal::decode(&[0xee; 5_000]).to_string().len() < 200);
    }
}
