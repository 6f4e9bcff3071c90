// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IFleets, IGrants} from "../src/interfaces/IRegistry.sol";
import {ISigned} from "../src/interfaces/ISigned.sol";
import {Layout} from "../src/lib/Layout.sol";
import {Signed} from "./Signed.sol";

/// @notice Grants: written by the fleet's operator alone, into slots that only this fleet can have.
contract GrantsTest is Signed {
    bytes32 internal constant H = keccak256("h");

    uint48 internal fleet;
    uint48 internal foreign;

    function setUp() public override {
        super.setUp();
        fleet = createFleet(operator, 0);
        foreign = createFleet(stranger, 0);
    }

    function grantOf(uint48 number, bytes32 h) internal view returns (bytes32) {
        return registry.get(Layout.GRANT, keccak256(abi.encode(number, h)));
    }

    function packed(uint48 number, uint40 epoch, uint40 expiry, uint8 rights) internal pure returns (bytes32) {
        return Layout.pack(Layout.Grant(expiry, epoch, number, rights));
    }

    function test_the_operator_grants_and_revokes() public {
        as_(operator);
        registry.grant(fleet, H, FOREVER, 1);
        vm.assertEq(grantOf(fleet, H), packed(fleet, 1, FOREVER, 1));
        refused(stranger, IFleets.NotOperator.selector);
        registry.revokeGrant(fleet, H);
        as_(operator);
        registry.revokeGrant(fleet, H);
        vm.assertEq(grantOf(fleet, H), bytes32(0));
        refused(operator, IGrants.NoSuchGrant.selector);
        registry.revokeGrant(fleet, H);
    }

    function test_a_foreign_operator_neither_writes_nor_blocks_a_grant() public {
        refused(stranger, IFleets.NotOperator.selector);
        registry.grant(fleet, H, FOREVER, 1);
        as_(stranger);
        registry.grant(foreign, H, FOREVER, 1);
        vm.assertEq(grantOf(fleet, H), bytes32(0));
        as_(operator);
        registry.grant(fleet, H, FOREVER, 1);
        as_(stranger);
        registry.revokeGrant(foreign, H);
        vm.assertEq(grantOf(fleet, H), packed(fleet, 1, FOREVER, 1));
    }

    function test_a_grant_gives_something_for_some_time() public {
        refused(operator, IGrants.ZeroRights.selector);
        registry.grant(fleet, H, FOREVER, 0);
        refused(operator, IFleets.AlreadyExpired.selector);
        registry.grant(fleet, H, START, 1);
        as_(operator);
        registry.grant(fleet, H, START + 1, 1);
    }

    function test_a_grant_carries_the_epoch_it_was_written_in() public {
        as_(operator);
        registry.bumpPolicyEpoch(fleet);
        as_(operator);
        registry.grant(fleet, H, FOREVER, 3);
        vm.assertEq(grantOf(fleet, H), packed(fleet, 2, FOREVER, 3));
    }

    function test_a_batch_is_all_or_nothing() public {
        IGrants.GrantTerms[] memory batch = new IGrants.GrantTerms[](2);
        batch[0] = IGrants.GrantTerms(H, FOREVER, 1);
        batch[1] = IGrants.GrantTerms(keccak256("h2"), START, 1);
        refused(operator, IFleets.AlreadyExpired.selector);
        registry.grantBatch(fleet, batch);
        vm.assertEq(grantOf(fleet, H), bytes32(0));
        batch[1].expiry = SOON;
        refused(stranger, IFleets.NotOperator.selector);
        registry.grantBatch(fleet, batch);
        as_(operator);
        registry.grantBatch(fleet, batch);
        vm.assertEq(grantOf(fleet, H), packed(fleet, 1, FOREVER, 1));
        vm.assertEq(grantOf(fleet, keccak256("h2")), packed(fleet, 1, SOON, 1));
    }

    /// Kinds are hashed with the parties: the same numbers under another kind are another slot.
    function testFuzz_a_grant_of_one_kind_is_never_read_as_another(
        uint8[2] memory targetKind,
        uint8[2] memory granteeKind,
        uint256 target,
        uint256 grantee,
        uint32[2] memory service
    ) public {
        vm.assume(
            targetKind[0] != targetKind[1] || granteeKind[0] != granteeKind[1] || service[0] != service[1]
        );
        bytes32 given = keccak256(abi.encode(targetKind[0], target, granteeKind[0], grantee, service[0]));
        bytes32 other = keccak256(abi.encode(targetKind[1], target, granteeKind[1], grantee, service[1]));
        as_(operator);
        registry.grant(fleet, given, FOREVER, 1);
        vm.assertEq(grantOf(fleet, other), bytes32(0));
    }

    function test_grantBySig() public {
        string memory typed =
            "Grant(uint48 fleet,bytes32 h,uint40 expiry,uint8 rights,uint40 nonce,uint40 deadline)";
        bytes memory words = abi.encode(fleet, H, FOREVER, uint8(1));
        bytes4 call = IGrants.grantBySig.selector;
        assertOnlyBy(operator, forRegistry(typed, words, call, fleet), ISigned.BadSignature.selector);
        vm.assertEq(grantOf(fleet, H), packed(fleet, 1, FOREVER, 1));
        vm.assertEq(uint256(nonceOf(fleet)), 1);
    }

    function test_revokeGrantBySig() public {
        as_(operator);
        registry.grant(fleet, H, FOREVER, 1);
        string memory typed = "RevokeGrant(uint48 fleet,bytes32 h,uint40 nonce,uint40 deadline)";
        bytes4 call = IGrants.revokeGrantBySig.selector;
        assertOnlyBy(operator, forRegistry(typed, abi.encode(fleet, H), call, fleet), ISigned.BadSignature.selector);
        vm.assertEq(grantOf(fleet, H), bytes32(0));
    }
}
