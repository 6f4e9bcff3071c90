//! The JSON-RPC 2.0 envelope: calls, batches, notifications.
//!
//! Owns reading a body and wrapping the answers; knows no method.

use super::argument::Arguments;
use super::error::RpcError;
use crate::chain::limits::{MAX_BATCH_ANSWER_BYTES, MAX_BATCH_CALLS};
use serde_json::{Map, Value, json};

/// Answers one body with `serve`. `None` when nobody asked for an answer.
pub(super) fn answer(
    body: &[u8],
    serve: impl Fn(&str, Arguments) -> Result<Value, RpcError>,
) -> Option<String> {
    match serde_json::from_slice(body) {
        Err(error) => Some(wrap(Value::Null, Err(RpcError::parse(format!("parse error: {error}"))))),
        Ok(Value::Array(calls)) => batch(calls, &serve),
        Ok(call) => one(call, &serve),
    }
}

/// What is answered when answering failed.
pub(super) fn defect() -> String {
    wrap(Value::Null, Err(RpcError::internal("the answer couldn't be made, a defect of this program")))
}

fn batch(calls: Vec<Value>, serve: &impl Fn(&str, Arguments) -> Result<Value, RpcError>) -> Option<String> {
    if calls.is_empty() {
        return Some(wrap(Value::Null, Err(RpcError::invalid_request("empty batch"))));
    }
    if calls.len() > MAX_BATCH_CALLS {
        let error =
            RpcError::too_much(format!("batch too large: {} calls, at most {MAX_BATCH_CALLS}", calls.len()));
        return Some(wrap(Value::Null, Err(error)));
    }
    let mut answers = String::new();
    for call in calls {
        let full = answers.len() > MAX_BATCH_ANSWER_BYTES;
        let answer = one(call, &|method: &str, arguments| match full {
            true => Err(RpcError::too_much(format!(
                "answer too large: a batch is answered with {MAX_BATCH_ANSWER_BYTES} bytes, ask again for the rest"
            ))),
            false => serve(method, arguments),
        });
        if let Some(answer) = answer {
            answers.push(if answers.is_empty() { '[' } else { ',' });
            answers.push_str(&answer);
        }
    }
    (!answers.is_empty()).then(|| answers + "]")
}

fn one(call: Value, serve: &impl Fn(&str, Arguments) -> Result<Value, RpcError>) -> Option<String> {
    let Value::Object(mut call) = call else {
        return Some(wrap(Value::Null, Err(RpcError::invalid_request("a call is an object"))));
    };
    let id = call.remove("id");
    let answer = read(&mut call, id.as_ref()).and_then(|(method, arguments)| serve(&method, arguments));
    match (id, answer) {
        // No id: a notification, which gets no answer, unless it isn't even a call.
        (None, answer) => {
            let is_call = call.contains_key("jsonrpc");
            (!is_call).then(|| wrap(Value::Null, answer))
        }
        (Some(id), answer) if id.is_string() || id.is_number() || id.is_null() => Some(wrap(id, answer)),
        (Some(_), answer) => Some(wrap(Value::Null, answer)),
    }
}

fn read(call: &mut Map<String, Value>, id: Option<&Value>) -> Result<(String, Arguments), RpcError> {
    if call.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err(RpcError::invalid_request("'jsonrpc' must be \"2.0\""));
    }
    if id.is_some_and(|id| id.is_array() || id.is_object() || id.is_boolean()) {
        return Err(RpcError::invalid_request("'id' must be a string or a number"));
    }
    let Some(Value::String(method)) = call.remove("method") else {
        return Err(RpcError::invalid_request("'method' must be a string"));
    };
    Ok((method, Arguments::read(call.remove("params"))?))
}

fn wrap(id: Value, answer: Result<Value, RpcError>) -> String {
    let answer = match answer {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(error) => json!({ "jsonrpc": "2.0", "id": id, "error": error }),
    };
    answer.to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ask(body: &str) -> Option<Value> {
        let answer = answer(body.as_bytes(), |method, _| match method {
            "fine" => Ok(json!("yes")),
            other => Err(RpcError::method_not_found(other)),
        });
        answer.map(|answer| serde_json::from_str(&answer).unwrap())
    }

    fn code(body: &str) -> i64 {
        ask(body).unwrap()["error"]["code"].as_i64().unwrap()
    }

    #[test]
    fn a_call_is_answered_under_its_id() {
        let answer = ask(r#"{"jsonrpc":"2.0","id":"a","method":"fine","params":[]}"#).unwrap();
        assert_eq!(answer, json!({"jsonrpc": "2.0", "id": "a", "result": "yes"}));
    }

    #[test]
    fn what_is_no_call_gets_the_standard_code() {
        assert_eq!(code("{"), -32700);
        assert_eq!(code(""), -32700);
        assert_eq!(code("7"), -32600);
        assert_eq!(code("[]"), -32600);
        assert_eq!(code(r#"{"id":1,"method":"fine"}"#), -32600);
        assert_eq!(code(r#"{"jsonrpc":"1.0","id":1,"method":"fine"}"#), -32600);
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":1,"method":7}"#), -32600);
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":{},"method":"fine"}"#), -32600);
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":1,"method":"gone"}"#), -32601);
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":1,"method":"fine","params":7}"#), -32602);
    }

    #[test]
    fn a_batch_is_answered_call_by_call() {
        let answer = ask(
            r#"[{"jsonrpc":"2.0","id":1,"method":"fine"},7,{"jsonrpc":"2.0","method":"fine"},{"jsonrpc":"2.0","id":2,"method":"gone"}]"#,
        );
        let answers = answer.unwrap();
        assert_eq!(answers.as_array().unwrap().len(), 3);
        assert_eq!(answers[0]["result"], "yes");
        assert_eq!(answers[1]["error"]["code"], -32600);
        assert_eq!(answers[2]["error"]["code"], -32601);
    }

    #[test]
    fn notifications_get_no_answer() {
        assert_eq!(ask(r#"{"jsonrpc":"2.0","method":"fine"}"#), None);
        assert_eq!(ask(r#"[{"jsonrpc":"2.0","method":"fine"}]"#), None);
    }

    #[test]
    fn a_batch_has_a_bound() {
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "fine"});
        let most = Value::Array(vec![call.clone(); MAX_BATCH_CALLS]);
        assert_eq!(ask(&most.to_string()).unwrap().as_array().unwrap().len(), MAX_BATCH_CALLS);
        assert_eq!(code(&Value::Array(vec![call; MAX_BATCH_CALLS + 1]).to_string()), -32005);
    }
}
