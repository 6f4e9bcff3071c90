// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {INodeStaking} from "../src/interfaces/INodeStaking.sol";
import {ISettlement} from "../src/interfaces/ISettlement.sol";
import {ISigned} from "../src/interfaces/ISigned.sol";
import {SettlementBase} from "./Settlement.t.sol";

/// @notice Pitfalls that every place with a signature shares, tried in every such place that isn't a `…BySig` (those are in
/// `Signed`): a malleable or zero signature, a stale deadline, another chain, another deployment. And money that leaves
/// before the node asked for it.
contract PitfallsTest is SettlementBase {
    /// The order of secp256k1.
    uint256 private constant N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
    bytes32 private constant A = keccak256("a");
    bytes32 private constant B = keccak256("b");

    /// Where a signature is given.
    enum Place {
        EnrolConsent,
        EnrolOperator,
        RotateConsent,
        RotateKey,
        NodeConsent,
        FirstHead,
        SecondHead,
        FalseHead,
        Ticket,
        Voucher
    }

    Person internal next = person("next");

    function setUp() public override {
        super.setUp();
        open();
        vm.warp(START + 1);
        vm.deal(owner.addr, 1000 ether);
    }

    /// The signature that is right in this place, before it is spoiled.
    function good(Place place) internal view returns (ISigned.Signature memory) {
        if (place == Place.EnrolConsent) return consent(next, next.addr, fleet, operator.addr, FOREVER);
        if (place == Place.EnrolOperator) return consent(operator, next.addr, fleet, operator.addr, FOREVER);
        if (place == Place.RotateConsent) return rotation(next, device.addr, device.addr, next.addr);
        if (place == Place.RotateKey) return rotation(device, device.addr, device.addr, next.addr);
        if (place == Place.NodeConsent) return nodeConsent(next, owner.addr);
        if (place == Place.FirstHead) return signHead(node, head(5, A));
        if (place == Place.SecondHead) return signHead(node, head(5, B));
        if (place == Place.FalseHead) return signHead(node, future());
        if (place == Place.Ticket) return ticket(device, device.addr, GIB).signature;
        return voucher(operator, 1);
    }

    function future() internal view returns (INodeStaking.Head memory) {
        return head(uint64(block.number) + 1, A);
    }

    /// Gives `s` in this place of a call that is otherwise right; answers whether it was taken, and what was said if not.
    function give(Place place, ISigned.Signature memory s) internal returns (bool done, bytes4 rule) {
        (address from, address to, uint256 value, bytes memory data) = callWith(place, s);
        bytes memory why;
        vm.prank(from);
        (done, why) = to.call{value: value}(data);
        if (!done) rule = bytes4(why);
    }

    function callWith(Place place, ISigned.Signature memory s)
        internal
        view
        returns (address from, address to, uint256 value, bytes memory data)
    {
        (from, to) = (stranger.addr, address(registry));
        if (place == Place.EnrolConsent) {
            from = operator.addr;
            data = abi.encodeCall(registry.enrol, (fleet, next.addr, FOREVER, SOON, s));
        } else if (place == Place.EnrolOperator) {
            ISigned.Signature memory yes = good(Place.EnrolConsent);
            data = abi.encodeCall(registry.enrolBySig, (fleet, next.addr, FOREVER, SOON, yes, s));
        } else if (place == Place.RotateConsent) {
            from = device.addr;
            data = abi.encodeCall(registry.rotate, (device.addr, next.addr, SOON, s));
        } else if (place == Place.RotateKey) {
            ISigned.Signature memory yes = good(Place.RotateConsent);
            data = abi.encodeCall(registry.rotateBySig, (device.addr, next.addr, SOON, yes, s));
        } else if (place == Place.Ticket || place == Place.Voucher) {
            to = address(settlement);
            data = payment(place, s);
        } else {
            to = address(staking);
            if (place == Place.NodeConsent) (from, value) = (owner.addr, STAKE);
            data = staked(place, s);
        }
    }

    function staked(Place place, ISigned.Signature memory s) internal view returns (bytes memory) {
        if (place == Place.NodeConsent) return abi.encodeCall(staking.register, (next.addr, FOREVER, s));
        if (place == Place.FalseHead) return abi.encodeCall(staking.reportFalseHead, (node.addr, future(), s));
        bool isFirst = place == Place.FirstHead;
        ISigned.Signature memory one = isFirst ? s : signHead(node, head(5, A));
        ISigned.Signature memory other = isFirst ? signHead(node, head(5, B)) : s;
        return abi.encodeCall(staking.reportTwoHeads, (node.addr, head(5, A), one, head(5, B), other));
    }

    function payment(Place place, ISigned.Signature memory s) internal view returns (bytes memory) {
        if (place == Place.Voucher) return abi.encodeCall(settlement.redeem, (fleet, node.addr, 1, s));
        ISettlement.Ticket[] memory one = new ISettlement.Ticket[](1);
        one[0] = ticket(device, device.addr, GIB);
        one[0].signature = s;
        return abi.encodeCall(settlement.settle, (fleet, node.addr, one));
    }

    function assertRefused(Place place, ISigned.Signature memory s) internal {
        (bool done, bytes4 rule) = give(place, s);
        vm.assertFalse(done);
        bytes4 expected = place == Place.Ticket ? ISettlement.BadTicket.selector : ISigned.BadSignature.selector;
        vm.assertEq(bytes32(rule), bytes32(expected), vm.toString(uint256(place)));
    }

    /// The right one is taken in every place, each from the same start: without this the refusals would prove nothing.
    function test_the_right_signature_is_taken_in_every_place() public {
        for (uint256 i = 0; i <= uint256(type(Place).max); ++i) {
            uint256 start = vm.snapshotState();
            (bool done,) = give(Place(i), good(Place(i)));
            vm.assertTrue(done, vm.toString(i));
            vm.assertTrue(vm.revertToState(start));
        }
    }

    function test_malleable_and_zero_signatures_are_refused_in_every_place() public {
        for (uint256 i = 0; i <= uint256(type(Place).max); ++i) {
            Place place = Place(i);
            ISigned.Signature memory s = good(place);
            assertRefused(place, ISigned.Signature(s.r, bytes32(N - uint256(s.s)), 55 - s.v));
            assertRefused(place, ISigned.Signature(s.r, s.s, s.v - 27));
            assertRefused(place, ISigned.Signature(s.r, s.s, 55 - s.v));
            assertRefused(place, ISigned.Signature(0, 0, 27));
            assertRefused(place, ISigned.Signature(0, 0, 0));
            assertRefused(place, ISigned.Signature(bytes32(N), s.s, s.v));
            assertRefused(place, ISigned.Signature(s.r, 0, s.v));
        }
    }

    /// Zero recovers to the zero address, which must be nobody: no device, no key, no operator, no node.
    function test_zero_signatures_speak_for_no_absent_party() public {
        ISigned.Signature memory zero = ISigned.Signature(0, 0, 27);
        bytes4 bad = ISigned.BadSignature.selector;
        refused(operator, bad);
        registry.enrol(fleet, address(0), FOREVER, SOON, zero);
        refused(device, bad);
        registry.rotate(device.addr, address(0), SOON, zero);
        refused(owner, bad);
        staking.register{value: STAKE}(address(0), FOREVER, zero);
        vm.expectRevert(bad);
        settlement.redeem(99, node.addr, 1, zero);
        vm.expectRevert(bad);
        registry.bumpPolicyEpochBySig(99, SOON, zero);
        vm.expectRevert(bad);
        registry.enrolBySig(99, address(0), FOREVER, SOON, zero, zero);
    }

    function test_replay_on_another_chain_is_refused_in_every_place() public {
        for (uint256 i = 0; i <= uint256(type(Place).max); ++i) {
            Place place = Place(i);
            ISigned.Signature memory s = good(place);
            uint256 chain = block.chainid;
            vm.chainId(chain + 1);
            assertRefused(place, s);
            vm.chainId(chain);
        }
    }

    /// All contracts once more, on the same chain, with the same people and numbers: nothing signed for one counts there.
    /// Heads are of the chain, not of a deployment: whoever signs two is convicted in each.
    function test_replay_in_another_deployment_is_refused_in_every_place() public {
        ISigned.Signature[] memory before = new ISigned.Signature[](uint256(type(Place).max) + 1);
        for (uint256 i = 0; i < before.length; ++i) {
            before[i] = good(Place(i));
        }
        setUp();
        for (uint256 i = 0; i < before.length; ++i) {
            Place place = Place(i);
            bool isHead = place == Place.FirstHead || place == Place.SecondHead || place == Place.FalseHead;
            if (!isHead) assertRefused(place, before[i]);
        }
        (bool done,) = give(Place.FalseHead, before[uint256(Place.FalseHead)]);
        vm.assertTrue(done);
    }

    function test_stale_deadlines_are_refused_in_every_place_that_has_one() public {
        vm.warp(SOON);
        bytes4 stale = ISigned.DeadlinePassed.selector;
        for (uint256 i = 0; i <= uint256(Place.RotateKey); ++i) {
            (bool done, bytes4 rule) = give(Place(i), good(Place(i)));
            vm.assertFalse(done);
            vm.assertEq(bytes32(rule), bytes32(stale), vm.toString(i));
        }
        ISigned.Signature memory yes = nodeConsent(next, owner.addr);
        refused(owner, stale);
        staking.register{value: STAKE}(next.addr, SOON, yes);
    }

    /// The operator announces to take all, waits, and then races the node's redemption: what was earned until then stays,
    /// because earning is reckoned when tickets and vouchers arrive and the notice is longer than the week a node waits.
    function test_withdrawal_before_redemption_takes_nothing_that_was_redeemed_within_the_notice() public {
        ISigned.Signature memory v = voucher(operator, DEPOSIT / 2);
        as_(operator);
        settlement.announceWithdrawal(fleet, node.addr, DEPOSIT);
        vm.warp(block.timestamp + 14 days - 1);
        refused(operator, ISettlement.NoticeNotOver.selector);
        settlement.withdraw(fleet, node.addr);
        settlement.redeem(fleet, node.addr, DEPOSIT / 2, v);
        vm.warp(block.timestamp + 1);
        uint256 before = operator.addr.balance;
        as_(operator);
        settlement.withdraw(fleet, node.addr);
        vm.assertEq(operator.addr.balance - before, DEPOSIT - DEPOSIT / 2);
        vm.assertEq(owed(), DEPOSIT / 2);
        collect();
        vm.assertEq(address(settlement).balance, 0);
    }
}
