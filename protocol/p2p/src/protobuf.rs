//! As much of protobuf as libp2p's messages need: numbers and bytes, unknown fields skipped.
//!
//! It knows no message. Other people's encoders are taken as they are; ours is canonical.

/// No protobuf, or cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message is malformed")]
pub(crate) struct Malformed;

/// One field of a message.
pub(crate) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed64(u64),
    /// Four bytes; no message here has any that matter.
    Fixed32,
}

/// Reads the fields of a message one after the other.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn number(&mut self) -> Result<u64, Malformed> {
        // Other people's encoders may pad; protobuf allows ten bytes.
        let mut value = 0u64;
        for at in 0..10 {
            let (byte, rest) = self.0.split_first().ok_or(Malformed)?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if at == 9 && bits > 1 {
                return Err(Malformed);
            }
            value |= bits << (7 * at);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(length).map_err(|_| Malformed)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next field and its number; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.number()?;
        let value = match key & 7 {
            0 => Value::Number(self.number()?),
            1 => Value::Fixed64(self.take(8)?.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))),
            2 => {
                let length = self.number()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed32)?,
            // Groups are long out of use, and the rest was never anything.
            _ => return Err(Malformed),
        };
        Ok(Some((key >> 3, value)))
    }
}

pub(crate) fn put_number(out: &mut Vec<u8>, field: u64, value: u64) {
    let mut digits = unsigned_varint::encode::u64_buffer();
    out.extend_from_slice(unsigned_varint::encode::u64(field << 3, &mut digits));
    out.extend_from_slice(unsigned_varint::encode::u64(value, &mut digits));
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    let mut digits = unsigned_varint::encode::u64_buffer();
    out.extend_from_slice(unsigned_varint::encode::u64(field << 3 | 2, &mut digits));
    out.extend_from_slice(unsigned_varint::encode::u64(bytes.len() as u64, &mut digits));
    out.extend_from_slice(bytes);
}

pub(crate) fn put_fixed64(out: &mut Vec<u8>, field: u64, value: u64) {
    let mut digits = unsigned_varint::encode::u64_buffer();
    out.extend_from_slice(unsigned_varint::encode::u64(field << 3 | 1, &mut digits));
    out.extend_from_slice(&value.to_le_bytes());
}
