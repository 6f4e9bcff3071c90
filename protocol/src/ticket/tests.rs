#![allow(clippy::unwrap_used)]
use super::*;
use crate::record::{DeviceStatus, NEVER};
use crate::spec::tests::{example, key};
use alloc::vec;

const NOW: u64 = 1_800_000_000;

fn ticket() -> Ticket {
    Ticket {
        fleet: 3,
        node: Address::repeat_byte(7),
        device: key(1).address().as_first_key(),
        bytes_total: 5 << 30,
        conns_total: 2,
        issued_at: NOW,
    }
}

fn voucher() -> Voucher {
    Voucher { fleet: 3, node: Address::repeat_byte(7), total: U256::from(9) }
}

/// The record of the ticket's device, using the key `current`.
fn device(current: u8) -> DeviceRecord {
    let key = key(current).address();
    DeviceRecord { key, fleet: 3, valid_until: NEVER, status: DeviceStatus::Active }
}

/// Keys 2 and 3 were rotated to by the ticket's device, 3 last; key 4 by another device.
fn key_of(address: KeyAddress) -> Option<KeyRecord> {
    let record = |owner: u8, since| KeyRecord { device: key(owner).address().as_first_key(), since };
    [(2, record(1, NOW - 90 * DAY)), (3, record(1, NOW)), (4, record(9, NOW))]
        .into_iter()
        .find_map(|(byte, record)| (key(byte).address() == address).then_some(record))
}

fn verify(by: u8, current: u8, now: u64) -> Result<VerifiedTicket, TicketError> {
    let spec = example();
    verify_ticket(&ticket().sign(&spec, &key(by)), &spec, &device(current), key_of, now)
}

#[test]
fn a_ticket_is_the_devices_key_or_for_14_days_an_earlier_one_of_its_own() {
    let refused = Err(TicketError::NotItsKey(ticket().device));
    assert_eq!(verify(1, 1, NOW).unwrap().signer(), key(1).address());
    assert_eq!(verify(9, 1, NOW), refused, "a stranger");
    assert_eq!(verify(2, 1, NOW), refused, "a key without rotation");
    // After the rotation to key 3: the first key, an earlier one, never another device's.
    let end = NOW + RETIRED_KEY_WINDOW;
    for by in [1, 2] {
        assert!(verify(by, 3, end - 1).is_ok(), "key {by}");
        assert_eq!(verify(by, 3, end), refused, "key {by}");
    }
    assert!(verify(3, 3, end).is_ok());
    assert_eq!(verify(4, 3, NOW), refused, "another device's key");
}

#[test]
fn a_ticket_is_for_the_devices_own_fleet() {
    let spec = example();
    let signed = ticket().sign(&spec, &key(1));
    let elsewhere = DeviceRecord { fleet: 4, ..device(1) };
    let error = verify_ticket(&signed, &spec, &elsewhere, key_of, NOW).unwrap_err();
    assert_eq!(error, TicketError::ForeignDevice { device: ticket().device, stated: 3, actual: 4 });
}

#[test]
fn a_revoked_device_still_owes() {
    let spec = example();
    let signed = ticket().sign(&spec, &key(1));
    let revoked = DeviceRecord { status: DeviceStatus::Revoked, valid_until: NOW, ..device(1) };
    assert!(verify_ticket(&signed, &spec, &revoked, key_of, NOW + DAY).is_ok());
}

#[test]
fn any_other_word_deployment_or_chain_is_another_statement() {
    let spec = example();
    let mut elsewhere = example();
    elsewhere.contracts.settlement.address = Address::repeat_byte(9);
    let mut other_chain = example();
    other_chain.chain_id += 1;
    let (t, v) = (ticket(), voucher());
    let digests = [
        t.digest(&spec),
        t.digest(&elsewhere),
        t.digest(&other_chain),
        Ticket { fleet: 4, ..t }.digest(&spec),
        Ticket { node: Address::ZERO, ..t }.digest(&spec),
        Ticket { device: DeviceId(Address::ZERO), ..t }.digest(&spec),
        Ticket { bytes_total: 0, ..t }.digest(&spec),
        Ticket { conns_total: 0, ..t }.digest(&spec),
        Ticket { issued_at: 0, ..t }.digest(&spec),
        v.digest(&spec),
        v.digest(&elsewhere),
        v.digest(&other_chain),
        Voucher { fleet: 4, ..v }.digest(&spec),
        Voucher { node: Address::ZERO, ..v }.digest(&spec),
        Voucher { total: U256::MAX, ..v }.digest(&spec),
    ];
    let distinct: alloc::collections::BTreeSet<_> = digests.iter().collect();
    assert_eq!(distinct.len(), digests.len());
}

