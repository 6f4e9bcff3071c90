// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IDevices} from "../src/interfaces/IRegistry.sol";
import {ISigned} from "../src/interfaces/ISigned.sol";
import {ISettlement} from "../src/interfaces/ISettlement.sol";
import {Base} from "./Base.sol";
import {SettlementBase} from "./Settlement.t.sol";
import {Signed} from "./Signed.sol";

/// @notice The budgets: the gas of a whole transaction, sent directly, in a registry that already holds other records.
/// Run isolated, so that every measured call is a transaction of its own: nothing is warm, the intrinsic cost counts
/// and the refund is taken off. The figures go to `snapshots/gas.json`.
/// forge-config: default.isolate = true
contract GasTest is SettlementBase, Signed {
    uint256 private constant BATCH = 50;

    function setUp() public override(Base, SettlementBase) {
        SettlementBase.setUp();
        open();
    }

    /// What a third party pays to send what another signed.
    function bySignature(string memory what, uint256 budget, Person memory signer, Statement memory s) internal {
        ISigned.Signature memory signature = signatureOf(signer, s, SOON, s.target);
        (bool done,) = send(s, SOON, signature);
        vm.assertTrue(done, what);
        within(what, budget);
    }

    function within(string memory what, uint256 budget) internal {
        uint256 gas = vm.lastCallGas().gasTotalUsed;
        vm.snapshotValue("gas", what, gas);
        vm.assertLe(gas, budget, what);
    }

    function test_enrol() public {
        Person memory who = person("new");
        ISigned.Signature memory c = consent(who, who.addr, fleet, operator.addr, FOREVER);
        as_(operator);
        registry.enrol(fleet, who.addr, FOREVER, SOON, c);
        within("enrol", 62_000);
    }

    function test_enrolBySig() public {
        Person memory who = person("new");
        ISigned.Signature memory c = consent(who, who.addr, fleet, operator.addr, FOREVER);
        ISigned.Signature memory s = consent(operator, who.addr, fleet, operator.addr, FOREVER);
        as_(stranger);
        registry.enrolBySig(fleet, who.addr, FOREVER, SOON, c, s);
        within("enrolBySig", 68_000);
    }

    function test_enrolBatch() public {
        IDevices.Enrolment[] memory batch = new IDevices.Enrolment[](BATCH);
        for (uint256 i = 0; i < BATCH; ++i) {
            Person memory who = person(string.concat("batch", vm.toString(i)));
            ISigned.Signature memory c = consent(who, who.addr, fleet, operator.addr, FOREVER);
            batch[i] = IDevices.Enrolment(who.addr, FOREVER, SOON, c);
        }
        as_(operator);
        registry.enrolBatch(fleet, batch);
        uint256 each = vm.lastCallGas().gasTotalUsed / BATCH;
        vm.snapshotValue("gas", "enrolBatch of 50, each", each);
        vm.assertLe(each, 36_000, "enrolBatch");
    }

    function test_revoke() public {
        as_(operator);
        registry.revoke(device.addr);
        within("revoke", 36_000);
    }

    function test_revokeByItsKey() public {
        as_(device);
        registry.revoke(device.addr);
        within("revoke, by its own key", 36_000);
    }

    function test_revokeBySig() public {
        string memory typed = "Revoke(address device,uint40 nonce,uint40 deadline)";
        Statement memory s = forRegistry(typed, abi.encode(device.addr), registry.revokeBySig.selector, fleet);
        bySignature("revokeBySig", 50_000, operator, s);
    }

    function test_revokeOwnBySig() public {
        string memory typed = "RevokeOwn(address device,uint40 deadline)";
        Statement memory s = forRegistry(typed, abi.encode(device.addr), registry.revokeOwnBySig.selector, fleet);
        s.nonce = "";
        bySignature("revokeOwnBySig", 42_000, device, s);
    }

    function test_rotate() public {
        Person memory next = person("next");
        ISigned.Signature memory c = rotation(next, device.addr, device.addr, next.addr);
        as_(device);
        registry.rotate(device.addr, next.addr, SOON, c);
        within("rotate", 70_000);
    }

    function test_rotateBySig() public {
        Person memory next = person("next");
        ISigned.Signature memory c = rotation(next, device.addr, device.addr, next.addr);
        ISigned.Signature memory s = rotation(device, device.addr, device.addr, next.addr);
        as_(stranger);
        registry.rotateBySig(device.addr, next.addr, SOON, c, s);
        within("rotateBySig", 72_000);
    }

    function test_grant() public {
        as_(operator);
        registry.grant(fleet, keccak256("h"), FOREVER, 1);
        within("grant", 58_000);
    }

    function test_grantBySig() public {
        Statement memory s = forRegistry(
            "Grant(uint48 fleet,bytes32 h,uint40 expiry,uint8 rights,uint40 nonce,uint40 deadline)",
            abi.encode(fleet, keccak256("h"), FOREVER, 1),
            registry.grantBySig.selector,
            fleet
        );
        bySignature("grantBySig", 68_000, operator, s);
    }

    function test_commit() public {
        as_(operator);
        names.commit(keccak256("commitment"));
        within("commit", 47_000);
    }

    function test_register() public {
        registerName(operator, "sensor-7", device.addr, 1);
        within("register", 90_000);
    }

    function test_setTarget() public {
        registerName(operator, "sensor-7", device.addr, 1);
        as_(operator);
        names.setTarget(keccak256("sensor-7"), stranger.addr, 3);
        within("setTarget", 43_000);
    }

    function test_setTargetBySig() public {
        registerName(operator, "sensor-7", device.addr, 1);
        Statement memory s = forNames(
            "SetTarget(bytes32 labelHash,address target,uint8 kind,uint40 nonce,uint40 deadline)",
            abi.encode(keccak256("sensor-7"), stranger.addr, 3),
            names.setTargetBySig.selector,
            0
        );
        bySignature("setTargetBySig", 60_000, operator, s);
    }

    function test_setRecordsBySig() public {
        registerName(operator, "sensor-7", device.addr, 1);
        as_(operator);
        names.setRecords(keccak256("sensor-7"), keccak256("first"));
        Statement memory s = forNames(
            "SetRecords(bytes32 labelHash,bytes32 records,uint40 nonce,uint40 deadline)",
            abi.encode(keccak256("sensor-7"), keccak256("second")),
            names.setRecordsBySig.selector,
            0
        );
        bySignature("setRecordsBySig, again", 60_000, operator, s);
    }

    function test_setRecords() public {
        registerName(operator, "sensor-7", device.addr, 1);
        as_(operator);
        names.setRecords(keccak256("sensor-7"), keccak256("first"));
        as_(operator);
        names.setRecords(keccak256("sensor-7"), keccak256("second"));
        within("setRecords, again", 44_000);
    }

    function test_setReverse() public {
        as_(device);
        names.setReverse(device.addr, keccak256("sensor-7"));
        within("setReverse, first", 60_000);
    }

    function test_registerNode() public {
        Person memory next = person("next node");
        ISigned.Signature memory yes = nodeConsent(next, owner.addr);
        as_(owner);
        staking.register{value: STAKE}(next.addr, FOREVER, yes);
        within("register node", 90_000);
    }

    function test_settle() public {
        ISettlement.Ticket[] memory first = new ISettlement.Ticket[](20);
        ISettlement.Ticket[] memory second = new ISettlement.Ticket[](20);
        for (uint256 i = 0; i < 20; ++i) {
            Person memory who = person(string.concat("ticket", vm.toString(i)));
            enrol(fleet, operator, who, FOREVER);
            first[i] = ticket(who, who.addr, 1_234_567_890);
            second[i] = ticket(who, who.addr, 9_876_543_210);
        }
        vm.warp(START + 1);
        settlement.settle(fleet, node.addr, first);
        settlement.settle(fleet, node.addr, second);
        uint256 each = vm.lastCallGas().gasTotalUsed / 20;
        vm.snapshotValue("gas", "settle of 20 in steady state, each", each);
        vm.assertLe(each, 22_000, "settle");
    }

    function test_redeem() public {
        as_(operator);
        settlement.vouch(fleet, node.addr, 1);
        ISigned.Signature memory s = voucher(operator, 1_000_000_000);
        as_(owner);
        settlement.redeem(fleet, node.addr, 1_000_000_000, s);
        within("redeem a voucher", 50_000);
    }

    function test_collect() public {
        as_(operator);
        settlement.vouch(fleet, node.addr, 1);
        as_(owner);
        settlement.collect(fleet, node.addr, owner.addr);
        as_(operator);
        settlement.vouch(fleet, node.addr, 1_000_000_000);
        as_(owner);
        settlement.collect(fleet, node.addr, owner.addr);
        within("collect", 60_000);
    }
}
