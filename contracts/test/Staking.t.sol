// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {INodeStaking} from "../src/interfaces/INodeStaking.sol";
import {ISigned} from "../src/interfaces/ISigned.sol";
import {KnownHashes} from "../src/lib/KnownHashes.sol";
import {Layout} from "../src/lib/Layout.sol";
import {Base} from "./Base.sol";

/// @notice A deployment that also has NodeStaking, with nodes and the heads they sign.
abstract contract StakingBase is Base {
    using Layout for bytes32;
    using Layout for address;

    uint96 internal constant STAKE = 10 ether;
    uint40 internal constant EPOCH = 1 days;
    uint40 internal constant STAKED = 7 days;
    uint40 internal constant UNBONDING = 21 days;
    bytes32 internal constant GENESIS = keccak256("genesis");

    INodeStaking internal staking;
    Person internal owner = person("node owner");
    Person internal node = person("node");

    function setUp() public virtual override {
        super.setUp();
        staking = deployStaking(true);
        vm.deal(owner.addr, 1000 ether);
        vm.roll(10_000);
    }

    /// Right after Registry and NameRegistrar, as Registry predicts it.
    function deployStaking(bool headerNumbers) internal returns (INodeStaking s) {
        INodeStaking.Ages memory ages = INodeStaking.Ages(EPOCH, STAKED, UNBONDING);
        s = INodeStaking(create("NodeStaking", abi.encode(registry, GENESIS, headerNumbers, STAKE, ages)));
        vm.assertEq(address(s), registry.nodeStaking());
    }

    function nodeConsent(Person memory who, address to) internal view returns (ISigned.Signature memory) {
        bytes32 typed = keccak256("RegisterNode(address node,address owner,uint40 deadline)");
        bytes32 structHash = keccak256(abi.encode(typed, who.addr, to, FOREVER));
        return sign(who, digestFor(address(staking), "NodeStaking", structHash));
    }

    function bond(Person memory who, uint96 stake) internal {
        ISigned.Signature memory yes = nodeConsent(who, owner.addr);
        vm.prank(owner.addr);
        staking.register{value: stake}(who.addr, FOREVER, yes);
    }

    function nodeOf(address who) internal view returns (Layout.Node memory) {
        return registry.get(Layout.NODE, who.toKey()).toNode();
    }

    function nodeOwnerOf(address who) internal view returns (address) {
        return address(uint160(uint256(registry.get(Layout.NODE_OWNER, who.toKey()))));
    }

    function head(uint64 number, bytes32 hash) internal pure returns (INodeStaking.Head memory) {
        return INodeStaking.Head(number, hash, START, 0);
    }

    function signHead(Person memory who, INodeStaking.Head memory h)
        internal
        view
        returns (ISigned.Signature memory)
    {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,bytes32 salt)"),
                keccak256("Windlass Head"),
                keccak256("1"),
                block.chainid,
                GENESIS
            )
        );
        bytes32 typed = keccak256("Head(uint64 number,bytes32 hash,uint64 attestedAt,bytes32 nonce)");
        bytes32 structHash = keccak256(abi.encode(typed, h.number, h.hash, h.attestedAt, h.nonce));
        return sign(who, keccak256(abi.encodePacked(hex"1901", domain, structHash)));
    }
}

