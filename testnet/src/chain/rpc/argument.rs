//! Arguments of a call, read strictly.
//!
//! Owns what counts as a quantity, as bytes, as a call to execute: what other nodes refuse is refused here
//! too, so that a program that works here works there.

use super::error::RpcError;
use alloy::rpc::types::TransactionRequest;
use serde_json::Value;
use windlass_protocol::alloy_primitives::hex;
use windlass_protocol::{Address, B256, Bytes, U256};

/// The arguments of one call, taken one by one in their order.
#[derive(Debug)]
pub(super) struct Arguments {
    left: std::vec::IntoIter<Value>,
    taken: usize,
}

impl Arguments {
    /// Reads the member `params`.
    pub(super) fn read(params: Option<Value>) -> Result<Self, RpcError> {
        let values = match params {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(values)) => values,
            Some(_) => return Err(RpcError::invalid_params("arguments must be an array, by position")),
        };
        Ok(Self { left: values.into_iter(), taken: 0 })
    }

    /// The next argument.
    pub(super) fn required<T: Argument>(&mut self) -> Result<T, RpcError> {
        let index = self.taken;
        self.optional()?
            .ok_or_else(|| RpcError::invalid_params(format!("missing value for required argument {index}")))
    }

    /// The next argument, if there is one; null counts as none.
    pub(super) fn optional<T: Argument>(&mut self) -> Result<Option<T>, RpcError> {
        let index = self.taken;
        self.taken += 1;
        match self.left.next() {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let read = T::read(value).map(Some);
                read.map_err(|fault| RpcError::invalid_params(format!("invalid argument {index}: {fault}")))
            }
        }
    }

    /// Refuses more arguments than the method takes, before it does anything.
    pub(super) fn at_most(&self, most: usize) -> Result<(), RpcError> {
        if self.left.len() > most {
            return Err(RpcError::invalid_params(format!("too many arguments, want at most {most}")));
        }
        Ok(())
    }
}

/// What an argument can be read as.
pub(super) trait Argument: Sized {
    /// Reads it, or says what is wrong with it.
    fn read(value: Value) -> Result<Self, String>;
}

/// A number up to 2^64 - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quantity(pub(super) u64);

impl Argument for Quantity {
    fn read(value: Value) -> Result<Self, String> {
        let number = parse_quantity(&text(value)?)?;
        number.try_into().map(Self).map_err(|_| "hex number > 64 bits".to_owned())
    }
}

impl Argument for U256 {
    fn read(value: Value) -> Result<Self, String> {
        parse_quantity(&text(value)?)
    }
}

/// A storage slot: a quantity or up to 32 bytes, of which other nodes accept both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(pub(super) U256);

impl Argument for Slot {
    fn read(value: Value) -> Result<Self, String> {
        let text = text(value)?;
        let digits = text.strip_prefix("0x").ok_or("hex string without 0x prefix")?;
        if digits.is_empty() || digits.len() > 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err("a storage key is 1 to 64 hex digits".to_owned());
        }
        U256::from_str_radix(digits, 16).map(Self).map_err(|error| error.to_string())
    }
}

impl Argument for Address {
    fn read(value: Value) -> Result<Self, String> {
        fixed::<20>(value).map(Self::from)
    }
}

impl Argument for B256 {
    fn read(value: Value) -> Result<Self, String> {
        fixed::<32>(value).map(Self::from)
    }
}

impl Argument for Bytes {
    fn read(value: Value) -> Result<Self, String> {
        parse_bytes(&text(value)?).map(Self::from)
    }
}

impl Argument for String {
    fn read(value: Value) -> Result<Self, String> {
        text(value)
    }
}

impl Argument for bool {
    fn read(value: Value) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| format!("expected true or false, got {value}"))
    }
}

impl Argument for Value {
    fn read(value: Value) -> Result<Self, String> {
        Ok(value)
    }
}

impl Argument for f64 {
    fn read(value: Value) -> Result<Self, String> {
        value.as_f64().ok_or_else(|| format!("expected a number, got {value}"))
    }
}

impl<T: Argument> Argument for Vec<T> {
    fn read(value: Value) -> Result<Self, String> {
        let Value::Array(values) = value else { return Err(format!("expected an array, got {value}")) };
        values.into_iter().map(T::read).collect()
    }
}

/// Members of a call that are quantities.
const QUANTITIES: [&str; 8] =
    ["gas", "gasPrice", "maxFeePerGas", "maxPriorityFeePerGas", "value", "nonce", "chainId", "type"];