#[test]
fn a_changed_ticket_is_not_its_devices() {
    let spec = example();
    let signed = ticket().sign(&spec, &key(1));
    let more = SignedTicket { ticket: Ticket { bytes_total: 6 << 30, ..ticket() }, ..signed };
    assert!(verify_ticket(&more, &spec, &device(1), key_of, NOW).is_err());
}

#[test]
fn a_voucher_is_the_operators() {
    let spec = example();
    let signed = voucher().sign(&spec, &key(5));
    let operator = key(5).address().0;
    assert_eq!(verify_voucher(&signed, &spec, operator).unwrap().voucher(), &voucher());
    for other in [key(6).address().0, Address::ZERO] {
        assert_eq!(verify_voucher(&signed, &spec, other), Err(TicketError::NotOperator(other)));
    }
    let more = SignedVoucher { voucher: Voucher { total: U256::from(10), ..voucher() }, ..signed };
    assert!(verify_voucher(&more, &spec, operator).is_err());
}

#[test]
fn golden_bytes_round_trip_and_refusals() {
    let spec = example();
    let ticket = ticket().sign(&spec, &key(1));
    let bytes = ticket.to_bytes();
    assert_eq!(bytes[..4], [0xf8, 0x7a, 3, 0x94]);
    assert_eq!(SignedTicket::from_bytes(&bytes), Ok(ticket));
    let largest = Ticket {
        fleet: MAX_FLEET,
        bytes_total: u128::MAX,
        conns_total: u64::MAX,
        issued_at: u64::MAX,
        ..ticket.ticket
    };
    let largest = largest.sign(&spec, &key(1));
    assert!(largest.to_bytes().len() <= MAX_TICKET_BYTES);
    assert_eq!(SignedTicket::from_bytes(&largest.to_bytes()), Ok(largest));
    let beyond = Ticket { fleet: MAX_FLEET + 1, ..ticket.ticket }.sign(&spec, &key(1));
    assert!(SignedTicket::from_bytes(&beyond.to_bytes()).is_err());

    let voucher = Voucher { total: U256::MAX, ..voucher() }.sign(&spec, &key(5));
    let bytes = voucher.to_bytes();
    assert!(bytes.len() <= MAX_VOUCHER_BYTES);
    assert_eq!(SignedVoucher::from_bytes(&bytes), Ok(voucher));
    let nothing = Voucher { total: U256::ZERO, ..voucher.voucher }.sign(&spec, &key(5));
    assert_eq!(SignedVoucher::from_bytes(&nothing.to_bytes()), Ok(nothing));
    for length in 0..bytes.len() {
        assert!(SignedVoucher::from_bytes(&bytes[..length]).is_err(), "{length}");
    }
    assert!(SignedTicket::from_bytes(&vec![0xc0; MAX_TICKET_BYTES + 1]).is_err());
}

#[test]
fn a_number_has_one_encoding() {
    let spec = example();
    let signed = voucher().sign(&spec, &key(5));
    let mut padded = RlpStream::new_list(4);
    padded.append(&3u64).append(&Address::repeat_byte(7).as_slice());
    padded.append(&vec![0, 9]).append(&signed.signature.as_bytes().as_slice());
    assert!(SignedVoucher::from_bytes(&padded.out()).is_err());
}

#[test]
fn one_device_costs_at_most_its_cap_for_every_day_begun() {
    let limit = |valid_until, now| byte_limit(100, NOW, valid_until, now);
    assert_eq!(limit(NEVER, NOW), 0);
    assert_eq!(limit(NEVER, NOW + 1), 100);
    assert_eq!(limit(NEVER, NOW + DAY), 100);
    assert_eq!(limit(NEVER, NOW + DAY + 1), 200);
    assert_eq!(limit(NOW + 10, NOW + 9 * DAY), 100, "its end ends the days");
    assert_eq!(limit(NOW - 10, NOW + 9 * DAY), 0, "an end before the opening");
    assert_eq!(
        byte_limit(u64::MAX, 0, u64::MAX, u64::MAX),
        u128::from(u64::MAX) * u128::from(u64::MAX.div_ceil(DAY))
    );
    assert_eq!(billed_after(500, 0, 200), 200);
    assert_eq!(billed_after(150, 200, 200), 200, "never down");
    assert_eq!(billed_after(500, 300, 200), 300, "never down, not by a lowered cap");
}

#[test]
fn no_more_is_owed_than_the_deposit_less_what_was_paid() {
    let gib = |wei: u64| U256::from(wei) << GIB_BITS;
    assert_eq!(owed(10, 2, gib(5), U256::ZERO), 3);
    assert_eq!(owed(10, 2, gib(5), U256::from(7)), 5);
    assert_eq!(owed(10, 2, gib(7), U256::from(5)), 5, "the greater, not both");
    assert_eq!(owed(10, 2, gib(50), U256::MAX), 8);
    assert_eq!(owed(10, 0, gib(5) + U256::from((1u64 << GIB_BITS) - 1), U256::ZERO), 5, "rounded down");
}
