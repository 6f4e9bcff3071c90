//! The committed artifacts against each other: that they are read whole, that code is spliced as the compiler
//! says, that the layout is the documented one.

#![allow(clippy::unwrap_used)]

use alloy_primitives::{Address, B256, U256, aliases::U96, keccak256};

use super::*;

fn registry_terms() -> registry::Terms {
    Addresses::predict(Address::repeat_byte(0x11), 5).registry_terms(Address::repeat_byte(0x22))
}

fn name_registrar_terms() -> name_registrar::Terms {
    name_registrar::Terms {
        registry: Address::repeat_byte(0x33),
        treasury: Address::repeat_byte(0x44),
        min_age: 60,
        max_age: 86_400,
        grace: 2_592_000,
        fee_three: U96::from(3),
        fee_four: U96::from(2),
        fee_five: U96::from(1),
    }
}

fn node_staking_terms() -> node_staking::Terms {
    node_staking::Terms {
        registry: Address::repeat_byte(0x33),
        genesis_hash: B256::repeat_byte(0x55),
        header_numbers: true,
        min_stake: U96::from(7),
        epoch_length: 86_400,
        staked_age: 604_800,
        unbonding_age: 1_814_400,
    }
}

fn check<T: Deployable>(terms: &T) {
    let artifact = T::artifact();
    assert!(artifact.bytecode.len() > 1000 && artifact.deployed_bytecode.len() > 1000);
    assert!(artifact.deployed_bytecode.len() <= 24_576, "EIP-170");
    assert_eq!(artifact.bytecode_keccak256, keccak256(&artifact.bytecode), "{}", artifact.contract);
    assert_eq!(
        artifact.deployed_bytecode_keccak256,
        keccak256(&artifact.deployed_bytecode),
        "{}",
        artifact.contract
    );
    let creation = terms.creation_code();
    assert!(creation.starts_with(&artifact.bytecode) && creation.ends_with(&terms.constructor_arguments()));

    let code = terms.deployed_code();
    assert_eq!(code.len(), artifact.deployed_bytecode.len());
    assert_ne!(terms.code_hash(), artifact.deployed_bytecode_keccak256, "immutables count");
    for (name, word) in terms.immutables() {
        let immutable = artifact.immutables.iter().find(|i| i.name == name).unwrap();
        assert!(!immutable.offsets.is_empty(), "{name}");
        for &at in &immutable.offsets {
            assert_eq!(artifact.deployed_bytecode[at..at + 32], [0; 32], "{name}");
            assert_eq!(code[at..at + 32], word.0, "{name}");
        }
    }
}

#[test]
fn artifacts_are_read_whole_and_spliced_in_every_place() {
    check(&registry_terms());
    check(&name_registrar_terms());
    check(&node_staking_terms());
    check(&settlement::Terms { registry: Address::repeat_byte(0x33) });
}

#[test]
fn another_argument_is_another_code_hash() {
    let terms = registry_terms();
    assert_ne!(terms.code_hash(), registry::Terms { predecessor: Address::ZERO, ..terms }.code_hash());
    let names = name_registrar_terms();
    assert_ne!(names.code_hash(), name_registrar::Terms { grace: 1, ..names }.code_hash());
    let nodes = node_staking_terms();
    assert_ne!(nodes.code_hash(), node_staking::Terms { header_numbers: false, ..nodes }.code_hash());
}

/// The layout that devices are built for. It can't change; a change of the compiler's mind fails here.
#[test]
fn the_compilers_layout_is_the_documented_one() {
    let expected: [(&str, &[(&str, u64)]); 13] = [
        ("device", &[("key", 20), ("fleet", 6), ("validUntil", 5), ("status", 1)]),
        ("keyOf", &[("device", 20), ("since", 5)]),
        ("fleet", &[("operator", 20), ("policyEpoch", 5), ("nonce", 5), ("flags", 2)]),
        ("pendingOperator", &[("operator", 20), ("acceptFrom", 5)]),
        ("grants", &[("expiry", 5), ("policyEpoch", 5), ("fleet", 6), ("rights", 1)]),
        ("name", &[("target", 20), ("expiry", 5), ("kind", 1), ("version", 6)]),
        ("nameOwner", &[("owner", 20), ("nonce", 5)]),
        ("nameRecords", &[]),
        ("reverse", &[]),
        ("node", &[("stake", 12), ("since", 5), ("unbondAt", 5), ("flags", 2)]),
        ("nodeOwner", &[]),
        ("committee", &[]),
        ("fleetCount", &[]),
    ];
    let layout = registry::Terms::artifact().storage_layout;
    assert_eq!(layout.len(), expected.len());
    for (slot, (variable, (label, fields))) in layout.iter().zip(expected).enumerate() {
        assert_eq!((variable.label.as_str(), variable.slot), (label, slot as u64));
        let members = variable.value.as_ref().map_or(&[][..], |value| &value.members);
        let mut offset = 0;
        let packed: Vec<Member> = fields
            .iter()
            .map(|&(name, bytes)| {
                offset += bytes;
                Member { label: name.to_owned(), offset: offset - bytes, slot: 0, bytes }
            })
            .collect();
        assert_eq!(members, packed, "{label}");
    }
}

/// Addresses computed by anvil's first deployments from the well-known first development account.
#[test]
fn addresses_are_predicted_from_the_deployers_nonce() {
    let deployer: Address = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266".parse().unwrap();
    let addresses = Addresses::predict(deployer, 0);
    assert_eq!(addresses.registry, "0x5FbDB2315678afecb367f032d93F642f64180aa3".parse::<Address>().unwrap());
    assert_eq!(
        addresses.name_registrar,
        "0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512".parse::<Address>().unwrap()
    );
    assert_eq!(addresses.settlement, deployer.create(3));
    assert_eq!(
        addresses.registry_terms(Address::ZERO).immutables()[0].1,
        B256::from(U256::from_be_slice(addresses.name_registrar.as_slice()))
    );
}

/// Where an account's transactions create contracts, as two other implementations say.
#[test]
fn predicted_addresses_are_the_vectors() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../vectors/vectors.json")).unwrap();
    let creations = vectors["creations"].as_array().unwrap();
    for creation in creations {
        let address = |field: &str| creation[field].as_str().unwrap().parse::<Address>().unwrap();
        let predicted = Addresses::predict(address("deployer"), creation["nonce"].as_u64().unwrap());
        assert_eq!(predicted.registry, address("address"), "{creation}");
    }
    let first = Addresses::predict(creations[0]["deployer"].as_str().unwrap().parse().unwrap(), 0);
    let all = [first.registry, first.name_registrar, first.node_staking, first.settlement];
    for (address, creation) in all.iter().zip(creations) {
        assert_eq!(*address, creation["address"].as_str().unwrap().parse::<Address>().unwrap());
    }
    assert_eq!(creations.len(), 11);
}
