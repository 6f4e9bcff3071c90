//! How a command ends when it doesn't succeed: one line, a code for programs, and the exit code.
//!
//! Exit codes: 0 done; 1 a proven *no* (no such name, revoked, expired, not granted, taken); 2 everything else;
//! 130 interrupted. A reader that closed our output is no failure.

use crate::chain::ChainError;
use crate::consent::ConsentError;
use crate::deploy::{DeployError, JournalError, TermsError};
use crate::refusal::Refusal;
use crate::transact::TransactError;
use serde::Serialize;
use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, Write};
use windlass_keyfile::{CreateError, ReadError};
use windlass_protocol::spec::SpecError;

/// What kind of end it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// The answer is no, and that is certain.
    No,
    /// It couldn't be done or found out.
    Fault,
    /// The user ended it.
    Interrupted,
    /// Nobody reads the output any more.
    Quiet,
}

/// Why a command ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    /// What kind of end.
    pub(crate) verdict: Verdict,
    /// A stable word for programs, in snake case.
    pub(crate) code: Cow<'static, str>,
    /// What, where, and what to do; one line.
    pub(crate) message: String,
    /// Whether a proof says so, rather than the chain's RPC.
    pub(crate) proven: bool,
}

#[derive(Serialize)]
struct Shown<'a> {
    error: Body<'a>,
}

#[derive(Serialize)]
struct Body<'a> {
    code: &'a str,
    message: &'a str,
    /// Whether the answer is a proven no.
    proven: bool,
}

impl Failure {
    /// A no that a proof shows.
    pub(crate) fn no(code: impl Into<Cow<'static, str>>, message: impl Display) -> Self {
        Self { verdict: Verdict::No, code: code.into(), message: message.to_string(), proven: true }
    }

    /// Anything else that went wrong.
    pub(crate) fn fault(code: impl Into<Cow<'static, str>>, message: impl Display) -> Self {
        Self { verdict: Verdict::Fault, code: code.into(), message: message.to_string(), proven: false }
    }

    /// Ended by the user.
    pub(crate) fn interrupted() -> Self {
        Self { verdict: Verdict::Interrupted, ..Self::fault("interrupted", "interrupted") }
    }

    /// Standard output failed.
    pub(crate) fn output(error: &io::Error) -> Self {
        let verdict = if error.kind() == io::ErrorKind::BrokenPipe { Verdict::Quiet } else { Verdict::Fault };
        Self { verdict, ..Self::fault("output", format!("can't write the result: {error}")) }
    }

    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self.verdict {
            Verdict::No => 1,
            Verdict::Fault => 2,
            Verdict::Interrupted => 130,
            Verdict::Quiet => 0,
        }
    }

    /// Says it on standard error, as a line or as a JSON object.
    pub(crate) fn report(&self, json: bool) {
        if matches!(self.verdict, Verdict::Quiet | Verdict::Interrupted) {
            return;
        }
        let message = self.message.replace(['\n', '\r'], " ");
        let line = if json {
            let error = Body { code: &self.code, message: &message, proven: self.proven };
            serde_json::to_string(&Shown { error }).unwrap_or_default()
        } else {
            format!("windlass: {message}")
        };
        // When standard error is closed too, there is nobody left to tell.
        let _ = writeln!(io::stderr(), "{line}");
    }
}

impl From<ChainError> for Failure {
    fn from(error: ChainError) -> Self {
        let code = match error {
            ChainError::Url(_) => "rpc_url",
            ChainError::Unreachable { .. } => "chain_unreachable",
            ChainError::Refused { .. } => "chain_refused",
            ChainError::Malformed { .. } => "chain_malformed",
            ChainError::OtherChain { .. } | ChainError::NotMeant { .. } => "other_chain",
        };
        Self::fault(code, error)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let code = snake_case(&refusal.error);
        // The contract's word, as the chain's RPC passes it on.
        let verdict = if refusal.is_answer { Verdict::No } else { Verdict::Fault };
        Self { verdict, ..Self::fault(code, refusal) }
    }
}

impl From<TransactError> for Failure {
    fn from(error: TransactError) -> Self {
        match error {
            TransactError::Chain(error) => error.into(),
            TransactError::Refused(refusal) => refusal.into(),
            TransactError::Balance { .. } => Self::fault("balance", error),
            TransactError::Failed(_) => Self::fault("transaction_failed", error),
            TransactError::Pending { .. } => Self::fault("transaction_pending", error),
        }
    }
}

impl From<DeployError> for Failure {
    fn from(error: DeployError) -> Self {
        match error {
            DeployError::Chain(error) => error.into(),
            DeployError::Transact { .. } => Self::fault("deploy_transaction", error),
            DeployError::Ineligible(_) => Self::fault("chain_ineligible", error),
            DeployError::Terms(error) => error.into(),
            DeployError::Journal(error) => error.into(),
            DeployError::Balance { .. } => Self::fault("balance", error),
            DeployError::NonceTaken { .. } => Self::fault("nonce_taken", error),
            DeployError::Code { .. } => Self::fault("other_code", error),
        }
    }
}

macro_rules! faults {
    ($($error:ty => $code:literal),+ $(,)?) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::fault($code, error)
            }
        }
    )+};
}

faults! {
    TermsError => "terms",
    JournalError => "journal",
    ConsentError => "consent",
    CreateError => "key_file",
    SpecError => "chain_spec",
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let code = match error {
            ReadError::Passphrase(_) => "wrong_passphrase",
            ReadError::Permissions { .. } => "key_permissions",
            ReadError::Read { .. } | ReadError::Format { .. } => "key_file",
        };
        Self::fault(code, error)
    }
}

/// `NameTaken` becomes `name_taken`; what is no identifier becomes `contract_refused`.
fn snake_case(name: &str) -> String {
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return "contract_refused".to_owned();
    }
    let mut text = String::with_capacity(name.len() + 4);
    for (index, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && index > 0 {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes() {
        assert_eq!(Failure::no("x", "").exit_code(), 1);
        assert_eq!(Failure::fault("x", "").exit_code(), 2);
        assert_eq!(Failure::interrupted().exit_code(), 130);
        assert_eq!(Failure::output(&io::ErrorKind::BrokenPipe.into()).exit_code(), 0);
        assert_eq!(Failure::output(&io::ErrorKind::StorageFull.into()).exit_code(), 2);
    }

    #[test]
    fn a_contracts_refusal_keeps_its_name_and_whether_it_is_an_answer() {
        let refusal = |error: &str, is_answer| {
            Failure::from(Refusal { error: error.to_owned(), reason: "r".to_owned(), is_answer })
        };
        let taken = refusal("NameTaken", true);
        assert_eq!((taken.code.as_ref(), taken.exit_code(), taken.proven), ("name_taken", 1, false));
        let operator = refusal("NotOperator", false);
        assert_eq!((operator.code.as_ref(), operator.exit_code()), ("not_operator", 2));
        assert_eq!(refusal("out of luck", false).code, "contract_refused");
    }
}
