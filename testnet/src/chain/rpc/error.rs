//! Errors as JSON-RPC clients get them, with the codes that other nodes use.

use crate::chain::amend::AmendError;
use crate::chain::control::ControlError;
use crate::chain::evm::{ExecuteError, Outcome};
use crate::chain::ledger::{MoveError, ReadError, TraceError};
use crate::chain::pool::SubmitError;
use crate::chain::state::StateError;
use alloy::sol_types::decode_revert_reason;
use serde::Serialize;
use windlass_protocol::Bytes;

/// The body isn't JSON.
const PARSE_ERROR: i32 = -32700;
/// JSON, but no call.
const INVALID_REQUEST: i32 = -32600;
const METHOD_NOT_FOUND: i32 = -32601;
const INVALID_PARAMS: i32 = -32602;
/// A defect of this program.
const INTERNAL: i32 = -32603;
/// The call is fine, the answer is no.
const SERVER: i32 = -32000;
/// More than may be asked for at once (EIP-1474).
const LIMIT_EXCEEDED: i32 = -32005;
/// What was asked for is pruned (EIP-4444).
const PRUNED: i32 = 4444;
/// A contract undid the call and gave a reason, which is in the data.
const REVERTED: i32 = 3;

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct RpcError {
    code: i32,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Bytes>,
}

impl RpcError {
    fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// What went wrong, in words.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn parse(message: impl Into<String>) -> Self {
        Self::new(PARSE_ERROR, message)
    }

    pub(super) fn invalid_request(message: impl Into<String>) -> Self {
        Self::new(INVALID_REQUEST, message)
    }

    pub(super) fn method_not_found(method: &str) -> Self {
        Self::new(METHOD_NOT_FOUND, format!("the method {method} does not exist/is not available"))
    }

    pub(super) fn invalid_params(message: impl Into<String>) -> Self {
        Self::new(INVALID_PARAMS, message)
    }

    pub(super) fn server(message: impl Into<String>) -> Self {
        Self::new(SERVER, message)
    }

    pub(super) fn too_much(message: impl Into<String>) -> Self {
        Self::new(LIMIT_EXCEEDED, message)
    }

    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(INTERNAL, message)
    }

    /// Blocks below `oldest` were asked for, which this provider doesn't have any more.
    pub(super) fn pruned(oldest: u64) -> Self {
        Self::new(PRUNED, format!("pruned history unavailable: the oldest block is {oldest}"))
    }

    /// Subscriptions were asked for where nobody can be notified.
    pub(super) fn no_notifications() -> Self {
        Self::new(METHOD_NOT_FOUND, "notifications not supported: subscribe over WebSocket, or use a filter")
    }

    /// The block whose state, or whose header, was asked for doesn't exist.
    pub(super) fn no_block() -> Self {
        Self::server("header not found")
    }

    /// What `outcome` returned, or the error it amounts to.
    pub(super) fn unless_success(outcome: Outcome) -> Result<Bytes, Self> {
        match outcome {
            Outcome::Success(returned) => Ok(returned),
            Outcome::Revert(data) => {
                let message = match decode_revert_reason(&data) {
                    Some(reason) if !data.is_empty() => format!("execution reverted: {reason}"),
                    _ => "execution reverted".to_owned(),
                };
                Err(Self { code: REVERTED, message, data: Some(data) })
            }
            Outcome::Halt { reason, .. } => Err(Self::server(reason)),
        }
    }
}

impl From<StateError> for RpcError {
    fn from(error: StateError) -> Self {
        Self::internal(error.to_string())
    }
}

impl From<ReadError> for RpcError {
    fn from(error: ReadError) -> Self {
        Self::server(error.to_string())
    }
}

impl From<ExecuteError> for RpcError {
    fn from(error: ExecuteError) -> Self {
        match error {
            ExecuteError::State(error) => error.into(),
            refused => Self::server(refused.to_string()),
        }
    }
}

impl From<SubmitError> for RpcError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::State(error) => error.into(),
            refused => Self::server(refused.to_string()),
        }
    }
}

impl From<AmendError> for RpcError {
    fn from(error: AmendError) -> Self {
        match error {
            AmendError::State(error) => error.into(),
            refused => Self::server(refused.to_string()),
        }
    }
}

impl From<ControlError> for RpcError {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::TooMany { .. } => Self::too_much(error.to_string()),
            refused => Self::server(refused.to_string()),
        }
    }
}

impl From<TraceError> for RpcError {
    fn from(error: TraceError) -> Self {
        match error {
            TraceError::Read(error) => error.into(),
            TraceError::Execute(error) => error.into(),
        }
    }
}

impl From<MoveError> for RpcError {
    fn from(error: MoveError) -> Self {
        match error {
            MoveError::State(error) => error.into(),
            refused => Self::server(refused.to_string()),
        }
    }
}
