// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IFleets} from "../src/interfaces/IRegistry.sol";
import {ISigned} from "../src/interfaces/ISigned.sol";
import {Layout} from "../src/lib/Layout.sol";
import {Signed} from "./Signed.sol";

/// @notice Fleets and who operates them.
contract FleetsTest is Signed {
    using Layout for bytes32;
    using Layout for uint48;

    uint48 internal fleet;
    Person internal next = person("next operator");

    function setUp() public override {
        super.setUp();
        fleet = createFleet(operator, 0);
    }

    function test_fleets_are_numbered_from_one_without_gaps() public {
        vm.assertEq(uint256(fleet), 1);
        vm.assertEq(uint256(createFleet(stranger, Layout.SLOW_REVOKE)), 2);
        vm.assertEq(registry.get(Layout.FLEET_COUNT, 0), bytes32(uint256(2)));
        Layout.Fleet memory f = fleetOf(2);
        vm.assertEq(f.operator, stranger.addr);
        vm.assertEq(uint256(f.policyEpoch), 1);
        vm.assertEq(uint256(f.nonce), 0);
        vm.assertEq(uint256(f.flags), Layout.SLOW_REVOKE);
    }

    function test_unknown_flags_are_refused(uint16 flags) public {
        vm.assume(flags > Layout.SLOW_REVOKE);
        refused(operator, IFleets.UnknownFlags.selector);
        registry.createFleet(flags);
    }

    function test_only_the_operator_bumps_the_epoch() public {
        refused(stranger, IFleets.NotOperator.selector);
        registry.bumpPolicyEpoch(fleet);
        as_(operator);
        registry.bumpPolicyEpoch(fleet);
        vm.assertEq(uint256(fleetOf(fleet).policyEpoch), 2);
    }

    function test_a_fleet_that_does_not_exist_has_no_operator() public {
        refused(operator, IFleets.NotOperator.selector);
        registry.bumpPolicyEpoch(99);
        refused(Person(address(0), 0), IFleets.NotPendingOperator.selector);
        registry.acceptOperatorBySig(99, SOON, ISigned.Signature(0, 0, 27));
    }

    function test_a_transfer_takes_two_steps() public {
        refused(stranger, IFleets.NotOperator.selector);
        registry.proposeOperator(fleet, next.addr);
        refused(operator, IFleets.ZeroAddress.selector);
        registry.proposeOperator(fleet, address(0));

        as_(operator);
        registry.proposeOperator(fleet, next.addr);
        vm.assertEq(fleetOf(fleet).operator, operator.addr);
        refused(operator, IFleets.NotPendingOperator.selector);
        registry.acceptOperator(fleet);
        refused(stranger, IFleets.NotPendingOperator.selector);
        registry.acceptOperator(fleet);

        as_(next);
        registry.acceptOperator(fleet);
        vm.assertEq(fleetOf(fleet).operator, next.addr);
        vm.assertEq(registry.get(Layout.PENDING_OPERATOR, fleet.toKey()), bytes32(0));
        refused(operator, IFleets.NotOperator.selector);
        registry.bumpPolicyEpoch(fleet);
        refused(next, IFleets.NotPendingOperator.selector);
        registry.acceptOperator(fleet);
    }

    function test_only_the_operator_cancels_a_transfer() public {
        refused(operator, IFleets.NotPendingOperator.selector);
        registry.cancelOperator(fleet);
        as_(operator);
        registry.proposeOperator(fleet, next.addr);
        refused(next, IFleets.NotOperator.selector);
        registry.cancelOperator(fleet);
        as_(operator);
        registry.cancelOperator(fleet);
        refused(next, IFleets.NotPendingOperator.selector);
        registry.acceptOperator(fleet);
    }

    function test_slow_revoke_stolen_operator_key_cannot_take_the_fleet() public {
        uint48 slow = createFleet(operator, Layout.SLOW_REVOKE);
        as_(operator); // the thief, with the operator's key
        registry.proposeOperator(slow, stranger.addr);
        vm.warp(START + 48 hours - 1);
        refused(stranger, IFleets.TooEarly.selector);
        registry.acceptOperator(slow);
        as_(operator); // the owner notices
        registry.cancelOperator(slow);
        vm.warp(START + 48 hours);
        refused(stranger, IFleets.NotPendingOperator.selector);
        registry.acceptOperator(slow);
    }

    function test_slow_revoke_transfer_works_after_48_hours() public {
        uint48 slow = createFleet(operator, Layout.SLOW_REVOKE);
        as_(operator);
        registry.proposeOperator(slow, next.addr);
        vm.warp(START + 48 hours);
        as_(next);
        registry.acceptOperator(slow);
        vm.assertEq(fleetOf(slow).operator, next.addr);
        vm.assertEq(uint256(fleetOf(slow).flags), Layout.SLOW_REVOKE);
    }

    function test_a_new_proposal_starts_the_48_hours_again() public {
        uint48 slow = createFleet(operator, Layout.SLOW_REVOKE);
        as_(operator);
        registry.proposeOperator(slow, next.addr);
        vm.warp(START + 47 hours);
        as_(operator);
        registry.proposeOperator(slow, stranger.addr);
        vm.warp(START + 48 hours);
        refused(next, IFleets.NotPendingOperator.selector);
        registry.acceptOperator(slow);
        refused(stranger, IFleets.TooEarly.selector);
        registry.acceptOperator(slow);
    }

    function test_bumpPolicyEpochBySig() public {
        string memory typed = "BumpPolicyEpoch(uint48 fleet,uint40 nonce,uint40 deadline)";
        bytes4 call = IFleets.bumpPolicyEpochBySig.selector;
        assertOnlyBy(operator, forRegistry(typed, abi.encode(fleet), call, fleet), ISigned.BadSignature.selector);
        vm.assertEq(uint256(fleetOf(fleet).policyEpoch), 2);
        vm.assertEq(uint256(nonceOf(fleet)), 1);
    }

    function test_proposeOperatorBySig() public {
        string memory typed = "ProposeOperator(uint48 fleet,address operator,uint40 nonce,uint40 deadline)";
        bytes memory words = abi.encode(fleet, next.addr);
        bytes4 call = IFleets.proposeOperatorBySig.selector;
        assertOnlyBy(operator, forRegistry(typed, words, call, fleet), ISigned.BadSignature.selector);
        vm.assertEq(registry.get(Layout.PENDING_OPERATOR, fleet.toKey()).toPendingOperator().operator, next.addr);
    }

    function test_cancelOperatorBySig() public {
        as_(operator);
        registry.proposeOperator(fleet, next.addr);
        string memory typed = "CancelOperator(uint48 fleet,uint40 nonce,uint40 deadline)";
        bytes4 call = IFleets.cancelOperatorBySig.selector;
        assertOnlyBy(operator, forRegistry(typed, abi.encode(fleet), call, fleet), ISigned.BadSignature.selector);
        vm.assertEq(registry.get(Layout.PENDING_OPERATOR, fleet.toKey()), bytes32(0));
    }

    function test_acceptOperatorBySig() public {
        as_(operator);
        registry.proposeOperator(fleet, next.addr);
        string memory typed = "AcceptOperator(uint48 fleet,uint40 nonce,uint40 deadline)";
        bytes4 call = IFleets.acceptOperatorBySig.selector;
        assertOnlyBy(next, forRegistry(typed, abi.encode(fleet), call, fleet), IFleets.NotPendingOperator.selector);
        vm.assertEq(fleetOf(fleet).operator, next.addr);
    }

    function test_replay_after_the_fleet_went_away_and_came_back() public {
        string memory typed = "BumpPolicyEpoch(uint48 fleet,uint40 nonce,uint40 deadline)";
        Statement memory old = forRegistry(typed, abi.encode(fleet), IFleets.bumpPolicyEpochBySig.selector, fleet);
        ISigned.Signature memory unsent = signatureOf(operator, old, SOON, address(registry));
        handOver(operator, next);
        handOver(next, operator);
        assertRefused(old, SOON, unsent, ISigned.BadSignature.selector);
    }

    function handOver(Person memory from, Person memory to) internal {
        as_(from);
        registry.proposeOperator(fleet, to.addr);
        as_(to);
        registry.acceptOperator(fleet);
    }
}
