//! The vectors of `contracts/vectors`, computed by a third implementation and checked by forge on the contracts
//! themselves: what protocol derives, packs, hashes and signs is what the chain takes.

#![allow(clippy::unwrap_used, missing_docs)]

use serde_json::Value;
use windlass_protocol::consent::{Enrol, RevokeOwn, Rotate};
use windlass_protocol::grant::{GrantService, GrantTarget, Grantee, grant_id, parties_hash};
use windlass_protocol::head::{Head, committee_hash};
use windlass_protocol::record::{
    DeviceRecord, DeviceStatus, FleetRecord, GrantRecord, KeyRecord, NameKind, NameRecord, NodeRecord,
};
use windlass_protocol::service::ALL_SERVICES;
use windlass_protocol::slot::Slot;
use windlass_protocol::spec::{ChainSpec, ContractPin, Contracts, FinalityRule, Fraction};
use windlass_protocol::ticket::{SignedTicket, Ticket, Voucher, verify_ticket, verify_voucher};
use windlass_protocol::{Address, B256, DeviceId, KeyAddress, Name, SecretKey, Service, U256, keccak256};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../contracts/vectors/vectors.json")).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn word(value: &Value) -> B256 {
    text(value).parse().unwrap()
}

fn address(value: &Value) -> Address {
    windlass_protocol::parse_address(text(value)).unwrap()
}

/// A number, as JSON or, where JSON's are too small, as text.
fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| text(value).parse().unwrap())
}

fn person(vectors: &Value, name: &str) -> (SecretKey, Address) {
    let person = &vectors["people"][name];
    (SecretKey::from_bytes(&word(&person["secret"]).0).unwrap(), address(&person["address"]))
}

fn spec(vectors: &Value) -> ChainSpec {
    let pin = |name: &str| ContractPin {
        address: text(&vectors["contracts"][name]).parse().unwrap(),
        code_hash: B256::ZERO,
    };
    ChainSpec {
        version: 1,
        chain_id: number(&vectors["chainId"]),
        genesis_hash: word(&vectors["genesisHash"]),
        contracts: Contracts {
            registry: pin("registry"),
            name_registrar: pin("names"),
            node_staking: pin("staking"),
            settlement: pin("settlement"),
        },
        deploy_block: 0,
        committee: Vec::new(),
        head_interval: 1,
        finality: FinalityRule::Tag,
        max_finality_lag: 0,
        trusting_period: 0,
        epoch_length: 1,
        stake_age: 0,
        unbonding_period: 0,
        fault_fraction: Fraction { numerator: 1, denominator: 2 },
        dev: true,
        date: 0,
    }
}

#[test]
fn keys_have_the_addresses_of_the_vectors() {
    let vectors = vectors();
    for name in vectors["people"].as_object().unwrap().keys() {
        let (secret, address) = person(&vectors, name);
        assert_eq!(secret.address(), KeyAddress(address), "{name}");
    }
}

#[test]
fn slots_lie_where_the_contract_has_them() {
    let vectors = vectors();
    let slots = vectors["slots"].as_array().unwrap();
    assert_eq!(slots.len(), 14);
    for vector in slots {
        let kind = u8::try_from(number(&vector["kind"])).unwrap();
        let slot = Slot::from_parts(kind, word(&vector["key"])).unwrap();
        assert_eq!((slot.kind(), slot.mapping_key()), (kind, word(&vector["key"])));
        assert_eq!(slot.storage_key(), word(&vector["slot"]), "{slot:?}");
    }
}

