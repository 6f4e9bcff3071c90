//! JSON-RPC as raw JSON, so that what is compared is what went over the wire.

use alloy::rpc::client::{ClientBuilder, RpcClient};
use alloy::transports::{RpcError, TransportErrorKind};
use anyhow::{Context, ensure};
use serde_json::Value;
use windlass_testnet::chain::{Chain, ChainConfig};

/// One chain's JSON-RPC.
#[derive(Clone, Debug)]
pub(crate) struct Rpc {
    name: &'static str,
    client: RpcClient,
}

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The JSON-RPC code.
    pub(crate) code: i64,
    /// What it says.
    pub(crate) message: String,
    /// What a contract gave as its reason.
    pub(crate) data: Option<Value>,
}

impl Rpc {
    /// The chain that is called `name` in messages.
    pub(crate) fn new(name: &'static str, url: &str) -> anyhow::Result<Self> {
        let client = ClientBuilder::default().http(url.parse().context("the chain's URL")?);
        Ok(Self { name, client })
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The answer, or the error answer; fails when there is neither.
    pub(crate) async fn try_ask(
        &self,
        method: &'static str,
        params: Value,
    ) -> anyhow::Result<Result<Value, Refusal>> {
        match self.client.request::<_, Value>(method, params).await {
            Ok(answer) => Ok(Ok(answer)),
            Err(RpcError::ErrorResp(error)) => {
                let data = error.data.map(|data| serde_json::from_str(data.get())).transpose()?;
                Ok(Err(Refusal { code: error.code, message: error.message.into_owned(), data }))
            }
            Err(RpcError::NullResp) => Ok(Ok(Value::Null)),
            Err(error) => Err(transport(self.name, method, error)),
        }
    }

    /// The answer; an error answer is a failure.
    pub(crate) async fn ask(&self, method: &'static str, params: Value) -> anyhow::Result<Value> {
        let answer = self.try_ask(method, params.clone()).await?;
        answer.map_err(|refusal| anyhow::anyhow!("{}: {method} {params}: {refusal:?}", self.name))
    }

    /// The answer, read as a type.
    pub(crate) async fn read<T: serde::de::DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
    ) -> anyhow::Result<T> {
        let answer = self.ask(method, params).await?;
        serde_json::from_value(answer.clone())
            .with_context(|| format!("{}: {method} answers {answer}", self.name))
    }
}

fn transport(name: &str, method: &str, error: RpcError<TransportErrorKind>) -> anyhow::Error {
    anyhow::anyhow!("{name}: {method}: {error}")
}

/// An embedded chain in this process, and a way to ask it.
pub(crate) async fn embedded(config: ChainConfig) -> anyhow::Result<(Chain, Rpc)> {
    let chain = Chain::start(config).await?;
    let rpc = Rpc::new("windlass", &chain.rpc_url())?;
    Ok((chain, rpc))
}

/// Every place where two answers differ; members named in `left_out` are not looked at, at any depth.
pub(crate) fn differences(one: &Value, other: &Value, left_out: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    compare(one, other, left_out, String::new(), &mut found);
    found
}

fn compare(one: &Value, other: &Value, left_out: &[&str], path: String, found: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let names: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
            for name in names.into_iter().filter(|name| !left_out.contains(&name.as_str())) {
                let (one, other) = (one.get(name), other.get(name));
                match (one, other) {
                    (Some(one), Some(other)) => {
                        compare(one, other, left_out, format!("{path}.{name}"), found);
                    }
                    _ => found.push(format!("{path}.{name}: {} and {}", text(one), text(other))),
                }
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                compare(one, other, left_out, format!("{path}[{index}]"), found);
            }
        }
        _ if one == other => {}
        _ => found.push(format!("{path}: {one} and {other}")),
    }
}

fn text(value: Option<&Value>) -> String {
    value.map_or_else(|| "nothing".to_owned(), Value::to_string)
}

/// Fails with every difference, saying where.
pub(crate) fn same(what: &str, one: &Value, other: &Value, left_out: &[&str]) -> anyhow::Result<()> {
    let found = differences(one, other, left_out);
    ensure!(found.is_empty(), "{what} differs (windlass and anvil):\n{}", found.join("\n"));
    Ok(())
}
