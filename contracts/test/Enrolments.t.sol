// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IDevices, IFleets} from "../src/interfaces/IRegistry.sol";
import {ISigned} from "../src/interfaces/ISigned.sol";
import {Layout} from "../src/lib/Layout.sol";
import {Signed} from "./Signed.sol";
import {Vm} from "./Vm.sol";

/// @notice How addresses become devices and keys, here and in the registries this one succeeds.
contract EnrolmentsTest is Signed {
    using Layout for bytes32;
    using Layout for address;

    uint48 internal fleet;
    Person internal b = person("b");
    Person internal c = person("c");

    function setUp() public override {
        super.setUp();
        fleet = createFleet(operator, 0);
    }

    function keyUseOf(address key) internal view returns (Layout.KeyUse memory) {
        return registry.get(Layout.KEY_OF, key.toKey()).toKeyUse();
    }

    // ---- enrol ------------------------------------------------------------------------------------------------

    function test_enrol_takes_operator_and_consent() public {
        ISigned.Signature memory yes = consent(device, device.addr, fleet, operator.addr, FOREVER);
        refused(stranger, IFleets.NotOperator.selector);
        registry.enrol(fleet, device.addr, FOREVER, SOON, yes);
        refused(device, IFleets.NotOperator.selector);
        registry.enrol(fleet, device.addr, FOREVER, SOON, yes);
        as_(operator);
        registry.enrol(fleet, device.addr, FOREVER, SOON, yes);
        Layout.Device memory d = deviceOf(device.addr);
        vm.assertEq(d.key, device.addr);
        vm.assertEq(uint256(d.fleet), fleet);
        vm.assertEq(uint256(d.validUntil), FOREVER);
        vm.assertEq(uint256(d.status), Layout.ACTIVE);
        refused(operator, IDevices.AlreadyEnrolled.selector);
        registry.enrol(fleet, device.addr, FOREVER, SOON, yes);
    }

    /// Consent is to exactly this fleet, operator, validity and deadline.
    function test_consent_to_something_else_is_no_consent() public {
        bytes4 bad = ISigned.BadSignature.selector;
        uint48 other = createFleet(operator, 0);
        ISigned.Signature memory yes = consent(device, device.addr, other, operator.addr, FOREVER);
        refused(operator, bad);
        registry.enrol(fleet, device.addr, FOREVER, SOON, yes);
        yes = consent(device, device.addr, fleet, stranger.addr, FOREVER);
        refused(operator, bad);
        registry.enrol(fleet, device.addr, FOREVER, SOON, yes);
        yes = consent(device, device.addr, fleet, operator.addr, FOREVER - 1);
        refused(operator, bad);
        registry.enrol(fleet, device.addr, FOREVER, SOON, yes);
        yes = consent(stranger, device.addr, fleet, operator.addr, FOREVER);
        refused(operator, bad);
        registry.enrol(fleet, device.addr, FOREVER, SOON, yes);
        yes = consent(device, device.addr, fleet, operator.addr, FOREVER);
        refused(operator, bad);
        registry.enrol(fleet, device.addr, FOREVER, SOON + 1, yes);
        refused(operator, bad);
        registry.enrol(fleet, address(0), FOREVER, SOON, ISigned.Signature(0, 0, 27));
    }

    function test_enrol_needs_time_left() public {
        ISigned.Signature memory yes = consent(device, device.addr, fleet, operator.addr, START);
        refused(operator, IFleets.AlreadyExpired.selector);
        registry.enrol(fleet, device.addr, START, SOON, yes);
        yes = consent(device, device.addr, fleet, operator.addr, FOREVER);
        vm.warp(SOON);
        refused(operator, ISigned.DeadlinePassed.selector);
        registry.enrol(fleet, device.addr, FOREVER, SOON, yes);
    }

    function test_enrolBySig() public {
        bytes memory args = abi.encode(device.addr, fleet, operator.addr, FOREVER);
        ISigned.Signature memory yes = consent(device, device.addr, fleet, operator.addr, FOREVER);
        ISigned.Signature memory no = signed(stranger, ENROL, bytes.concat(args, abi.encode(SOON)));
        refused(stranger, ISigned.BadSignature.selector);
        registry.enrolBySig(fleet, device.addr, FOREVER, SOON, yes, no);
        refused(stranger, ISigned.BadSignature.selector);
        registry.enrolBySig(fleet, device.addr, FOREVER, SOON, no, no);
        ISigned.Signature memory agreed = signed(operator, ENROL, bytes.concat(args, abi.encode(SOON)));
        as_(stranger);
        registry.enrolBySig(fleet, device.addr, FOREVER, SOON, yes, agreed);
        assertStatus(device.addr, Layout.ACTIVE);
        refused(stranger, IDevices.AlreadyEnrolled.selector);
        registry.enrolBySig(fleet, device.addr, FOREVER, SOON, yes, agreed);
    }

    function test_enrolBySig_for_a_fleet_without_operator() public {
        ISigned.Signature memory yes = consent(device, device.addr, 99, address(0), FOREVER);
        refused(stranger, ISigned.BadSignature.selector);
        registry.enrolBySig(99, device.addr, FOREVER, SOON, yes, ISigned.Signature(0, 0, 27));
    }

    function test_a_batch_skips_and_reports_what_it_cannot_do() public {
        IDevices.Enrolment[] memory batch = new IDevices.Enrolment[](4);
        ISigned.Signature memory no = consent(stranger, b.addr, fleet, operator.addr, FOREVER);
        ISigned.Signature memory yes = consent(device, device.addr, fleet, operator.addr, FOREVER);
        batch[0] = IDevices.Enrolment(b.addr, FOREVER, SOON, no);
        batch[1] = IDevices.Enrolment(device.addr, FOREVER, SOON, yes);
        batch[2] = batch[1];
        batch[3] = IDevices.Enrolment(c.addr, START, SOON, no);
        refused(stranger, IFleets.NotOperator.selector);
        registry.enrolBatch(fleet, batch);
        vm.recordLogs();
        as_(operator);
        vm.assertEq(registry.enrolBatch(fleet, batch), 3);
        assertStatus(device.addr, Layout.ACTIVE);
        assertStatus(b.addr, Layout.NONE);
        assertStatus(c.addr, Layout.NONE);
        bytes4[3] memory reasons = [
            ISigned.BadSignature.selector, IDevices.AlreadyEnrolled.selector, IFleets.AlreadyExpired.selector
        ];
        vm.assertEq(skippedReasons(), abi.encode(reasons));
    }

    function skippedReasons() internal returns (bytes memory reasons) {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].topics[0] == IDevices.EnrolmentSkipped.selector) reasons = bytes.concat(reasons, logs[i].data);
        }
    }

    // ---- rotate -----------------------------------------------------------------------------------------------

    function test_rotate_takes_the_current_and_the_new_key() public {
        enrol(fleet, operator, device, FOREVER);
        ISigned.Signature memory yes = rotation(b, device.addr, device.addr, b.addr);
        refused(operator, IDevices.NotKey.selector);
        registry.rotate(device.addr, b.addr, SOON, yes);
        refused(b, IDevices.NotKey.selector);
        registry.rotate(device.addr, b.addr, SOON, yes);
        ISigned.Signature memory no = rotation(c, device.addr, device.addr, b.addr);
        refused(device, ISigned.BadSignature.selector);
        registry.rotate(device.addr, b.addr, SOON, no);
        vm.warp(START + 7);
        as_(device);
        registry.rotate(device.addr, b.addr, SOON, yes);
        vm.assertEq(deviceOf(device.addr).key, b.addr);
        vm.assertEq(keyUseOf(b.addr).device, device.addr);
        vm.assertEq(uint256(keyUseOf(b.addr).since), START + 7);
        refused(device, IDevices.NotKey.selector);
        registry.rotate(device.addr, c.addr, SOON, no);
    }

    function test_rotate_needs_an_active_unexpired_device_and_time() public {
        enrol(fleet, operator, device, SOON);
        ISigned.Signature memory yes = rotation(b, device.addr, device.addr, b.addr);
        as_(operator);
        registry.suspend(device.addr);
        refused(device, IDevices.NotActive.selector);
        registry.rotate(device.addr, b.addr, SOON, yes);
        as_(operator);
        registry.resume(device.addr);
        vm.warp(SOON);
        refused(device, ISigned.DeadlinePassed.selector);
        registry.rotate(device.addr, b.addr, SOON, yes);
        refused(device, IDevices.NotActive.selector);
        registry.rotate(device.addr, b.addr, SOON + 1, yes);
    }

    function test_a_key_serves_once_ever() public {
        enrol(fleet, operator, device, FOREVER);
        enrol(fleet, operator, c, FOREVER);
        bytes4 taken = IDevices.KeyTaken.selector;

        // Onto itself, and onto another device's id.
        ISigned.Signature memory yes = rotation(device, device.addr, device.addr, device.addr);
        refused(device, taken);
        registry.rotate(device.addr, device.addr, SOON, yes);
        yes = rotation(c, device.addr, device.addr, c.addr);
        refused(device, taken);
        registry.rotate(device.addr, c.addr, SOON, yes);

        // Onto another device's key, in use and retired; and enrolling one.
        rotate(device, device, b);
        yes = rotation(b, c.addr, c.addr, b.addr);
        refused(c, taken);
        registry.rotate(c.addr, b.addr, SOON, yes);
        Person memory d = person("d");
        rotate(device, b, d);
        refused(c, taken);
        registry.rotate(c.addr, b.addr, SOON, yes);
        yes = consent(b, b.addr, fleet, operator.addr, FOREVER);
        refused(operator, taken);
        registry.enrol(fleet, b.addr, FOREVER, SOON, yes);
        yes = consent(d, d.addr, fleet, operator.addr, FOREVER);
        refused(operator, taken);
        registry.enrol(fleet, d.addr, FOREVER, SOON, yes);
    }

    function test_replay_of_rotations_A_to_B_and_B_to_A() public {
        enrol(fleet, operator, device, FOREVER);
        ISigned.Signature memory there = rotation(b, device.addr, device.addr, b.addr);
        ISigned.Signature memory back = rotation(device, device.addr, b.addr, device.addr);
        as_(device);
        registry.rotate(device.addr, b.addr, SOON, there);
        refused(b, IDevices.KeyTaken.selector);
        registry.rotate(device.addr, device.addr, SOON, back);
        refused(device, IDevices.NotKey.selector);
        registry.rotate(device.addr, b.addr, SOON, there);
    }

    function test_rotateBySig() public {
        enrol(fleet, operator, device, FOREVER);
        ISigned.Signature memory yes = rotation(b, device.addr, device.addr, b.addr);
        ISigned.Signature memory mine = rotation(device, device.addr, device.addr, b.addr);
        ISigned.Signature memory operators = rotation(operator, device.addr, device.addr, b.addr);
        refused(stranger, ISigned.BadSignature.selector);
        registry.rotateBySig(device.addr, b.addr, SOON, yes, operators);
        refused(stranger, ISigned.BadSignature.selector);
        registry.rotateBySig(device.addr, b.addr, SOON, mine, mine);
        as_(stranger);
        registry.rotateBySig(device.addr, b.addr, SOON, yes, mine);
        vm.assertEq(deviceOf(device.addr).key, b.addr);
        refused(stranger, ISigned.BadSignature.selector);
        registry.rotateBySig(device.addr, b.addr, SOON, yes, mine);
        refused(stranger, ISigned.BadSignature.selector);
        registry.rotateBySig(stranger.addr, b.addr, SOON, yes, ISigned.Signature(0, 0, 27));
    }

    function test_re_enrolment_after_revocation() public {
        enrol(fleet, operator, device, FOREVER);
        as_(operator);
        registry.revoke(device.addr);
        uint48 other = createFleet(stranger, 0);
        ISigned.Signature memory yes = consent(device, device.addr, other, stranger.addr, FOREVER);
        refused(stranger, IDevices.AlreadyEnrolled.selector);
        registry.enrol(other, device.addr, FOREVER, SOON, yes);
    }

    function test_consent_for_another_deployment_or_chain_is_no_consent() public {
        ISigned.Signature memory yes = consent(device, device.addr, fleet, operator.addr, FOREVER);
        (registry,) = deploy(address(0));
        createFleet(operator, 0);
        refused(operator, ISigned.BadSignature.selector);
        registry.enrol(fleet, device.addr, FOREVER, SOON, yes);
        yes = consent(device, device.addr, fleet, operator.addr, FOREVER);
        vm.chainId(1);
        refused(operator, ISigned.BadSignature.selector);
        registry.enrol(fleet, device.addr, FOREVER, SOON, yes);
    }

    // ---- successors -------------------------------------------------------------------------------------------

    function succeed() internal {
        (registry,) = deploy(address(registry));
        fleet = createFleet(operator, 0);
    }

    function test_successor_a_thief_with_a_leaked_first_key_gets_nothing() public {
        enrol(fleet, operator, device, FOREVER);
        rotate(device, device, b);
        succeed();
        // The first key can't bring the device along, the current one can.
        ISigned.Signature memory thief = consent(device, device.addr, fleet, operator.addr, FOREVER);
        refused(operator, ISigned.BadSignature.selector);
        registry.enrol(fleet, device.addr, FOREVER, SOON, thief);
        ISigned.Signature memory yes = consent(b, device.addr, fleet, operator.addr, FOREVER);
        as_(operator);
        registry.enrol(fleet, device.addr, FOREVER, SOON, yes);
        vm.assertEq(deviceOf(device.addr).key, b.addr);
        vm.assertEq(keyUseOf(b.addr).device, device.addr);
    }

    function test_successor_a_thief_cannot_rotate_onto_an_id_not_yet_carried_over() public {
        enrol(fleet, operator, device, FOREVER);
        rotate(device, device, b);
        succeed();
        enrol(fleet, operator, c, FOREVER);
        bytes4 taken = IDevices.KeyTaken.selector;
        ISigned.Signature memory leaked = rotation(device, c.addr, c.addr, device.addr);
        refused(c, taken);
        registry.rotate(c.addr, device.addr, SOON, leaked);
        leaked = rotation(b, c.addr, c.addr, b.addr);
        refused(c, taken);
        registry.rotate(c.addr, b.addr, SOON, leaked);
    }

    function test_successor_a_key_of_the_predecessor_is_no_new_id() public {
        enrol(fleet, operator, device, FOREVER);
        rotate(device, device, b);
        succeed();
        ISigned.Signature memory yes = consent(b, b.addr, fleet, operator.addr, FOREVER);
        refused(operator, IDevices.KeyTaken.selector);
        registry.enrol(fleet, b.addr, FOREVER, SOON, yes);
    }

    function test_successor_the_revoked_and_revoking_stay_out_for_all_generations() public {
        enrol(fleet, operator, device, FOREVER);
        uint48 slow = createFleet(operator, Layout.SLOW_REVOKE);
        enrol(slow, operator, c, FOREVER);
        as_(operator);
        registry.revoke(device.addr);
        as_(operator);
        registry.revoke(c.addr);
        for (uint256 generation = 0; generation < 3; ++generation) {
            succeed();
            ISigned.Signature memory yes = consent(device, device.addr, fleet, operator.addr, FOREVER);
            refused(operator, IDevices.RevokedBefore.selector);
            registry.enrol(fleet, device.addr, FOREVER, SOON, yes);
            yes = consent(c, c.addr, fleet, operator.addr, FOREVER);
            refused(operator, IDevices.RevokedBefore.selector);
            registry.enrol(fleet, c.addr, FOREVER, SOON, yes);
        }
    }

    function test_successor_a_device_skips_a_generation() public {
        enrol(fleet, operator, device, FOREVER);
        rotate(device, device, b);
        succeed();
        succeed();
        ISigned.Signature memory thief = consent(device, device.addr, fleet, operator.addr, FOREVER);
        refused(operator, ISigned.BadSignature.selector);
        registry.enrol(fleet, device.addr, FOREVER, SOON, thief);
        ISigned.Signature memory yes = consent(b, device.addr, fleet, operator.addr, FOREVER);
        as_(operator);
        registry.enrol(fleet, device.addr, FOREVER, SOON, yes);
        vm.assertEq(deviceOf(device.addr).key, b.addr);
    }

    function test_successor_of_a_registry_with_one_key_for_two_devices() public {
        OtherRegistry other = new OtherRegistry();
        other.set(Layout.DEVICE, device.addr, Layout.pack(Layout.Device(b.addr, 1, FOREVER, Layout.ACTIVE)));
        other.set(Layout.DEVICE, c.addr, Layout.pack(Layout.Device(b.addr, 1, FOREVER, Layout.ACTIVE)));
        other.set(Layout.KEY_OF, b.addr, Layout.pack(Layout.KeyUse(device.addr, START)));
        (registry,) = deploy(address(other));
        fleet = createFleet(operator, 0);
        ISigned.Signature memory yes = consent(b, device.addr, fleet, operator.addr, FOREVER);
        as_(operator);
        registry.enrol(fleet, device.addr, FOREVER, SOON, yes);
        yes = consent(b, c.addr, fleet, operator.addr, FOREVER);
        refused(operator, IDevices.KeyTaken.selector);
        registry.enrol(fleet, c.addr, FOREVER, SOON, yes);
    }

    function test_successor_the_unknown_and_the_suspended_enrol_as_usual() public {
        enrol(fleet, operator, device, FOREVER);
        as_(operator);
        registry.suspend(device.addr);
        succeed();
        enrol(fleet, operator, device, FOREVER);
        enrol(fleet, operator, c, FOREVER);
        vm.assertEq(deviceOf(device.addr).key, device.addr);
        vm.assertEq(registry.get(Layout.KEY_OF, device.addr.toKey()), bytes32(0));
    }
}

/// A predecessor that doesn't keep our rules.
contract OtherRegistry {
    mapping(uint8 kind => mapping(bytes32 key => bytes32)) public get;
    address public constant predecessor = address(0);

    function set(uint8 kind, address key, bytes32 record) external {
        get[kind][bytes32(uint256(uint160(key)))] = record;
    }
}