/// @notice Bonding, unbonding and committees.
contract StakingTest is StakingBase {
    function test_register_takes_owner_stake_and_the_nodes_consent() public {
        ISigned.Signature memory yes = nodeConsent(node, owner.addr);
        refused(owner, INodeStaking.BadStake.selector);
        staking.register{value: STAKE - 1}(node.addr, FOREVER, yes);
        // Consent is to this owner: somebody who copies it from the mempool gets nothing.
        refused(operator, ISigned.BadSignature.selector);
        staking.register{value: STAKE}(node.addr, FOREVER, yes);
        ISigned.Signature memory no = nodeConsent(stranger, owner.addr);
        refused(owner, ISigned.BadSignature.selector);
        staking.register{value: STAKE}(node.addr, FOREVER, no);
        refused(owner, ISigned.DeadlinePassed.selector);
        staking.register{value: STAKE}(node.addr, START, yes);
        as_(owner);
        staking.register{value: STAKE}(node.addr, FOREVER, yes);
        Layout.Node memory n = nodeOf(node.addr);
        vm.assertEq(uint256(n.stake), STAKE);
        vm.assertEq(uint256(n.since), START);
        vm.assertEq(uint256(n.unbondAt), 0);
        vm.assertEq(nodeOwnerOf(node.addr), owner.addr);
        refused(owner, INodeStaking.NodeExists.selector);
        staking.register{value: STAKE}(node.addr, FOREVER, yes);
    }

    function test_only_the_owner_unbonds_and_releases_after_the_time() public {
        refused(owner, INodeStaking.NotNodeOwner.selector);
        staking.unbond(node.addr);
        bond(node, STAKE);
        refused(node, INodeStaking.NotNodeOwner.selector);
        staking.unbond(node.addr);
        refused(owner, INodeStaking.StillBonded.selector);
        staking.release(node.addr);
        as_(owner);
        staking.unbond(node.addr);
        refused(owner, INodeStaking.NotBonded.selector);
        staking.unbond(node.addr);
        vm.warp(START + UNBONDING - 1);
        refused(owner, INodeStaking.StillBonded.selector);
        staking.release(node.addr);
        vm.warp(START + UNBONDING);
        refused(stranger, INodeStaking.NotNodeOwner.selector);
        staking.release(node.addr);
        as_(owner);
        staking.release(node.addr);
        vm.assertEq(staking.claimable(owner.addr), STAKE);
        refused(owner, INodeStaking.NotBonded.selector);
        staking.release(node.addr);
        refused(owner, INodeStaking.NotBonded.selector);
        staking.unbond(node.addr);
    }

    function test_claim_pays_once() public {
        bond(node, STAKE);
        as_(owner);
        staking.unbond(node.addr);
        vm.warp(START + UNBONDING);
        as_(owner);
        staking.release(node.addr);
        uint256 before = owner.addr.balance;
        as_(owner);
        staking.claim();
        vm.assertEq(owner.addr.balance, before + STAKE);
        vm.assertEq(address(staking).balance, 0);
        refused(owner, INodeStaking.NothingToClaim.selector);
        staking.claim();
    }

    function test_reentrancy_into_claim_pays_once() public {
        ReentersClaim thief = new ReentersClaim(staking);
        ISigned.Signature memory yes = nodeConsent(node, address(thief));
        vm.deal(address(thief), STAKE);
        vm.prank(address(thief));
        staking.register{value: STAKE}(node.addr, FOREVER, yes);
        bond(person("other"), STAKE);
        vm.prank(address(thief));
        staking.unbond(node.addr);
        vm.warp(START + UNBONDING);
        vm.prank(address(thief));
        staking.release(node.addr);
        thief.run();
        vm.assertTrue(thief.refusedInside());
        vm.assertEq(address(thief).balance, STAKE);
        vm.assertEq(address(staking).balance, STAKE);
    }

    function test_a_receiver_that_refuses_keeps_its_claim() public {
        ISigned.Signature memory yes = nodeConsent(node, address(registry));
        vm.deal(address(registry), STAKE);
        vm.prank(address(registry));
        staking.register{value: STAKE}(node.addr, FOREVER, yes);
        vm.prank(address(registry));
        staking.unbond(node.addr);
        vm.warp(START + UNBONDING);
        vm.prank(address(registry));
        staking.release(node.addr);
        vm.expectRevert(INodeStaking.PaymentRefused.selector);
        vm.prank(address(registry));
        staking.claim();
        vm.assertEq(staking.claimable(address(registry)), STAKE);
    }

    function test_a_released_node_returns_to_its_owner_only() public {
        bond(node, STAKE);
        as_(owner);
        staking.unbond(node.addr);
        vm.warp(START + UNBONDING);
        as_(owner);
        staking.release(node.addr);
        vm.assertEq(nodeOwnerOf(node.addr), owner.addr);
        ISigned.Signature memory yes = nodeConsent(node, stranger.addr);
        refused(stranger, INodeStaking.NotNodeOwner.selector);
        staking.register{value: STAKE}(node.addr, FOREVER, yes);
        bond(node, STAKE + 1);
        vm.assertEq(uint256(nodeOf(node.addr).stake), STAKE + 1);
    }

    function test_contradictory_terms_are_refused() public {
        vm.expectRevert(INodeStaking.BadAges.selector);
        this.deployTerms(1, INodeStaking.Ages(1, 1, 1));
        vm.expectRevert(INodeStaking.BadStake.selector);
        this.deployTerms(0, INodeStaking.Ages(2, 1, 1));
        this.deployTerms(1, INodeStaking.Ages(2, 0, 0));
    }

    function deployTerms(uint96 minStake, INodeStaking.Ages calldata ages) external {
        create("NodeStaking", abi.encode(registry, GENESIS, true, minStake, ages));
    }

    function test_a_stake_fits_its_record() public {
        ISigned.Signature memory yes = nodeConsent(node, owner.addr);
        uint256 tooMuch = uint256(type(uint96).max) + 1;
        vm.deal(owner.addr, tooMuch);
        refused(owner, INodeStaking.BadStake.selector);
        staking.register{value: tooMuch}(node.addr, FOREVER, yes);
    }

    // ---- committees -------------------------------------------------------------------------------------------

    function epochNow() internal view returns (uint32) {
        return uint32(block.timestamp / EPOCH);
    }

    /// Three bonded nodes with 1, 2 and 3 stakes, old enough, in the first half of an epoch.
    function threeNodes() internal returns (address[] memory members) {
        members = new address[](3);
        for (uint96 i = 0; i < 3; ++i) {
            Person memory who = person(string.concat("member", vm.toString(i)));
            bond(who, STAKE * (i + 1));
            members[i] = who.addr;
        }
        sort(members);
        vm.warp((START / EPOCH + 8) * EPOCH);
    }

    function sort(address[] memory list) internal pure {
        for (uint256 i = 1; i < list.length; ++i) {
            for (uint256 j = i; j > 0 && list[j - 1] > list[j]; --j) {
                (list[j - 1], list[j]) = (list[j], list[j - 1]);
            }
        }
    }

    function committeeOf(uint32 epoch) internal view returns (bytes32) {
        return registry.get(Layout.COMMITTEE, bytes32(uint256(epoch)));
    }

    function test_the_highest_total_stake_stands() public {
        address[] memory members = threeNodes();
        address[] memory two = new address[](2);
        (two[0], two[1]) = (members[0], members[1]);
        uint32 next = epochNow() + 1;
        staking.proposeCommittee(next, two);
        vm.assertEq(committeeOf(next), keccak256(abi.encodePacked(two)));
        staking.proposeCommittee(next, members);
        vm.assertEq(committeeOf(next), keccak256(abi.encodePacked(members)));
        vm.expectRevert(INodeStaking.NotBetter.selector);
        staking.proposeCommittee(next, members);
        vm.expectRevert(INodeStaking.NotBetter.selector);
        staking.proposeCommittee(next, two);
    }

    function test_a_proposal_is_for_the_next_epoch_in_the_first_half_of_this_one() public {
        address[] memory members = threeNodes();
        uint32 e = epochNow();
        bytes4 late = INodeStaking.NotInTime.selector;
        vm.expectRevert(late);
        staking.proposeCommittee(e, members);
        vm.expectRevert(late);
        staking.proposeCommittee(e + 2, members);
        vm.warp(uint256(e) * EPOCH + EPOCH / 2);
        vm.expectRevert(late);
        staking.proposeCommittee(e + 1, members);
        vm.warp(uint256(e) * EPOCH + EPOCH / 2 - 1);
        staking.proposeCommittee(e + 1, members);
    }

    function test_a_list_is_short_and_strictly_ascending() public {
        address[] memory members = threeNodes();
        uint32 next = epochNow() + 1;
        bytes4 bad = INodeStaking.BadCommittee.selector;
        vm.expectRevert(bad);
        staking.proposeCommittee(next, new address[](0));
        vm.expectRevert(bad);
        staking.proposeCommittee(next, new address[](17));
        (members[0], members[1]) = (members[1], members[0]);
        vm.expectRevert(bad);
        staking.proposeCommittee(next, members);
        (members[0], members[1]) = (members[1], members[1]);
        vm.expectRevert(bad);
        staking.proposeCommittee(next, members);
    }

    function test_members_are_bonded_long_enough_and_staying() public {
        address[] memory members = threeNodes();
        uint32 next = epochNow() + 1;
        address[] memory one = new address[](1);
        one[0] = stranger.addr;
        expectNotEligible(next, one); // no node at all
        bond(node, STAKE);
        one[0] = node.addr;
        expectNotEligible(next, one); // bonded just now
        as_(owner);
        staking.unbond(members[1]);
        one[0] = members[1];
        expectNotEligible(next, one); // leaving
        Person memory convict = person("member0");
        INodeStaking.Head memory a = head(5, keccak256("a"));
        INodeStaking.Head memory b = head(5, keccak256("b"));
        staking.reportTwoHeads(convict.addr, a, signHead(convict, a), b, signHead(convict, b));
        one[0] = convict.addr;
        expectNotEligible(next, one); // slashed
    }

    function expectNotEligible(uint32 epoch, address[] memory one) internal {
        vm.expectRevert(abi.encodeWithSelector(INodeStaking.NotEligible.selector, one[0]));
        staking.proposeCommittee(epoch, one);
    }
}