#[test]
fn records_pack_and_unpack_as_in_the_contract() {
    let vectors = vectors();
    let records = &vectors["records"];
    let (_, device) = person(&vectors, "device");
    let (_, new_key) = person(&vectors, "newKey");
    let (_, operator) = person(&vectors, "operator");
    let until = number(&records["grant"]["expiry"]);

    let active =
        DeviceRecord { key: KeyAddress(new_key), fleet: 1, valid_until: until, status: DeviceStatus::Active };
    assert_eq!(active.encode(), word(&records["device"]["word"]));
    assert_eq!(DeviceRecord::decode(&word(&records["device"]["word"])).unwrap(), Some(active));
    let forever = DeviceRecord {
        key: KeyAddress(device),
        fleet: (1 << 48) - 1,
        valid_until: (1 << 40) - 1,
        status: DeviceStatus::Revoking,
    };
    assert_eq!(DeviceRecord::decode(&word(&records["deviceForever"]["word"])).unwrap(), Some(forever));
    let key = KeyRecord { device: DeviceId(device), since: 1_800_000_000 };
    assert_eq!(KeyRecord::decode(&word(&records["keyOf"]["word"])).unwrap(), Some(key));
    let fleet = FleetRecord { operator, policy_epoch: 3, nonce: 5, flags: 1 };
    assert_eq!(FleetRecord::decode(&word(&records["fleet"]["word"])).unwrap(), Some(fleet));
    let grant = GrantRecord { expiry: until, policy_epoch: 3, fleet: 1, rights: 1 };
    assert_eq!(GrantRecord::decode(&word(&records["grant"]["word"])).unwrap(), Some(grant));
    let name = NameRecord { target: device, expiry: until, kind: Some(NameKind::Device), version: 2 };
    assert_eq!(NameRecord::decode(&word(&records["name"]["word"])).unwrap(), Some(name));
    let node = NodeRecord {
        stake: text(&records["node"]["stake"]).parse().unwrap(),
        since: 1_800_000_000,
        unbond_at: number(&records["node"]["unbondAt"]),
        flags: 1,
    };
    assert_eq!(NodeRecord::decode(&word(&records["node"]["word"])).unwrap(), Some(node));
}

#[test]
fn grants_hash_as_in_the_contract() {
    let vectors = vectors();
    let grants = vectors["grants"].as_array().unwrap();
    assert_eq!(grants.len(), 4);
    for vector in grants {
        let party = |field: &str| word(&vector[field]);
        let as_device = |word: B256| DeviceId(Address::from_word(word));
        let as_fleet = |word: B256| U256::from_be_bytes(word.0).to::<u64>();
        let target = match number(&vector["targetKind"]) {
            1 => GrantTarget::Device(as_device(party("target"))),
            _ => GrantTarget::Fleet(as_fleet(party("target"))),
        };
        let grantee = match number(&vector["granteeKind"]) {
            1 => Grantee::Device(as_device(party("grantee"))),
            2 => Grantee::Fleet(as_fleet(party("grantee"))),
            _ => Grantee::Anyone,
        };
        let service = u32::try_from(number(&vector["service"])).unwrap();
        let service = match service {
            ALL_SERVICES => GrantService::All,
            // The contract takes any number; protocol has no service on port 0.
            _ if service & 0xffff == 0 => continue,
            _ => GrantService::One(Service::from_number(service).unwrap()),
        };
        let h = parties_hash(target, grantee, service);
        assert_eq!(h, word(&vector["h"]));
        assert_eq!(grant_id(number(&vector["fleet"]), h), word(&vector["g"]));
    }
}

#[test]
fn names_are_legal_here_exactly_when_the_contract_takes_them() {
    let vectors = vectors();
    let legal = vectors["names"]["legal"].as_array().unwrap();
    let illegal = vectors["names"]["illegal"].as_array().unwrap();
    assert_eq!((legal.len(), illegal.len()), (8, 17));
    for vector in legal {
        let name: Name = text(&vector["label"]).parse().unwrap();
        assert_eq!(name.label_hash(), word(&vector["labelHash"]));
    }
    for label in illegal {
        assert!(text(label).parse::<Name>().is_err(), "{label}");
    }
}

#[test]
fn a_committees_digest_is_of_its_padded_addresses() {
    let vectors = vectors();
    let members = vectors["committee"]["members"].as_array().unwrap();
    let members: Vec<Address> = members.iter().map(address).collect();
    assert_eq!(committee_hash(&members), word(&vectors["committee"]["digest"]));
}

/// The digest is the vector's, and signing it gives the very bytes of the vector.
fn assert_signed(vectors: &Value, name: &str, digest: B256) {
    let vector = &vectors["signed"][name];
    assert_eq!(digest, word(&vector["digest"]), "{name}");
    let (secret, _) = person(vectors, text(&vector["signer"]));
    let signature = secret.sign(&digest).to_ethereum_bytes();
    assert_eq!(signature[..32], word(&vector["r"]).0, "{name}");
    assert_eq!(signature[32..64], word(&vector["s"]).0, "{name}");
    assert_eq!(u64::from(signature[64]), number(&vector["v"]), "{name}");
}

