//! What relayed bytes are paid with: a device's cumulative ticket, an operator's payment voucher, and what Settlement
//! makes of them.
//!
//! EIP-712 in the domain {"Settlement", "1", chain id, settlement}. The rules here are those of `Settlement.sol`, so that
//! a node takes exactly what the chain will pay for. Never meters bytes and never decides how much credit to give.

use crate::address::{DeviceId, KeyAddress};
use crate::keys::{SecretKey, Signature};
use crate::record::{DeviceRecord, KeyRecord};
use crate::spec::ChainSpec;
use crate::wire;
use alloc::vec::Vec;
use alloy_primitives::{Address, B256, U256, Uint};
use alloy_sol_types::{Eip712Domain, SolStruct};
use rlp::{Decodable, DecoderError, Encodable, Rlp, RlpStream};

/// Most bytes of a signed ticket: its seven fields take at most 163.
pub const MAX_TICKET_BYTES: usize = 256;
/// Most bytes of a signed voucher: its four fields take at most 131.
pub const MAX_VOUCHER_BYTES: usize = 192;
/// Seconds after a rotation for which tickets by the device's earlier keys still count.
pub const RETIRED_KEY_WINDOW: u64 = 14 * DAY;

/// The highest number of a fleet: 48 bits.
const MAX_FLEET: u64 = (1 << 48) - 1;
/// Seconds of a day, the unit of a channel's cap.
const DAY: u64 = 24 * 3_600;
/// Prices are per 2^30 bytes; sums are kept in wei × 2^30 so that nothing is lost to rounding.
const GIB_BITS: usize = 30;

mod eip712 {
    #![allow(missing_docs)]
    alloy_sol_types::sol! {
        struct Ticket { uint48 fleet; address node; address device; uint128 bytesTotal; uint64 connsTotal; uint64 issuedAt; }
        struct Voucher { uint48 fleet; address node; uint256 total; }
    }
}

/// What a device says it sent through a node since the beginning of time. Cumulative: the next one replaces it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ticket {
    /// The device's fleet, whose deposit pays; below 2^48.
    pub fleet: u64,
    /// The node that relayed.
    pub node: Address,
    /// The device.
    pub device: DeviceId,
    /// Bytes it sent into this node's relay, ever.
    pub bytes_total: u128,
    /// Circuits it opened through this node, ever. Never billed.
    pub conns_total: u64,
    /// Unix seconds when it was signed. Never billed.
    pub issued_at: u64,
}

impl Ticket {
    /// The digest to sign.
    pub fn digest(&self, spec: &ChainSpec) -> B256 {
        let ticket = eip712::Ticket {
            fleet: Uint::saturating_from(self.fleet),
            node: self.node,
            device: self.device.0,
            bytesTotal: self.bytes_total,
            connsTotal: self.conns_total,
            issuedAt: self.issued_at,
        };
        ticket.eip712_signing_hash(&domain(spec))
    }

    /// Signs this ticket with the key the device uses now.
    pub fn sign(self, spec: &ChainSpec, key: &SecretKey) -> SignedTicket {
        SignedTicket { ticket: self, signature: key.sign(&self.digest(spec)) }
    }
}

/// A ticket and its device's signature, as exchanged: RLP `[fleet, node, device, bytesTotal, connsTotal, issuedAt,
/// signature]`. A claim until [`verify_ticket`] took it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SignedTicket {
    /// What is stated.
    pub ticket: Ticket,
    /// Over [`Ticket::digest`].
    pub signature: Signature,
}

impl SignedTicket {
    /// The bytes to store or send.
    pub fn to_bytes(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// Decodes stored or received bytes; nothing is verified yet.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, wire::DecodeError> {
        wire::decode(bytes, MAX_TICKET_BYTES)
    }
}

impl Encodable for SignedTicket {
    fn rlp_append(&self, s: &mut RlpStream) {
        let t = &self.ticket;
        s.begin_list(7).append(&t.fleet).append(&t.node.as_slice()).append(&t.device.0.as_slice());
        s.append(&t.bytes_total).append(&t.conns_total).append(&t.issued_at);
        s.append(&self.signature.as_bytes().as_slice());
    }
}

