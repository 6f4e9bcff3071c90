//! What happened inside one execution: its calls as a tree, in the form of geth's `callTracer`.
//!
//! Owns watching and the form of what was seen. It never changes what happens.

use crate::chain::limits::{MAX_TRACE_BYTES, MAX_TRACE_DEPTH};
use alloy::sol_types::decode_revert_reason;
use revm::Inspector;
use revm::context::ContextTr;
use revm::interpreter::{
    CallInputs, CallOutcome, CallScheme, CreateInputs, CreateOutcome, CreateScheme, InstructionResult,
    InterpreterResult,
};
use revm::primitives::Log;
use serde_json::{Map, Value, json};
use windlass_protocol::{Address, Bytes, U256};

/// Watches one execution.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallTracer {
    /// Whether calls within the call are left out.
    only_top: bool,
    with_logs: bool,
    /// The calls under way, the outermost first.
    open: Vec<Frame>,
    /// How many deeper calls are under way that aren't told of.
    untold: usize,
    top: Option<Map<String, Value>>,
    bytes: usize,
    overflown: bool,
}

/// One call: its members so far, and the calls it made.
#[derive(Clone, Debug, Default)]
struct Frame {
    members: Map<String, Value>,
    calls: Vec<Value>,
    logs: Vec<Value>,
}

fn quantity(number: u64) -> Value {
    Value::String(format!("{number:#x}"))
}

impl CallTracer {
    pub(crate) fn new(only_top: bool, with_logs: bool) -> Self {
        Self { only_top, with_logs, ..Self::default() }
    }

    /// The tree; `None` if it is larger than one is told.
    pub(crate) fn into_tree(self) -> Option<Value> {
        self.top.filter(|_| !self.overflown).map(Value::Object)
    }

    /// Sets the gas of the whole transaction, which is more than its first call's.
    pub(super) fn finish(&mut self, gas_limit: u64, gas_used: u64) {
        if let Some(top) = &mut self.top {
            top.insert("gas".to_owned(), quantity(gas_limit));
            top.insert("gasUsed".to_owned(), quantity(gas_used));
        }
    }

    fn enter(&mut self, frame: impl FnOnce() -> Value) {
        let told = self.open.is_empty() || !self.only_top;
        if !told || self.untold > 0 || self.overflown || self.open.len() >= MAX_TRACE_DEPTH {
            self.overflown |= told && self.open.len() >= MAX_TRACE_DEPTH;
            self.untold += 1;
            return;
        }
        let Value::Object(members) = frame() else { return };
        self.open.push(Frame { members, ..Frame::default() });
    }

    fn leave(&mut self, result: &InterpreterResult, created: Option<Option<Address>>) {
        if self.untold > 0 {
            self.untold -= 1;
            return;
        }
        let Some(mut frame) = self.open.pop() else { return };
        self.count(result.output.len());
        frame.close(result, created);
        let Frame { mut members, calls, logs } = frame;
        if !calls.is_empty() {
            members.insert("calls".to_owned(), Value::Array(calls));
        }
        if !logs.is_empty() {
            members.insert("logs".to_owned(), Value::Array(logs));
        }
        match self.open.last_mut() {
            Some(caller) => caller.calls.push(Value::Object(members)),
            None => self.top = Some(members),
        }
    }

    fn count(&mut self, bytes: usize) {
        // A frame takes some hundred bytes even without data.
        self.bytes = self.bytes.saturating_add(bytes).saturating_add(512);
        if self.bytes > MAX_TRACE_BYTES {
            self.overflown = true;
            self.open.iter_mut().for_each(|frame| frame.calls.clear());
        }
    }
}

impl Frame {
    fn close(&mut self, result: &InterpreterResult, created: Option<Option<Address>>) {
        let members = &mut self.members;
        members.insert("gasUsed".to_owned(), quantity(result.gas.total_gas_spent()));
        if let Some(Some(address)) = created {
            members.insert("to".to_owned(), json!(address));
        }
        if !result.output.is_empty() {
            members.insert("output".to_owned(), json!(result.output));
        }
        if result.result.is_ok() {
            return;
        }
        // What a failed call logged never happened.
        self.logs.clear();
        members.insert("error".to_owned(), json!(error(result.result)));
        if result.result.is_revert()
            && !result.output.is_empty()
            && let Some(reason) = decode_revert_reason(&result.output)
        {
            members.insert("revertReason".to_owned(), json!(reason));
        }
    }
}