#[test]
fn statements_are_hashed_and_signed_as_the_contracts_take_them() {
    let vectors = vectors();
    let spec = spec(&vectors);
    let message = |name: &str| vectors["signed"][name]["message"].clone();

    let m = message("enrolDevice");
    let enrol = Enrol {
        device: DeviceId(address(&m["device"])),
        fleet: number(&m["fleet"]),
        operator: address(&m["operator"]),
        valid_until: number(&m["validUntil"]),
        deadline: number(&m["deadline"]),
    };
    assert_signed(&vectors, "enrolDevice", enrol.digest(&spec));
    assert_signed(&vectors, "enrolOperator", enrol.digest(&spec));

    let m = message("rotateNew");
    let rotate = Rotate {
        device: DeviceId(address(&m["device"])),
        old_key: KeyAddress(address(&m["oldKey"])),
        new_key: KeyAddress(address(&m["newKey"])),
        deadline: number(&m["deadline"]),
    };
    assert_signed(&vectors, "rotateOld", rotate.digest(&spec));
    assert_signed(&vectors, "rotateNew", rotate.digest(&spec));

    let m = message("revokeOwn");
    let revoke = RevokeOwn { device: DeviceId(address(&m["device"])), deadline: number(&m["deadline"]) };
    assert_signed(&vectors, "revokeOwn", revoke.digest(&spec));

    for name in ["headA", "headB"] {
        let m = message(name);
        let head = Head {
            number: number(&m["number"]),
            hash: word(&m["hash"]),
            attested_at: number(&m["attestedAt"]),
            nonce: word(&m["nonce"]),
        };
        assert_signed(&vectors, name, head.digest(&spec));
    }
}

/// Every statement that the contracts take, also those that no device makes: types, digests and signatures.
#[test]
fn every_statement_of_the_vectors_has_its_digest_and_signature() {
    let vectors = vectors();
    let signed = vectors["signed"].as_object().unwrap();
    for (name, vector) in signed {
        let (primary, fields) = text(&vector["type"]).trim_end_matches(')').split_once('(').unwrap();
        let mut words = keccak256(text(&vector["type"])).to_vec();
        for field in fields.split(',') {
            let (kind, field) = field.split_once(' ').unwrap();
            let value = &vector["message"][field];
            words.extend(match kind {
                "address" => address(value).into_word(),
                "bytes32" => word(value),
                _ => text(value).parse::<U256>().unwrap().into(),
            });
        }
        let digest = keccak256([b"\x19\x01", &separator(vector).0[..], &keccak256(&words).0].concat());
        assert_signed(&vectors, name, digest);
        assert!(primary.starts_with(char::is_uppercase));
    }
    assert_eq!(signed.len(), 25);
}

/// The domain separator of EIP-712, put together by hand.
fn separator(vector: &Value) -> B256 {
    let domain = &vector["domain"];
    let (last, kind) = match domain.get("salt") {
        Some(salt) => (word(salt), "bytes32 salt"),
        None => (address(&domain["verifyingContract"]).into_word(), "address verifyingContract"),
    };
    let words = [
        keccak256(format!("EIP712Domain(string name,string version,uint256 chainId,{kind})")),
        keccak256(text(&domain["name"])),
        keccak256("1"),
        text(&domain["chainId"]).parse::<U256>().unwrap().into(),
        last,
    ];
    keccak256(words.concat())
}

#[test]
fn tickets_and_vouchers_are_hashed_and_signed_as_settlement_takes_them() {
    let vectors = vectors();
    let spec = spec(&vectors);
    let message = |name: &str| vectors["signed"][name]["message"].clone();

    let m = message("ticket");
    let ticket = Ticket {
        fleet: number(&m["fleet"]),
        node: address(&m["node"]),
        device: DeviceId(address(&m["device"])),
        bytes_total: text(&m["bytesTotal"]).parse().unwrap(),
        conns_total: number(&m["connsTotal"]),
        issued_at: number(&m["issuedAt"]),
    };
    assert_signed(&vectors, "ticket", ticket.digest(&spec));
    let (current, _) = person(&vectors, "newKey");
    let record = DeviceRecord {
        key: current.address(),
        fleet: ticket.fleet,
        valid_until: u64::from(u32::MAX),
        status: DeviceStatus::Active,
    };
    let signed = ticket.sign(&spec, &current);
    assert_eq!(verify_ticket(&signed, &spec, &record, |_| None, 0).unwrap().ticket(), &ticket);
    assert_eq!(SignedTicket::from_bytes(&signed.to_bytes()), Ok(signed));

    let m = message("voucher");
    let voucher = Voucher {
        fleet: number(&m["fleet"]),
        node: address(&m["node"]),
        total: text(&m["total"]).parse().unwrap(),
    };
    assert_signed(&vectors, "voucher", voucher.digest(&spec));
    let (operator, by) = person(&vectors, "operator");
    assert!(verify_voucher(&voucher.sign(&spec, &operator), &spec, by).is_ok());
}