/// @notice What convicts, and what must not.
contract SlashingTest is StakingBase {
    bytes32 internal constant A = keccak256("hash a");
    bytes32 internal constant B = keccak256("hash b");

    function setUp() public override {
        super.setUp();
        bond(node, STAKE);
    }

    function report(INodeStaking.Head memory a, INodeStaking.Head memory b, bytes4 rule) internal {
        ISigned.Signature memory sa = signHead(node, a);
        ISigned.Signature memory sb = signHead(node, b);
        if (rule != 0) vm.expectRevert(rule);
        vm.prank(stranger.addr);
        staking.reportTwoHeads(node.addr, a, sa, b, sb);
    }

    function reportOne(INodeStaking.Head memory h, bytes4 rule) internal {
        ISigned.Signature memory s = signHead(node, h);
        if (rule != 0) vm.expectRevert(rule);
        vm.prank(stranger.addr);
        staking.reportFalseHead(node.addr, h, s);
    }

    function assertSlashed() internal view {
        Layout.Node memory n = nodeOf(node.addr);
        vm.assertEq(uint256(n.stake), 0);
        vm.assertEq(uint256(n.flags), Layout.SLASHED);
        vm.assertEq(staking.claimable(stranger.addr), STAKE / 4);
        vm.assertEq(address(staking).balance, STAKE);
    }

    function test_two_hashes_for_one_number_convict_whatever_nonce_and_time() public {
        INodeStaking.Head memory a = INodeStaking.Head(5, A, START, keccak256("nonce"));
        INodeStaking.Head memory b = INodeStaking.Head(5, B, START + 9, 0);
        report(a, b, 0);
        assertSlashed();
        report(a, b, INodeStaking.NodeIsSlashed.selector);
    }

    function test_honest_two_nonces_over_one_hash() public {
        bytes4 none = INodeStaking.NoContradiction.selector;
        report(INodeStaking.Head(5, A, START, 0), INodeStaking.Head(5, A, START + 20, keccak256("n")), none);
    }

    function test_honest_after_a_reorg_other_hashes_at_other_heights() public {
        bytes4 none = INodeStaking.NoContradiction.selector;
        report(head(5, A), head(6, B), none);
    }

    function test_signatures_must_be_the_nodes_on_this_chain() public {
        INodeStaking.Head memory a = head(5, A);
        INodeStaking.Head memory b = head(5, B);
        ISigned.Signature memory sa = signHead(node, a);
        ISigned.Signature memory sb = signHead(stranger, b);
        vm.expectRevert(ISigned.BadSignature.selector);
        staking.reportTwoHeads(node.addr, a, sa, b, sb);
        vm.expectRevert(ISigned.BadSignature.selector);
        staking.reportTwoHeads(node.addr, b, sb, a, sa);
        sb = signHead(node, b);
        vm.chainId(1);
        vm.expectRevert(ISigned.BadSignature.selector);
        staking.reportTwoHeads(node.addr, a, sa, b, sb);
    }

    function test_a_false_head_signed_by_somebody_else_convicts_nobody() public {
        INodeStaking.Head memory future = head(uint64(block.number) + 1, A);
        ISigned.Signature memory theirs = signHead(stranger, future);
        vm.expectRevert(ISigned.BadSignature.selector);
        staking.reportFalseHead(node.addr, future, theirs);
    }

    function test_who_never_was_a_node_is_not_convicted() public {
        INodeStaking.Head memory a = head(5, A);
        INodeStaking.Head memory b = head(5, B);
        ISigned.Signature memory sa = signHead(stranger, a);
        ISigned.Signature memory sb = signHead(stranger, b);
        vm.expectRevert(INodeStaking.NoSuchNode.selector);
        staking.reportTwoHeads(stranger.addr, a, sa, b, sb);
    }

    function test_a_head_against_the_chains_own_hash_convicts() public {
        vm.setBlockhash(block.number - 1, A);
        reportOne(head(uint64(block.number) - 1, A), INodeStaking.HeadIsTrue.selector);
        reportOne(head(uint64(block.number) - 1, B), 0);
        assertSlashed();
    }

    function test_a_head_from_the_future_convicts_and_the_current_block_does_not() public {
        reportOne(head(uint64(block.number), A), INodeStaking.HashUnknown.selector);
        reportOne(head(uint64(block.number) + 1, A), 0);
        assertSlashed();
    }

    function test_an_anchored_hash_convicts_long_after() public {
        uint64 number = uint64(block.number) - 1;
        vm.setBlockhash(number, A);
        staking.anchor(number);
        vm.assertEq(staking.anchored(number), A);
        vm.roll(block.number + 1_000_000);
        staking.anchor(number); // again: changes nothing
        reportOne(head(number, A), INodeStaking.HeadIsTrue.selector);
        reportOne(head(number, B), 0);
        assertSlashed();
    }

    function test_anchor_needs_a_hash_the_chain_knows() public {
        uint64 current = uint64(block.number);
        vm.expectRevert(INodeStaking.HashUnknown.selector);
        staking.anchor(current);
        vm.etch(KnownHashes.HISTORY, "");
        vm.expectRevert(INodeStaking.HashUnknown.selector);
        staking.anchor(1);
    }

    function test_eip2935_knows_older_blocks() public {
        vm.etch(KnownHashes.HISTORY, type(AnswersHash).runtimeCode);
        reportOne(head(1, keccak256("history")), INodeStaking.HeadIsTrue.selector);
        reportOne(head(1, B), 0);
        assertSlashed();
    }

    function test_honest_eip2935_answers_zero_before_its_activation() public {
        vm.etch(KnownHashes.HISTORY, type(AnswersZero).runtimeCode);
        reportOne(head(1, A), INodeStaking.HashUnknown.selector);
    }

    function test_honest_eip2935_is_missing_on_this_chain() public {
        vm.etch(KnownHashes.HISTORY, "");
        reportOne(head(1, A), INodeStaking.HashUnknown.selector);
    }

    function test_honest_eip2935_refuses_or_answers_short() public {
        vm.etch(KnownHashes.HISTORY, type(Refuses).runtimeCode);
        reportOne(head(1, A), INodeStaking.HashUnknown.selector);
        vm.etch(KnownHashes.HISTORY, type(AnswersShort).runtimeCode);
        reportOne(head(1, A), INodeStaking.HashUnknown.selector);
    }

    function test_without_header_numbers_only_two_heads_convict() public {
        (registry, names) = deploy(address(0));
        staking = deployStaking(false);
        bond(node, STAKE);
        reportOne(head(uint64(block.number) + 1, A), INodeStaking.NumbersUnknown.selector);
        vm.expectRevert(INodeStaking.NumbersUnknown.selector);
        staking.anchor(1);
        report(head(5, A), head(5, B), 0);
        assertSlashed();
    }

    function test_unbonding_saves_nobody_and_the_slashed_never_return() public {
        as_(owner);
        staking.unbond(node.addr);
        vm.warp(START + UNBONDING);
        report(head(5, A), head(5, B), 0);
        vm.assertEq(uint256(nodeOf(node.addr).stake), 0);
        refused(owner, INodeStaking.NotBonded.selector);
        staking.release(node.addr);
        ISigned.Signature memory yes = nodeConsent(node, owner.addr);
        refused(owner, INodeStaking.NodeIsSlashed.selector);
        staking.register{value: STAKE}(node.addr, FOREVER, yes);
    }

    function test_a_released_node_is_convicted_without_stake() public {
        as_(owner);
        staking.unbond(node.addr);
        vm.warp(START + UNBONDING);
        as_(owner);
        staking.release(node.addr);
        report(head(5, A), head(5, B), 0);
        vm.assertEq(staking.claimable(stranger.addr), 0);
        vm.assertEq(staking.claimable(owner.addr), STAKE);
        vm.assertEq(uint256(nodeOf(node.addr).flags), Layout.SLASHED);
    }
}

contract AnswersHash {
    fallback(bytes calldata) external returns (bytes memory) {
        return abi.encode(keccak256("history"));
    }
}

contract AnswersZero {
    fallback(bytes calldata) external returns (bytes memory) {
        return abi.encode(bytes32(0));
    }
}

contract AnswersShort {
    fallback(bytes calldata) external returns (bytes memory) {
        return hex"01";
    }
}

contract Refuses {
    fallback() external {
        revert();
    }
}

/// Takes its claim and asks for it again from within.
contract ReentersClaim {
    INodeStaking private immutable STAKING;
    bool public refusedInside;

    constructor(INodeStaking staking) {
        STAKING = staking;
    }

    function run() external {
        STAKING.claim();
    }

    receive() external payable {
        try STAKING.claim() {}
        catch {
            refusedInside = true;
        }
    }
}