fn error(result: InstructionResult) -> String {
    match result {
        result if result.is_revert() => "execution reverted".to_owned(),
        InstructionResult::OutOfGas
        | InstructionResult::MemoryOOG
        | InstructionResult::MemoryLimitOOG
        | InstructionResult::PrecompileOOG
        | InstructionResult::InvalidOperandOOG
        | InstructionResult::ReentrancySentryOOG => "out of gas".to_owned(),
        InstructionResult::OpcodeNotFound | InstructionResult::InvalidFEOpcode => "invalid opcode".to_owned(),
        InstructionResult::InvalidJump => "invalid jump destination".to_owned(),
        InstructionResult::CallTooDeep => "max call depth exceeded".to_owned(),
        InstructionResult::OutOfFunds => "insufficient balance for transfer".to_owned(),
        other => format!("{other:?}"),
    }
}

impl<CTX: ContextTr> Inspector<CTX> for CallTracer {
    fn call(&mut self, context: &mut CTX, inputs: &mut CallInputs) -> Option<CallOutcome> {
        let kind = match inputs.scheme {
            CallScheme::Call => "CALL",
            CallScheme::CallCode => "CALLCODE",
            CallScheme::DelegateCall => "DELEGATECALL",
            CallScheme::StaticCall => "STATICCALL",
        };
        // Code run in another's place runs in the name of where it runs.
        let from = match inputs.scheme {
            CallScheme::DelegateCall | CallScheme::CallCode => inputs.target_address,
            CallScheme::Call | CallScheme::StaticCall => inputs.caller,
        };
        let length = inputs.input.len();
        self.count(length);
        self.enter(|| {
            let mut frame = json!({
                "type": kind,
                "from": from,
                "to": inputs.bytecode_address,
                "gas": quantity(inputs.gas_limit),
                "input": inputs.input.bytes(context),
            });
            if inputs.scheme != CallScheme::StaticCall {
                frame["value"] = json!(inputs.value.get());
            }
            frame
        });
        None
    }

    fn call_end(&mut self, _: &mut CTX, _: &CallInputs, outcome: &mut CallOutcome) {
        self.leave(&outcome.result, None);
    }

    fn create(&mut self, _: &mut CTX, inputs: &mut CreateInputs) -> Option<CreateOutcome> {
        let kind = match inputs.scheme() {
            CreateScheme::Create2 { .. } => "CREATE2",
            CreateScheme::Create | CreateScheme::Custom { .. } => "CREATE",
        };
        self.count(inputs.init_code().len());
        self.enter(|| {
            json!({
                "type": kind,
                "from": inputs.caller(),
                "gas": quantity(inputs.gas_limit()),
                "input": inputs.init_code(),
                "value": inputs.value(),
            })
        });
        None
    }

    fn create_end(&mut self, _: &mut CTX, _: &CreateInputs, outcome: &mut CreateOutcome) {
        self.leave(&outcome.result, Some(outcome.address));
    }

    fn selfdestruct(&mut self, contract: Address, target: Address, value: U256) {
        self.count(0);
        if self.untold > 0 || self.only_top || self.overflown {
            return;
        }
        if let Some(frame) = self.open.last_mut() {
            frame.calls.push(json!({
                "type": "SELFDESTRUCT",
                "from": contract,
                "to": target,
                "value": value,
                "gas": "0x0",
                "gasUsed": "0x0",
                "input": Bytes::new(),
            }));
        }
    }

    fn log(&mut self, _: &mut CTX, log: Log) {
        if !self.with_logs || self.untold > 0 || self.overflown {
            return;
        }
        self.count(log.data.data.len());
        if let Some(frame) = self.open.last_mut() {
            let position = quantity(frame.calls.len() as u64);
            frame.logs.push(json!({
                "address": log.address,
                "topics": log.data.topics(),
                "data": log.data.data,
                "position": position,
            }));
        }
    }
}
