//! `debug_traceTransaction`, with the call tracer.

use super::argument::{Argument, Arguments};
use super::caller::Caller;
use super::error::RpcError;
use crate::chain::evm::CallTracer;
use serde::Deserialize;
use serde_json::Value;
use windlass_protocol::B256;

/// What is traced, and how.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Options {
    tracer: Option<String>,
    #[serde(default)]
    tracer_config: TracerConfig,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct TracerConfig {
    only_top_call: bool,
    with_log: bool,
}

impl Argument for Options {
    fn read(value: Value) -> Result<Self, String> {
        if !value.is_object() {
            return Err(format!("expected an object, got {value}"));
        }
        serde_json::from_value(value).map_err(|error| error.to_string())
    }
}

/// `debug_traceTransaction`: the calls a transaction made, as a tree.
pub(super) fn transaction(caller: &Caller, arguments: &mut Arguments) -> Result<Value, RpcError> {
    let hash: B256 = arguments.required()?;
    let options: Option<Options> = arguments.optional()?;
    let config = match options {
        Some(Options { tracer: Some(name), tracer_config }) if name == "callTracer" => tracer_config,
        Some(Options { tracer: Some(name), .. }) => return Err(only_calls(&format!("no tracer {name}"))),
        _ => return Err(only_calls("no struct logger, the default without a tracer")),
    };
    let seen = caller.read();
    let place = seen.place(&hash)?.ok_or_else(|| RpcError::server("transaction not found"))?;
    let tracer = seen.trace(&place, CallTracer::new(config.only_top_call, config.with_log))?;
    tracer
        .into_tree()
        .ok_or_else(|| RpcError::too_much("the trace is too large to be told: ask for onlyTopCall"))
}

fn only_calls(missing: &str) -> RpcError {
    RpcError::invalid_params(format!("there is {missing} here: ask with {{\"tracer\": \"callTracer\"}}"))
}
