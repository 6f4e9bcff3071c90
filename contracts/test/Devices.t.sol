// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IDevices, IFleets} from "../src/interfaces/IRegistry.sol";
import {ISigned} from "../src/interfaces/ISigned.sol";
import {Layout} from "../src/lib/Layout.sol";
import {Signed} from "./Signed.sol";

/// @notice The validity of enrolled devices: who may suspend, resume, extend and revoke, in which state.
contract DevicesTest is Signed {
    uint40 internal constant YEAR = START + 365 days;

    uint48 internal fleet;
    uint48 internal slow;
    Person internal slowDevice = person("slow device");

    function setUp() public override {
        super.setUp();
        fleet = fleetWithDevice(0);
        slow = createFleet(operator, Layout.SLOW_REVOKE);
        enrol(slow, operator, slowDevice, YEAR);
    }

    // ---- suspend, resume, extend ------------------------------------------------------------------------------

    function test_only_the_operator_suspends_and_resumes() public {
        refused(stranger, IFleets.NotOperator.selector);
        registry.suspend(device.addr);
        refused(device, IFleets.NotOperator.selector);
        registry.suspend(device.addr);
        as_(operator);
        registry.suspend(device.addr);
        assertStatus(device.addr, Layout.SUSPENDED);
        refused(operator, IDevices.NotActive.selector);
        registry.suspend(device.addr);

        refused(stranger, IFleets.NotOperator.selector);
        registry.resume(device.addr);
        refused(device, IFleets.NotOperator.selector);
        registry.resume(device.addr);
        as_(operator);
        registry.resume(device.addr);
        assertStatus(device.addr, Layout.ACTIVE);
        refused(operator, IDevices.NotSuspended.selector);
        registry.resume(device.addr);
    }

    function test_extend_only_raises_and_only_by_the_operator() public {
        refused(stranger, IFleets.NotOperator.selector);
        registry.extend(device.addr, YEAR + 1);
        refused(device, IFleets.NotOperator.selector);
        registry.extend(device.addr, YEAR + 1);
        refused(operator, IDevices.NotLater.selector);
        registry.extend(device.addr, YEAR);
        as_(operator);
        registry.extend(device.addr, YEAR + 1);
        vm.assertEq(uint256(deviceOf(device.addr).validUntil), YEAR + 1);
    }

    function test_an_expired_device_can_be_extended_into_the_future_only() public {
        vm.warp(YEAR + 10);
        refused(operator, IFleets.AlreadyExpired.selector);
        registry.extend(device.addr, YEAR + 10);
        as_(operator);
        registry.extend(device.addr, YEAR + 11);
    }

    function test_nothing_can_be_done_to_who_is_not_enrolled() public {
        bytes4 rule = IDevices.NotEnrolled.selector;
        refused(operator, rule);
        registry.suspend(stranger.addr);
        refused(operator, rule);
        registry.resume(stranger.addr);
        refused(operator, rule);
        registry.extend(stranger.addr, YEAR);
        refused(operator, rule);
        registry.revoke(stranger.addr);
        refused(operator, rule);
        registry.cancelRevoke(stranger.addr, YEAR);
        refused(Person(address(0), 0), rule);
        registry.revoke(stranger.addr);
    }

    // ---- revocation -------------------------------------------------------------------------------------------

    function test_the_operator_revokes_at_once() public {
        refused(stranger, IDevices.NotOperatorOrKey.selector);
        registry.revoke(device.addr);
        as_(operator);
        registry.revoke(device.addr);
        assertTombstone(device.addr, START);
    }

    function test_the_current_key_revokes_at_once_and_a_retired_one_does_not() public {
        Person memory next = person("next");
        rotate(device, device, next);
        refused(device, IDevices.NotOperatorOrKey.selector);
        registry.revoke(device.addr);
        as_(next);
        registry.revoke(device.addr);
        assertTombstone(device.addr, START);
    }

    function test_a_suspended_and_an_expired_device_can_be_revoked() public {
        as_(operator);
        registry.suspend(device.addr);
        vm.warp(YEAR + 1);
        as_(operator);
        registry.revoke(device.addr);
        assertTombstone(device.addr, YEAR + 1);
    }

    /// A tombstone is for ever: every act is refused by name.
    function assertTombstone(address id, uint40 since) internal {
        Layout.Device memory d = deviceOf(id);
        vm.assertEq(uint256(d.status), Layout.REVOKED);
        vm.assertEq(uint256(d.validUntil), since);
        refused(operator, IDevices.NotActive.selector);
        registry.suspend(id);
        refused(operator, IDevices.NotSuspended.selector);
        registry.resume(id);
        refused(operator, IDevices.DeviceRevoked.selector);
        registry.extend(id, FOREVER);
        refused(operator, IDevices.DeviceRevoked.selector);
        registry.revoke(id);
        refused(operator, IDevices.NotRevoking.selector);
        registry.cancelRevoke(id, FOREVER);
        refused(operator, IDevices.AlreadyEnrolled.selector);
        registry.enrol(fleet, id, FOREVER, FOREVER, ISigned.Signature(0, 0, 27));
        refused(Person(d.key, 0), IDevices.NotActive.selector);
        registry.rotate(id, stranger.addr, FOREVER, ISigned.Signature(0, 0, 27));
        refused(Person(d.key, 0), IDevices.DeviceRevoked.selector);
        registry.revoke(id);
    }

    // ---- slowRevoke -------------------------------------------------------------------------------------------

    function test_slow_revoke_a_stolen_operator_key_cannot_burn_a_device() public {
        as_(operator); // the thief
        registry.revoke(slowDevice.addr);
        Layout.Device memory d = deviceOf(slowDevice.addr);
        vm.assertEq(uint256(d.status), Layout.REVOKING);
        vm.assertEq(uint256(d.validUntil), START + 48 hours);
        vm.warp(START + 48 hours - 1);
        refused(stranger, IFleets.NotOperator.selector);
        registry.cancelRevoke(slowDevice.addr, YEAR);
        as_(operator); // the owner
        registry.cancelRevoke(slowDevice.addr, YEAR);
        assertStatus(slowDevice.addr, Layout.SUSPENDED);
        vm.assertEq(uint256(deviceOf(slowDevice.addr).validUntil), YEAR);
        as_(operator);
        registry.resume(slowDevice.addr);
    }

    function test_slow_revoke_becomes_a_tombstone_without_a_second_transaction() public {
        as_(operator);
        registry.revoke(slowDevice.addr);
        vm.warp(START + 48 hours);
        refused(operator, IDevices.NotRevoking.selector);
        registry.cancelRevoke(slowDevice.addr, YEAR);
        refused(operator, IDevices.AlreadyRevoking.selector);
        registry.extend(slowDevice.addr, YEAR);
        refused(operator, IDevices.AlreadyRevoking.selector);
        registry.revoke(slowDevice.addr);
        refused(slowDevice, IDevices.DeviceRevoked.selector);
        registry.revoke(slowDevice.addr);
        refused(operator, IDevices.AlreadyEnrolled.selector);
        registry.enrol(slow, slowDevice.addr, YEAR, FOREVER, ISigned.Signature(0, 0, 27));
    }

    function test_slow_revoke_revoking_reads_as_suspended() public {
        as_(operator);
        registry.revoke(slowDevice.addr);
        refused(operator, IDevices.NotActive.selector);
        registry.suspend(slowDevice.addr);
        refused(operator, IDevices.NotSuspended.selector);
        registry.resume(slowDevice.addr);
        refused(operator, IDevices.AlreadyRevoking.selector);
        registry.extend(slowDevice.addr, FOREVER);
        refused(operator, IDevices.AlreadyRevoking.selector);
        registry.revoke(slowDevice.addr);
        refused(slowDevice, IDevices.NotActive.selector);
        registry.rotate(slowDevice.addr, stranger.addr, FOREVER, ISigned.Signature(0, 0, 27));
        refused(operator, IFleets.AlreadyExpired.selector);
        registry.cancelRevoke(slowDevice.addr, START);
    }

    function test_slow_revoke_the_key_itself_revokes_at_once() public {
        as_(operator);
        registry.revoke(slowDevice.addr);
        vm.warp(START + 1);
        as_(slowDevice);
        registry.revoke(slowDevice.addr);
        assertTombstone(slowDevice.addr, START + 1);
    }

    function test_cancelRevoke_needs_a_revocation() public {
        refused(operator, IDevices.NotRevoking.selector);
        registry.cancelRevoke(slowDevice.addr, FOREVER);
    }

    // ---- signed -----------------------------------------------------------------------------------------------

    function byOperator(string memory typed, bytes memory words, bytes4 call, uint48 number) internal {
        assertOnlyBy(operator, forRegistry(typed, words, call, number), ISigned.BadSignature.selector);
        vm.assertEq(uint256(nonceOf(number)), 1);
    }

    function test_suspendBySig() public {
        string memory typed = "Suspend(address device,uint40 nonce,uint40 deadline)";
        byOperator(typed, abi.encode(device.addr), IDevices.suspendBySig.selector, fleet);
        assertStatus(device.addr, Layout.SUSPENDED);
    }

    function test_resumeBySig() public {
        as_(operator);
        registry.suspend(device.addr);
        string memory typed = "Resume(address device,uint40 nonce,uint40 deadline)";
        byOperator(typed, abi.encode(device.addr), IDevices.resumeBySig.selector, fleet);
        assertStatus(device.addr, Layout.ACTIVE);
    }

    function test_extendBySig() public {
        string memory typed = "Extend(address device,uint40 validUntil,uint40 nonce,uint40 deadline)";
        byOperator(typed, abi.encode(device.addr, YEAR + 5), IDevices.extendBySig.selector, fleet);
        vm.assertEq(uint256(deviceOf(device.addr).validUntil), YEAR + 5);
    }

    function test_revokeBySig() public {
        string memory typed = "Revoke(address device,uint40 nonce,uint40 deadline)";
        byOperator(typed, abi.encode(device.addr), IDevices.revokeBySig.selector, fleet);
        assertTombstone(device.addr, START);
    }

    function test_revokeBySig_is_slow_too() public {
        string memory typed = "Revoke(address device,uint40 nonce,uint40 deadline)";
        byOperator(typed, abi.encode(slowDevice.addr), IDevices.revokeBySig.selector, slow);
        assertStatus(slowDevice.addr, Layout.REVOKING);
    }

    function test_cancelRevokeBySig() public {
        as_(operator);
        registry.revoke(slowDevice.addr);
        string memory typed = "CancelRevoke(address device,uint40 validUntil,uint40 nonce,uint40 deadline)";
        byOperator(typed, abi.encode(slowDevice.addr, YEAR), IDevices.cancelRevokeBySig.selector, slow);
        assertStatus(slowDevice.addr, Layout.SUSPENDED);
    }

    function test_revokeOwnBySig() public {
        bytes memory words = abi.encode(slowDevice.addr);
        Statement memory s = Statement(
            address(registry),
            "Registry",
            "RevokeOwn(address device,uint40 deadline)",
            words,
            IDevices.revokeOwnBySig.selector,
            words,
            ""
        );
        assertOnlyBy(slowDevice, s, IDevices.DeviceRevoked.selector);
        assertTombstone(slowDevice.addr, START);
    }
}