impl Argument for TransactionRequest {
    fn read(value: Value) -> Result<Self, String> {
        let Value::Object(members) = &value else { return Err(format!("expected an object, got {value}")) };
        for name in QUANTITIES {
            match members.get(name) {
                None | Some(Value::Null) => {}
                Some(Value::String(number)) => {
                    parse_quantity(number).map_err(|fault| format!("{name}: {fault}"))?;
                }
                Some(other) => return Err(format!("{name}: expected a string, got {other}")),
            }
        }
        serde_json::from_value(value).map_err(|error| error.to_string())
    }
}

fn text(value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(format!("expected a string, got {other}")),
    }
}

fn fixed<const N: usize>(value: Value) -> Result<[u8; N], String> {
    let bytes = parse_bytes(&text(value)?)?;
    let length = bytes.len();
    bytes.try_into().map_err(|_| format!("hex has length {}, want {} for {N} bytes", length * 2, N * 2))
}

/// Reads a number: `0x` and hexadecimal digits without leading zeros, 256 bits at most.
pub(super) fn parse_quantity(text: &str) -> Result<U256, String> {
    let digits = text.strip_prefix("0x").ok_or("hex string without 0x prefix")?;
    match digits.as_bytes() {
        [] => Err("hex string \"0x\"".to_owned()),
        [b'0', _, ..] => Err("hex number with leading zero digits".to_owned()),
        digits if digits.len() > 64 => Err("hex number > 256 bits".to_owned()),
        digits if !digits.iter().all(u8::is_ascii_hexdigit) => Err("invalid hex string".to_owned()),
        _ => U256::from_str_radix(digits, 16).map_err(|error| error.to_string()),
    }
}

/// Reads bytes: `0x` and two hexadecimal digits for each.
pub(super) fn parse_bytes(text: &str) -> Result<Vec<u8>, String> {
    let digits = text.strip_prefix("0x").ok_or("hex string without 0x prefix")?;
    if digits.len() % 2 == 1 {
        return Err("hex string of odd length".to_owned());
    }
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err("invalid hex string".to_owned());
    }
    hex::decode(digits).map_err(|_| "invalid hex string".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn quantities_are_strict() {
        assert_eq!(parse_quantity("0x0"), Ok(U256::ZERO));
        assert_eq!(parse_quantity("0xfF"), Ok(U256::from(255)));
        assert_eq!(parse_quantity(&format!("0x{}", "f".repeat(64))), Ok(U256::MAX));
        let too_long = format!("0x{}", "f".repeat(65));
        for wrong in ["", "0x", "7", "0x00", "0x01", "0xg", "0x-1", "0x+1", "0x_1", "0X1", " 0x1", &too_long]
        {
            assert!(parse_quantity(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Quantity::read(json!("0xffffffffffffffff")), Ok(Quantity(u64::MAX)));
        assert!(Quantity::read(json!("0x10000000000000000")).is_err());
        assert!(Quantity::read(json!(1)).is_err());
    }

    #[test]
    fn bytes_are_strict() {
        assert_eq!(parse_bytes("0x"), Ok(vec![]));
        assert_eq!(parse_bytes("0x0aFF"), Ok(vec![10, 255]));
        for wrong in ["", "00", "0x0", "0xgg", "0x0x", "0X00"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
        assert!(Address::read(json!("0x00")).is_err());
        assert!(B256::read(json!(format!("0x{}", "00".repeat(32)))).is_ok());
    }

    #[test]
    fn calls_with_sloppy_quantities_are_refused() {
        assert!(TransactionRequest::read(json!({"gas": "0x5208", "value": "0x0"})).is_ok());
        assert!(TransactionRequest::read(json!({"gas": "0x05208"})).is_err());
        assert!(TransactionRequest::read(json!({"value": 7})).is_err());
        assert!(TransactionRequest::read(json!([])).is_err());
    }

    #[test]
    fn missing_and_superfluous_arguments_are_refused() {
        let mut arguments = Arguments::read(Some(json!(["0x1", true]))).unwrap();
        assert_eq!(arguments.required::<Quantity>().unwrap(), Quantity(1));
        assert!(arguments.at_most(0).is_err());
        assert!(arguments.at_most(1).is_ok());
        let mut arguments = Arguments::read(None).unwrap();
        assert!(arguments.required::<Quantity>().is_err());
        assert!(arguments.at_most(0).is_ok());
    }
}
