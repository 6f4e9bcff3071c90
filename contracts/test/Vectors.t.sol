// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {INameRegistrar} from "../src/interfaces/INameRegistrar.sol";
import {INodeStaking} from "../src/interfaces/INodeStaking.sol";
import {IRegistry} from "../src/interfaces/IRegistry.sol";
import {ISettlement} from "../src/interfaces/ISettlement.sol";
import {ISigned} from "../src/interfaces/ISigned.sol";
import {Layout} from "../src/lib/Layout.sol";
import {Base} from "./Base.sol";

/// @notice The contracts against vectors that neither they nor the Rust crates computed. The same file is read by Rust.
contract VectorsTest is Base {
    using Layout for bytes32;
    using Layout for address;

    string internal json;
    INodeStaking internal staking;
    ISettlement internal settlement;

    /// The contracts at the addresses the vectors were signed for.
    function setUp() public override {
        vm.warp(START);
        json = vm.readFile("vectors/vectors.json");
        vm.chainId(number(".chainId"));
        (address registryAt, address namesAt) = (addr(".contracts.registry"), addr(".contracts.names"));
        (address stakingAt, address settlementAt) = (addr(".contracts.staking"), addr(".contracts.settlement"));
        put("Registry", registryAt, abi.encode(namesAt, stakingAt, address(0)));
        INameRegistrar.Ages memory ages = INameRegistrar.Ages(MIN_AGE, MAX_AGE, GRACE);
        INameRegistrar.Fees memory fees = INameRegistrar.Fees(FEE_THREE, FEE_FOUR, FEE_FIVE);
        put("NameRegistrar", namesAt, abi.encode(registryAt, treasury, ages, fees));
        INodeStaking.Ages memory nodeAges = INodeStaking.Ages(1 days, 7 days, 21 days);
        put("NodeStaking", stakingAt, abi.encode(registryAt, word(".genesisHash"), true, uint96(1), nodeAges));
        put("Settlement", settlementAt, abi.encode(registryAt));
        (registry, names) = (IRegistry(registryAt), INameRegistrar(namesAt));
        (staking, settlement) = (INodeStaking(stakingAt), ISettlement(settlementAt));
    }

    function put(string memory contractName, address where, bytes memory arguments) internal {
        vm.etch(where, create(contractName, arguments).code);
    }

    function word(string memory path) internal view returns (bytes32) {
        return vm.parseJsonBytes32(json, path);
    }

    function number(string memory path) internal view returns (uint256) {
        return vm.parseJsonUint(json, path);
    }

    function addr(string memory path) internal view returns (address) {
        return vm.parseJsonAddress(json, path);
    }

    function whoIs(string memory name) internal view returns (address) {
        return addr(string.concat(".people.", name, ".address"));
    }

    function signature(string memory name) internal view returns (ISigned.Signature memory) {
        string memory path = string.concat(".signed.", name);
        return ISigned.Signature(
            word(string.concat(path, ".r")), word(string.concat(path, ".s")), uint8(number(string.concat(path, ".v")))
        );
    }

    function message(string memory name, string memory field) internal pure returns (string memory) {
        return string.concat(".signed.", name, ".message.", field);
    }

    function item(string memory list, uint256 i) internal pure returns (string memory) {
        return string.concat(list, "[", vm.toString(i), "]");
    }

    function test_addresses() public view {
        string[6] memory people = ["device", "operator", "newKey", "node", "relayer", "random"];
        for (uint256 i = 0; i < people.length; ++i) {
            uint256 secret = uint256(word(string.concat(".people.", people[i], ".secret")));
            vm.assertEq(vm.addr(secret), whoIs(people[i]));
        }
    }

    /// Where an account's transactions create contracts: what a deployment predicts.
    function test_creations() public view {
        uint256 i = 0;
        for (; vm.keyExistsJson(json, item(".creations", i)); ++i) {
            string memory at_ = item(".creations", i);
            address deployer = addr(string.concat(at_, ".deployer"));
            address made = vm.computeCreateAddress(deployer, number(string.concat(at_, ".nonce")));
            vm.assertEq(made, addr(string.concat(at_, ".address")));
        }
        vm.assertEq(i, 11);
    }

    function test_slots() public view {
        uint256 i = 0;
        for (; vm.keyExistsJson(json, item(".slots", i)); ++i) {
            string memory at_ = item(".slots", i);
            uint8 kind = uint8(number(string.concat(at_, ".kind")));
            vm.assertEq(Layout.slotOf(kind, word(string.concat(at_, ".key"))), word(string.concat(at_, ".slot")));
        }
        vm.assertEq(i, 14);
    }

    function test_records() public view {
        vm.assertEq(
            Layout.pack(Layout.Device(whoIs("newKey"), 1, uint40(number(".records.device.validUntil")), 1)),
            word(".records.device.word")
        );
        vm.assertEq(
            Layout.pack(Layout.Device(whoIs("device"), type(uint48).max, FOREVER, 4)),
            word(".records.deviceForever.word")
        );
        vm.assertEq(Layout.pack(Layout.KeyUse(whoIs("device"), START)), word(".records.keyOf.word"));
        vm.assertEq(Layout.pack(Layout.Fleet(whoIs("operator"), 3, 5, 1)), word(".records.fleet.word"));
        uint40 until = uint40(number(".records.grant.expiry"));
        vm.assertEq(Layout.pack(Layout.Grant(until, 3, 1, 1)), word(".records.grant.word"));
        vm.assertEq(Layout.pack(Layout.Name(whoIs("device"), until, 1, 2)), word(".records.name.word"));
        vm.assertEq(Layout.pack(Layout.NameOwner(whoIs("operator"), 9)), word(".records.nameOwner.word"));
        vm.assertEq(Layout.pack(Layout.Node(10 ether, START, START + 21 days, 1)), word(".records.node.word"));
    }

    function test_grants() public {
        vm.prank(whoIs("operator"));
        uint48 fleet = registry.createFleet(0);
        uint256 i = 0;
        for (; vm.keyExistsJson(json, item(".grants", i)); ++i) {
            string memory at_ = item(".grants", i);
            bytes32 h = keccak256(
                abi.encode(
                    uint8(number(string.concat(at_, ".targetKind"))),
                    word(string.concat(at_, ".target")),
                    uint8(number(string.concat(at_, ".granteeKind"))),
                    word(string.concat(at_, ".grantee")),
                    uint32(number(string.concat(at_, ".service")))
                )
            );
            vm.assertEq(h, word(string.concat(at_, ".h")));
            vm.prank(whoIs("operator"));
            registry.grant(fleet, h, FOREVER, 1);
            bytes32 record = registry.get(Layout.GRANT, word(string.concat(at_, ".g")));
            vm.assertEq(record, Layout.pack(Layout.Grant(FOREVER, 1, fleet, 1)));
        }
        vm.assertEq(i, 4);
    }

    function test_names() public {
        uint256 i = 0;
        for (; vm.keyExistsJson(json, item(".names.legal", i)); ++i) {
            string memory label = vm.parseJsonString(json, string.concat(item(".names.legal", i), ".label"));
            names.fee(label, 1);
            vm.assertEq(keccak256(bytes(label)), word(string.concat(item(".names.legal", i), ".labelHash")));
        }
        vm.assertEq(i, 8);
        for (i = 0; vm.keyExistsJson(json, item(".names.illegal", i)); ++i) {
            string memory label = vm.parseJsonString(json, item(".names.illegal", i));
            vm.expectRevert(INameRegistrar.IllegalLabel.selector);
            names.fee(label, 1);
        }
        vm.assertEq(i, 17);
    }

    function test_commitment() public view {
        bytes32 digest = names.commitmentOf(
            word(".commitment.labelHash"),
            addr(".commitment.owner"),
            addr(".commitment.target"),
            uint8(number(".commitment.kind")),
            uint40(number(".commitment.duration")),
            word(".commitment.secret")
        );
        vm.assertEq(digest, word(".commitment.digest"));
    }

    function test_committee() public {
        address[] memory members = new address[](3);
        for (uint256 i = 0; i < 3; ++i) {
            members[i] = addr(item(".committee.members", i));
            vm.prank(address(staking));
            registry.put(Layout.NODE, members[i].toKey(), Layout.pack(Layout.Node(1, START - 30 days, 0, 0)));
        }
        vm.warp((START / 1 days) * 1 days);
        uint32 epoch = uint32(START / 1 days + 1);
        staking.proposeCommittee(epoch, members);
        vm.assertEq(registry.get(Layout.COMMITTEE, bytes32(uint256(epoch))), word(".committee.digest"));
    }

    /// Each signed statement, sent by a stranger to the contract it is for, one after the other.
    function test_signed_statements_are_accepted() public {
        (address id, address newKey, address node) = (whoIs("device"), whoIs("newKey"), whoIs("node"));
        address by = whoIs("operator");
        vm.prank(by);
        registry.createFleet(0);
        uint40 until = uint40(number(message("enrolDevice", "validUntil")));
        uint40 deadline = uint40(number(message("enrolDevice", "deadline")));
        registry.enrolBySig(1, id, until, deadline, signature("enrolDevice"), signature("enrolOperator"));
        registry.rotateBySig(id, newKey, deadline, signature("rotateNew"), signature("rotateOld"));
        vm.assertEq(deviceOf(id).key, newKey);

        registry.grantBySig(1, word(message("grant", "h")), until, 1, deadline, signature("grant"));
        vm.assertEq(uint256(nonceOf(1)), 1);

        names.setReverseBySig(id, word(message("setReverse", "labelHash")), deadline, signature("setReverse"));

        vm.deal(by, 1 ether);
        vm.prank(by);
        staking.register{value: 1}(node, deadline, signature("registerNode"));
        settle(node, by);
        INodeStaking.Head memory a = headOf("headA");
        INodeStaking.Head memory b = headOf("headB");
        staking.reportTwoHeads(node, a, signature("headA"), b, signature("headB"));

        registry.revokeOwnBySig(id, deadline, signature("revokeOwn"));
        assertStatus(id, Layout.REVOKED);
    }

    /// Every statement an operator signs for its fleet, in the order of the fleet's nonces.
    function test_what_operators_signed_is_accepted() public {
        (address by, address id, address random) = (whoIs("operator"), whoIs("device"), whoIs("random"));
        vm.prank(by);
        registry.createFleet(0);
        uint40 deadline = uint40(number(message("enrolDevice", "deadline")));
        uint40 until = uint40(number(message("enrolDevice", "validUntil")));
        registry.enrolBySig(1, id, until, deadline, signature("enrolDevice"), signature("enrolOperator"));
        bytes32 h = word(message("grant", "h"));
        registry.grantBySig(1, h, until, 1, deadline, signature("grant"));
        registry.bumpPolicyEpochBySig(1, deadline, signature("bumpPolicyEpoch"));
        registry.suspendBySig(id, deadline, signature("suspend"));
        assertStatus(id, Layout.SUSPENDED);
        registry.resumeBySig(id, deadline, signature("resume"));
        assertStatus(id, Layout.ACTIVE);
        uint40 later = uint40(number(message("extend", "validUntil")));
        registry.extendBySig(id, later, deadline, signature("extend"));
        vm.assertEq(uint256(deviceOf(id).validUntil), later);
        registry.revokeGrantBySig(1, h, deadline, signature("revokeGrant"));
        address next = addr(message("proposeOperator", "operator"));
        registry.proposeOperatorBySig(1, next, deadline, signature("proposeOperator"));
        registry.cancelOperatorBySig(1, deadline, signature("cancelOperator"));
        vm.prank(by);
        registry.proposeOperator(1, next);
        registry.acceptOperatorBySig(1, deadline, signature("acceptOperator"));
        vm.assertEq(fleetOf(1).operator, next);
        vm.assertEq(uint256(nonceOf(1)), 9);

        vm.prank(by);
        registry.createFleet(Layout.SLOW_REVOKE);
        Person memory other = Person(random, uint256(word(".people.random.secret")));
        ISigned.Signature memory yes = consent(other, random, 2, by, until);
        vm.prank(by);
        registry.enrol(2, random, until, SOON, yes);
        registry.revokeBySig(random, deadline, signature("revoke"));
        assertStatus(random, Layout.REVOKING);
        registry.cancelRevokeBySig(random, until, deadline, signature("cancelRevoke"));
        assertStatus(random, Layout.SUSPENDED);
    }

    /// Every statement a name's owner signs, in the order of the name's nonces.
    function test_what_a_names_owner_signed_is_accepted() public {
        address by = whoIs("operator");
        vm.deal(by, 1 ether);
        registerName(Person(by, 0), "sensor-7", address(0), 0);
        bytes32 labelHash = word(message("setTarget", "labelHash"));
        uint40 deadline = uint40(number(message("setTarget", "deadline")));
        names.setTargetBySig(labelHash, whoIs("device"), 1, deadline, signature("setTarget"));
        bytes32 records = word(message("setRecords", "records"));
        names.setRecordsBySig(labelHash, records, deadline, signature("setRecords"));
        vm.assertEq(registry.get(Layout.NAME_RECORDS, labelHash), records);
        names.transferBySig(labelHash, addr(message("transfer", "to")), deadline, signature("transfer"));
        vm.assertEq(registry.get(Layout.NAME_OWNER, labelHash).toNameOwner().owner, whoIs("relayer"));
    }

    function settle(address node, address by) internal {
        vm.prank(by);
        settlement.openChannel{value: 0.5 ether}(1, node, 1 gwei, type(uint64).max);
        vm.warp(START + 1);
        ISettlement.Ticket[] memory tickets = new ISettlement.Ticket[](1);
        tickets[0] = ISettlement.Ticket(
            whoIs("device"),
            uint128(number(message("ticket", "bytesTotal"))),
            uint64(number(message("ticket", "connsTotal"))),
            uint64(number(message("ticket", "issuedAt"))),
            signature("ticket")
        );
        settlement.settle(1, node, tickets);
        vm.assertEq(uint256(settlement.owed(1, node)), 3 gwei);
        settlement.redeem(1, node, number(message("voucher", "total")), signature("voucher"));
        vm.assertEq(uint256(settlement.owed(1, node)), 5 gwei);
    }

    function headOf(string memory name) internal view returns (INodeStaking.Head memory) {
        return INodeStaking.Head(
            uint64(number(message(name, "number"))),
            word(message(name, "hash")),
            uint64(number(message(name, "attestedAt"))),
            word(message(name, "nonce"))
        );
    }
}