impl Decodable for SignedTicket {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        let f = wire::fields(rlp, 7)?;
        let ticket = Ticket {
            fleet: fleet(&f[0])?,
            node: wire::address(&f[1])?,
            device: DeviceId(wire::address(&f[2])?),
            bytes_total: f[3].as_val()?,
            conns_total: f[4].as_val()?,
            issued_at: f[5].as_val()?,
        };
        Ok(Self { ticket, signature: wire::signature(&f[6])? })
    }
}

/// What an operator says a node has earned in its channel so far: instead of tickets, never beside them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Voucher {
    /// The fleet, below 2^48.
    pub fleet: u64,
    /// The node that is paid.
    pub node: Address,
    /// Wei, from the channel's opening on.
    pub total: U256,
}

impl Voucher {
    /// The digest to sign.
    pub fn digest(&self, spec: &ChainSpec) -> B256 {
        let voucher =
            eip712::Voucher { fleet: Uint::saturating_from(self.fleet), node: self.node, total: self.total };
        voucher.eip712_signing_hash(&domain(spec))
    }

    /// Signs this voucher as the fleet's operator.
    pub fn sign(self, spec: &ChainSpec, operator: &SecretKey) -> SignedVoucher {
        SignedVoucher { voucher: self, signature: operator.sign(&self.digest(spec)) }
    }
}

/// A voucher and its operator's signature, as exchanged: RLP `[fleet, node, total, signature]`. A claim until
/// [`verify_voucher`] took it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SignedVoucher {
    /// What is stated.
    pub voucher: Voucher,
    /// Over [`Voucher::digest`].
    pub signature: Signature,
}

impl SignedVoucher {
    /// The bytes to store or send.
    pub fn to_bytes(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// Decodes stored or received bytes; nothing is verified yet.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, wire::DecodeError> {
        wire::decode(bytes, MAX_VOUCHER_BYTES)
    }
}

impl Encodable for SignedVoucher {
    fn rlp_append(&self, s: &mut RlpStream) {
        let v = &self.voucher;
        s.begin_list(4).append(&v.fleet).append(&v.node.as_slice());
        s.append(&v.total.to_be_bytes_trimmed_vec()).append(&self.signature.as_bytes().as_slice());
    }
}

impl Decodable for SignedVoucher {
    fn decode(rlp: &Rlp<'_>) -> Result<Self, DecoderError> {
        let f = wire::fields(rlp, 4)?;
        let voucher = Voucher { fleet: fleet(&f[0])?, node: wire::address(&f[1])?, total: wei(&f[2])? };
        Ok(Self { voucher, signature: wire::signature(&f[3])? })
    }
}

fn fleet(rlp: &Rlp<'_>) -> Result<u64, DecoderError> {
    rlp.as_val().and_then(|number: u64| {
        if number > MAX_FLEET { Err(DecoderError::Custom("no fleet has this number")) } else { Ok(number) }
    })
}

/// A number of up to 256 bits, without leading zeros.
fn wei(rlp: &Rlp<'_>) -> Result<U256, DecoderError> {
    let bytes = rlp.data()?;
    if bytes.len() > 32 || bytes.first() == Some(&0) {
        return Err(DecoderError::RlpInvalidIndirection);
    }
    Ok(U256::from_be_slice(bytes))
}

/// Why a ticket or voucher pays for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// The record shown is of a device in another fleet: Settlement refuses the ticket (`ForeignDevice`).
    #[error("the ticket is for fleet {stated}, and {device} belongs to fleet {actual}")]
    ForeignDevice {
        /// The device.
        device: DeviceId,
        /// What the ticket says.
        stated: u64,
        /// What the record says.
        actual: u64,
    },
    /// Not by the device's key, nor by an earlier one within 14 days of the rotation (`BadTicket`).
    #[error(
        "the ticket of {0} isn't signed by its key, nor by an earlier one within 14 days of its rotation"
    )]
    NotItsKey(DeviceId),
    /// Not by the fleet's operator (`BadSignature`).
    #[error("the voucher isn't signed by the operator {0} of its fleet")]
    NotOperator(Address),
}

/// A ticket that Settlement takes; made only by [`verify_ticket`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VerifiedTicket {
    signed: SignedTicket,
    signer: KeyAddress,
}

impl VerifiedTicket {
    /// What is stated.
    pub fn ticket(&self) -> &Ticket {
        &self.signed.ticket
    }

    /// As it was exchanged, to keep or to settle.
    pub fn signed(&self) -> &SignedTicket {
        &self.signed
    }

