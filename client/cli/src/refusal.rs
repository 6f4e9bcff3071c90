//! What a contract says when it refuses, in plain words.
//!
//! The matches name every error of the committed ABIs: a new one doesn't compile until it has its words.

use alloy_sol_types::{Revert, SolError, SolInterface};
use windlass_contracts::abi::name_registrar::NameRegistrar::NameRegistrarErrors;
use windlass_contracts::abi::registry::Registry::RegistryErrors;

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

impl Refusal {
    /// Reads what a call reverted with.
    pub fn decode(data: &[u8]) -> Self {
        if let Ok(error) = RegistryErrors::abi_decode(data) {
            return Self::known(registry(&error));
        }
        if let Ok(error) = NameRegistrarErrors::abi_decode(data) {
            return Self::known(name_registrar(&error));
        }
        let error = match Revert::abi_decode(data) {
            Ok(revert) => crate::chain::one_line(&revert.reason),
            Err(_) => windlass_protocol::alloy_primitives::hex::encode_prefixed(&data[..data.len().min(36)]),
        };
        let reason = "the contract refuses, in words this program doesn't know".to_owned();
        Self { error, reason, is_answer: false }
    }

    fn known((error, is_answer, reason): (&str, bool, &str)) -> Self {
        Self { error: error.to_owned(), reason: reason.to_owned(), is_answer }
    }
}

fn registry(error: &RegistryErrors) -> (&'static str, bool, &'static str) {
    use RegistryErrors as E;
    match error {
        E::AlreadyEnrolled(_) => {
            ("AlreadyEnrolled", ANSWER, "the device was enrolled before, and a device enrols once, ever")
        }
        E::AlreadyExpired(_) => {
            ("AlreadyExpired", FAULT, "the time given is not in the future: choose a later one")
        }
        E::AlreadyRevoking(_) => ("AlreadyRevoking", ANSWER, "the device's revocation is under way already"),
        E::BadSignature(_) => (
            "BadSignature",
            FAULT,
            "the signature isn't by whom it must be, over these very values: make the consent again for this fleet and operator",
        ),
        E::DeadlinePassed(_) => {
            ("DeadlinePassed", FAULT, "the consent's deadline has passed: make a new one")
        }
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
        E::NotOperator(_) => {
            ("NotOperator", FAULT, "the key is not the operator of this fleet, or there is no such fleet")
        }
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

fn name_registrar(error: &NameRegistrarErrors) -> (&'static str, bool, &'static str) {
    use NameRegistrarErrors as E;
    match error {
        E::BadAges(_) => ("BadAges", FAULT, "the registrar's ages contradict each other"),
        E::BadDuration(_) => {
            ("BadDuration", FAULT, "a name is held for more than nothing and at most 100 years from now")
        }
        E::BadSignature(_) => ("BadSignature", FAULT, "the signature isn't by whom it must be"),
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
        E::DeadlinePassed(_) => ("DeadlinePassed", FAULT, "the signature's deadline has passed"),
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
        E::PaymentRefused(_) => ("PaymentRefused", FAULT, "the treasury refused the payment"),
        E::WrongFee(_) => {
            ("WrongFee", FAULT, "the payment isn't exactly the fee: the price changed, try again")
        }
        E::ZeroOwner(_) => ("ZeroOwner", FAULT, "the zero address can't own a name"),
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn unknown_ones_are_shown_and_stay_short() {
        let revert = Refusal::decode(&Revert::from("out of luck").abi_encode());
        assert_eq!(revert.error, "out of luck");
        assert_eq!(Refusal::decode(&[]).error, "0x");
        assert!(Refusal::decode(&[0xee; 5_000]).to_string().len() < 200);
    }
}