    /// The key that signed: the device's own, or for a while an earlier one of its own.
    pub fn signer(&self) -> KeyAddress {
        self.signer
    }
}

/// Accepts a ticket exactly if Settlement would: it is of the device's fleet, and signed by its key or, until 14 days
/// after the rotation, by an earlier key of the same device.
///
/// `device` is the proven record of the ticket's device, whose status doesn't matter, and `key_of` looks up proven
/// records of keys; `now` is in Unix seconds.
pub fn verify_ticket(
    signed: &SignedTicket,
    spec: &ChainSpec,
    device: &DeviceRecord,
    key_of: impl Fn(KeyAddress) -> Option<KeyRecord>,
    now: u64,
) -> Result<VerifiedTicket, TicketError> {
    let ticket = &signed.ticket;
    if device.fleet != ticket.fleet {
        let (stated, actual) = (ticket.fleet, device.fleet);
        return Err(TicketError::ForeignDevice { device: ticket.device, stated, actual });
    }
    let refused = TicketError::NotItsKey(ticket.device);
    let Ok(signer) = signed.signature.recover(&ticket.digest(spec)) else { return Err(refused) };
    let signer = signer.address();
    let is_current = signer == device.key;
    if is_current || was_its_key(signer, ticket.device, device.key, key_of, now) {
        return Ok(VerifiedTicket { signed: *signed, signer });
    }
    Err(refused)
}

fn was_its_key(
    signer: KeyAddress,
    device: DeviceId,
    current: KeyAddress,
    key_of: impl Fn(KeyAddress) -> Option<KeyRecord>,
    now: u64,
) -> bool {
    let is_first = signer.as_first_key() == device;
    let is_later = key_of(signer).is_some_and(|key| key.device == device);
    let rotated_at = key_of(current).map_or(0, |key| key.since);
    (is_first || is_later) && now < rotated_at.saturating_add(RETIRED_KEY_WINDOW)
}

/// A voucher that Settlement takes; made only by [`verify_voucher`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VerifiedVoucher(SignedVoucher);

impl VerifiedVoucher {
    /// What is stated.
    pub fn voucher(&self) -> &Voucher {
        &self.0.voucher
    }

    /// As it was exchanged, to keep or to redeem.
    pub fn signed(&self) -> &SignedVoucher {
        &self.0
    }
}

/// Accepts a voucher exactly if Settlement would: it is signed by `operator`, the fleet's now. It is void once the
/// fleet has another, so redeem it before relaying much more.
pub fn verify_voucher(
    signed: &SignedVoucher,
    spec: &ChainSpec,
    operator: Address,
) -> Result<VerifiedVoucher, TicketError> {
    let signer = signed.signature.recover(&signed.voucher.digest(spec));
    match signer {
        Ok(key) if key.address().0 == operator => Ok(VerifiedVoucher(*signed)),
        _ => Err(TicketError::NotOperator(operator)),
    }
}

/// How much one device can cost a channel until `now`: its daily cap, times the days begun since the channel opened,
/// until the device's end. Times in Unix seconds, the cap in bytes.
pub fn byte_limit(max_bytes_per_day: u64, opened_at: u64, valid_until: u64, now: u64) -> u128 {
    let open = now.min(valid_until).saturating_sub(opened_at);
    u128::from(max_bytes_per_day) * u128::from(open.div_ceil(DAY))
}

/// The bytes of a device that are billed once its ticket is settled: at most `limit`, never less than `billed` before.
pub fn billed_after(bytes_total: u128, billed: u128, limit: u128) -> u128 {
    bytes_total.min(limit).max(billed)
}

/// Wei that a channel owes its node: the greater of what tickets (in wei × 2^30) and vouchers say, at most the deposit,
/// less what was paid.
pub fn owed(deposit: u128, paid: u128, ticket_sum: U256, voucher_total: U256) -> u128 {
    let earned = (ticket_sum >> GIB_BITS).max(voucher_total).min(U256::from(deposit));
    // At most the deposit, so it fits.
    earned.saturating_to::<u128>().saturating_sub(paid)
}

fn domain(spec: &ChainSpec) -> Eip712Domain {
    Eip712Domain::new(
        Some("Settlement".into()),
        Some("1".into()),
        Some(U256::from(spec.chain_id)),
        Some(spec.contracts.settlement.address),
        None,
    )
}

#[cfg(test)]
mod tests;
