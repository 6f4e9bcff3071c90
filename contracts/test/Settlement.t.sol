// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ISettlement} from "../src/interfaces/ISettlement.sol";
import {ISigned} from "../src/interfaces/ISigned.sol";
import {StakingBase} from "./Staking.t.sol";

/// @notice A deployment of all four contracts with one channel, and the tickets and vouchers signed for it.
abstract contract SettlementBase is StakingBase {
    uint96 internal constant PRICE = 1 gwei;
    uint64 internal constant CAP = 1 << 34; // 16 GiB per device and day
    uint128 internal constant GIB = 1 << 30;
    uint128 internal constant DEPOSIT = 1 ether;

    ISettlement internal settlement;
    uint48 internal fleet;

    function setUp() public virtual override {
        super.setUp();
        settlement = ISettlement(create("Settlement", abi.encode(registry)));
        fleet = createFleet(operator, 0);
        enrol(fleet, operator, device, FOREVER);
        bond(node, STAKE);
    }

    function open() internal {
        vm.prank(operator.addr);
        settlement.openChannel{value: DEPOSIT}(fleet, node.addr, PRICE, CAP);
    }

    function ticket(Person memory signer, address id, uint128 bytesTotal)
        internal
        view
        returns (ISettlement.Ticket memory t)
    {
        bytes32 typed = keccak256(
            "Ticket(uint48 fleet,address node,address device,uint128 bytesTotal,uint64 connsTotal,uint64 issuedAt)"
        );
        bytes32 structHash =
            keccak256(abi.encode(typed, fleet, node.addr, id, bytesTotal, uint64(1), uint64(START)));
        bytes32 digest = digestFor(address(settlement), "Settlement", structHash);
        return ISettlement.Ticket(id, bytesTotal, 1, START, sign(signer, digest));
    }

    function voucher(Person memory signer, uint256 total) internal view returns (ISigned.Signature memory) {
        bytes32 typed = keccak256("Voucher(uint48 fleet,address node,uint256 total)");
        bytes32 structHash = keccak256(abi.encode(typed, fleet, node.addr, total));
        return sign(signer, digestFor(address(settlement), "Settlement", structHash));
    }

    function settle(ISettlement.Ticket memory t) internal {
        ISettlement.Ticket[] memory one = new ISettlement.Ticket[](1);
        one[0] = t;
        settlement.settle(fleet, node.addr, one);
    }

    function settleRefused(ISettlement.Ticket memory t, bytes4 rule) internal {
        ISettlement.Ticket[] memory one = new ISettlement.Ticket[](1);
        one[0] = t;
        vm.expectRevert(abi.encodeWithSelector(rule, t.device));
        settlement.settle(fleet, node.addr, one);
    }

    function collect() internal {
        vm.prank(owner.addr);
        settlement.collect(fleet, node.addr, owner.addr);
    }

    function owed() internal view returns (uint256) {
        return settlement.owed(fleet, node.addr);
    }
}

/// @notice Channels: deposits, terms, notice, withdrawals.
contract ChannelTest is SettlementBase {
    function test_only_the_operator_has_a_say_over_the_channel() public {
        bytes4 no = ISettlement.NotOperator.selector;
        refused(stranger, no);
        settlement.openChannel{value: 1}(fleet, node.addr, PRICE, CAP);
        open();
        refused(stranger, no);
        settlement.topUp{value: 1}(fleet, node.addr);
        refused(owner, no);
        settlement.announceTerms(fleet, node.addr, 0, 0);
        refused(owner, no);
        settlement.announceWithdrawal(fleet, node.addr, 1);
        refused(stranger, no);
        settlement.withdraw(fleet, node.addr);
        refused(owner, no);
        settlement.vouch(fleet, node.addr, 1);
    }

    function test_a_channel_is_opened_once_to_a_node_that_exists() public {
        refused(operator, ISettlement.NoSuchNode.selector);
        settlement.openChannel{value: 1}(fleet, stranger.addr, PRICE, CAP);
        open();
        ISettlement.Channel memory c = settlement.channel(fleet, node.addr);
        vm.assertEq(uint256(c.deposit), DEPOSIT);
        vm.assertEq(uint256(c.openedAt), START);
        refused(operator, ISettlement.ChannelExists.selector);
        settlement.openChannel{value: 1}(fleet, node.addr, PRICE, CAP);
    }

    function test_a_deposit_fits_its_record() public {
        uint256 tooMuch = uint256(type(uint128).max) + 1;
        vm.deal(operator.addr, 2 * tooMuch);
        refused(operator, ISettlement.BadAmount.selector);
        settlement.openChannel{value: tooMuch}(fleet, node.addr, PRICE, CAP);
        open();
        refused(operator, ISettlement.BadAmount.selector);
        settlement.topUp{value: tooMuch}(fleet, node.addr);
    }

    function test_nothing_works_on_a_channel_that_does_not_exist() public {
        bytes4 none = ISettlement.NoSuchChannel.selector;
        refused(operator, none);
        settlement.topUp{value: 1}(fleet, node.addr);
        refused(operator, none);
        settlement.announceTerms(fleet, node.addr, 1, 1);
        refused(operator, none);
        settlement.announceWithdrawal(fleet, node.addr, 1);
        refused(operator, none);
        settlement.withdraw(fleet, node.addr);
        refused(operator, none);
        settlement.vouch(fleet, node.addr, 1);
        refused(owner, none);
        settlement.collect(fleet, node.addr, owner.addr);
        vm.expectRevert(none);
        settlement.settle(fleet, node.addr, new ISettlement.Ticket[](0));
        vm.expectRevert(none);
        settlement.owed(fleet, node.addr);
    }

    function test_terms_change_after_14_days_by_themselves() public {
        open();
        as_(operator);
        settlement.announceTerms(fleet, node.addr, 2 * PRICE, 2 * CAP);
        vm.warp(START + 14 days - 1);
        vm.assertEq(uint256(settlement.channel(fleet, node.addr).pricePerGiB), PRICE);
        settle(ticket(device, device.addr, GIB));
        vm.assertEq(owed(), PRICE);
        vm.warp(START + 14 days);
        vm.assertEq(uint256(settlement.channel(fleet, node.addr).pricePerGiB), 2 * PRICE);
        vm.assertEq(uint256(settlement.channel(fleet, node.addr).maxBytesPerDevicePerDay), 2 * CAP);
        settle(ticket(device, device.addr, 2 * GIB));
        vm.assertEq(owed(), 3 * uint256(PRICE));
    }

    function test_new_terms_replace_announced_ones_but_not_those_in_force() public {
        open();
        as_(operator);
        settlement.announceTerms(fleet, node.addr, 5 * PRICE, CAP);
        as_(operator);
        settlement.announceTerms(fleet, node.addr, 2 * PRICE, CAP);
        vm.warp(START + 14 days);
        as_(operator);
        settlement.announceTerms(fleet, node.addr, 9 * PRICE, CAP);
        vm.assertEq(uint256(settlement.channel(fleet, node.addr).pricePerGiB), 2 * PRICE);
        settle(ticket(device, device.addr, GIB));
        vm.assertEq(owed(), 2 * uint256(PRICE));
    }

    function test_withdrawal_takes_notice_and_leaves_what_is_owed() public {
        open();
        refused(operator, ISettlement.NoticeNotOver.selector);
        settlement.withdraw(fleet, node.addr);
        as_(operator);
        settlement.announceWithdrawal(fleet, node.addr, DEPOSIT);
        vm.warp(START + 14 days - 1);
        refused(operator, ISettlement.NoticeNotOver.selector);
        settlement.withdraw(fleet, node.addr);
        // Withdrawal before redemption: the node settles within the notice.
        settle(ticket(device, device.addr, 3 * GIB));
        vm.warp(START + 14 days);
        uint256 before = operator.addr.balance;
        as_(operator);
        settlement.withdraw(fleet, node.addr);
        vm.assertEq(operator.addr.balance, before + DEPOSIT - 3 * uint256(PRICE));
        vm.assertEq(owed(), 3 * uint256(PRICE));
        refused(operator, ISettlement.NoticeNotOver.selector);
        settlement.withdraw(fleet, node.addr);
        collect();
        vm.assertEq(address(settlement).balance, 0);
    }

    function test_there_is_nothing_to_withdraw_from_what_is_earned() public {
        open();
        as_(operator);
        settlement.vouch(fleet, node.addr, 2 * uint256(DEPOSIT));
        as_(operator);
        settlement.announceWithdrawal(fleet, node.addr, 1);
        vm.warp(START + 14 days);
        refused(operator, ISettlement.NothingToWithdraw.selector);
        settlement.withdraw(fleet, node.addr);
    }

    function test_reentrancy_into_withdraw_pays_once() public {
        ReentersSettlement thief = new ReentersSettlement(settlement);
        vm.deal(address(thief), DEPOSIT);
        vm.prank(address(thief));
        fleet = registry.createFleet(0);
        vm.prank(address(thief));
        settlement.openChannel{value: DEPOSIT}(fleet, node.addr, PRICE, CAP);
        vm.prank(address(thief));
        settlement.announceWithdrawal(fleet, node.addr, DEPOSIT / 2);
        vm.warp(START + 14 days);
        thief.run(abi.encodeCall(settlement.withdraw, (fleet, node.addr)));
        vm.assertTrue(thief.refusedInside());
        vm.assertEq(address(thief).balance, DEPOSIT / 2);
    }
}

/// @notice Tickets, vouchers and what they pay.
contract TicketTest is SettlementBase {
    function setUp() public override {
        super.setUp();
        open();
        vm.warp(START + 1);
    }

    function test_tickets_are_cumulative_and_idempotent() public {
        settle(ticket(device, device.addr, GIB));
        settle(ticket(device, device.addr, GIB));
        vm.assertEq(owed(), PRICE);
        settle(ticket(device, device.addr, 3 * GIB));
        settle(ticket(device, device.addr, 2 * GIB));
        vm.assertEq(owed(), 3 * uint256(PRICE));
        vm.assertEq(uint256(settlement.billed(fleet, node.addr, device.addr)), 3 * GIB);
        collect();
        vm.assertEq(owed(), 0);
        settle(ticket(device, device.addr, 3 * GIB));
        vm.assertEq(owed(), 0);
    }

    /// What is owed against the rule said in one line, for any deposit, price, traffic and voucher.
    function testFuzz_owed(
        uint96 deposit,
        uint96 price,
        uint64 cap,
        uint128[3] memory totals,
        uint256 vouched,
        uint32 afterSeconds
    ) public {
        Person memory other = person("other node");
        bond(other, STAKE);
        node = other;
        vm.deal(operator.addr, deposit);
        vm.prank(operator.addr);
        settlement.openChannel{value: deposit}(fleet, node.addr, price, cap);
        vm.warp(block.timestamp + afterSeconds);
        uint256 limit = uint256(cap) * ((uint256(afterSeconds) + 1 days - 1) / 1 days);
        uint256 billed = 0;
        for (uint256 i = 0; i < totals.length; ++i) {
            settle(ticket(device, device.addr, totals[i]));
            uint256 counted = totals[i] < limit ? totals[i] : limit;
            if (counted > billed) billed = counted;
        }
        vm.prank(operator.addr);
        settlement.vouch(fleet, node.addr, vouched);
        uint256 earned = (billed * price) >> 30;
        if (vouched > earned) earned = vouched;
        vm.assertEq(owed(), earned < deposit ? earned : deposit);
    }

    function test_nothing_is_lost_to_rounding() public {
        for (uint128 i = 1; i <= 8; ++i) {
            settle(ticket(device, device.addr, i * GIB / 8));
        }
        vm.assertEq(owed(), PRICE);
    }

    function test_a_ticket_is_signed_by_the_device_for_this_channel() public {
        bytes4 bad = ISettlement.BadTicket.selector;
        settleRefused(ticket(stranger, device.addr, GIB), bad);
        settleRefused(ticket(operator, device.addr, GIB), bad);
        ISettlement.Ticket memory t = ticket(device, device.addr, GIB);
        t.bytesTotal += 1;
        settleRefused(t, bad);
        t = ticket(device, device.addr, GIB);
        t.signature = ISigned.Signature(0, 0, 27);
        settleRefused(t, bad);
        t = ticket(device, device.addr, GIB);
        vm.chainId(1);
        settleRefused(t, bad);
    }

    function test_a_device_of_another_fleet_costs_this_one_nothing() public {
        bytes4 foreign = ISettlement.ForeignDevice.selector;
        settleRefused(ticket(stranger, stranger.addr, GIB), foreign);
        uint48 other = createFleet(stranger, 0);
        Person memory theirs = person("theirs");
        enrol(other, stranger, theirs, FOREVER);
        settleRefused(ticket(theirs, theirs.addr, GIB), foreign);
    }

    function test_drain_by_one_compromised_device_stops_at_the_daily_cap() public {
        settle(ticket(device, device.addr, type(uint128).max));
        vm.assertEq(uint256(settlement.billed(fleet, node.addr, device.addr)), CAP);
        vm.warp(START + 1 days);
        settle(ticket(device, device.addr, type(uint128).max));
        vm.assertEq(uint256(settlement.billed(fleet, node.addr, device.addr)), CAP);
        vm.warp(START + 1 days + 1);
        settle(ticket(device, device.addr, type(uint128).max));
        vm.assertEq(uint256(settlement.billed(fleet, node.addr, device.addr)), 2 * CAP);
    }

    function test_a_lowered_cap_never_takes_billed_bytes_back() public {
        settle(ticket(device, device.addr, CAP));
        as_(operator);
        settlement.announceTerms(fleet, node.addr, PRICE, 1);
        vm.warp(START + 15 days);
        settle(ticket(device, device.addr, 2 * CAP));
        vm.assertEq(uint256(settlement.billed(fleet, node.addr, device.addr)), CAP);
    }

    function test_revoking_before_settling_saves_nobody_money_and_ends_the_cap() public {
        ISettlement.Ticket memory t = ticket(device, device.addr, type(uint128).max);
        vm.warp(START + 1 days + 5);
        as_(operator);
        registry.revoke(device.addr);
        vm.warp(START + 100 days);
        settle(t);
        vm.assertEq(uint256(settlement.billed(fleet, node.addr, device.addr)), 2 * CAP);
    }

    function test_retired_keys_count_for_14_days_after_the_rotation() public {
        Person memory b = person("b");
        Person memory c = person("c");
        ISettlement.Ticket memory first = ticket(device, device.addr, GIB);
        ISettlement.Ticket memory second = ticket(b, device.addr, 2 * GIB);
        ISettlement.Ticket memory third = ticket(c, device.addr, 3 * GIB);
        rotate(device, device, b);
        vm.warp(START + 10);
        rotate(device, b, c);
        vm.warp(START + 10 + 14 days - 1);
        settle(first);
        settle(second);
        settle(third);
        vm.assertEq(owed(), 3 * uint256(PRICE));
        vm.warp(START + 10 + 14 days);
        settleRefused(first, ISettlement.BadTicket.selector);
        settleRefused(second, ISettlement.BadTicket.selector);
        settle(third);
    }

    function test_another_devices_retired_key_does_not_count() public {
        Person memory other = person("other device");
        Person memory b = person("b");
        enrol(fleet, operator, other, FOREVER);
        rotate(device, device, b);
        settleRefused(ticket(other, device.addr, GIB), ISettlement.BadTicket.selector);
        settleRefused(ticket(b, other.addr, GIB), ISettlement.BadTicket.selector);
        settleRefused(ticket(device, other.addr, GIB), ISettlement.BadTicket.selector);
    }

    function test_double_pay_through_ticket_and_voucher() public {
        settle(ticket(device, device.addr, 3 * GIB));
        as_(stranger);
        settlement.redeem(fleet, node.addr, 2 * uint256(PRICE), voucher(operator, 2 * uint256(PRICE)));
        vm.assertEq(owed(), 3 * uint256(PRICE));
        collect();
        as_(stranger);
        settlement.redeem(fleet, node.addr, 3 * uint256(PRICE), voucher(operator, 3 * uint256(PRICE)));
        vm.assertEq(owed(), 0);
        as_(stranger);
        settlement.redeem(fleet, node.addr, 4 * uint256(PRICE), voucher(operator, 4 * uint256(PRICE)));
        vm.assertEq(owed(), PRICE);
        as_(stranger);
        settlement.redeem(fleet, node.addr, 1, voucher(operator, 1));
        vm.assertEq(owed(), PRICE);
    }

    function test_a_voucher_is_signed_by_the_operator() public {
        ISigned.Signature memory no = voucher(device, 1);
        vm.expectRevert(ISigned.BadSignature.selector);
        settlement.redeem(fleet, node.addr, 1, no);
        ISigned.Signature memory yes = voucher(operator, 1);
        vm.expectRevert(ISigned.BadSignature.selector);
        settlement.redeem(fleet, node.addr, 2, yes);
        vm.chainId(1);
        vm.expectRevert(ISigned.BadSignature.selector);
        settlement.redeem(fleet, node.addr, 1, yes);
    }

    function test_no_more_is_owed_than_deposited_until_it_is_topped_up() public {
        as_(operator);
        settlement.vouch(fleet, node.addr, 2 * uint256(DEPOSIT));
        vm.assertEq(owed(), DEPOSIT);
        collect();
        refused(owner, ISettlement.NothingOwed.selector);
        settlement.collect(fleet, node.addr, owner.addr);
        as_(operator);
        settlement.topUp{value: 5}(fleet, node.addr);
        vm.assertEq(owed(), 5);
    }

    function test_only_the_nodes_owner_collects() public {
        settle(ticket(device, device.addr, GIB));
        refused(stranger, ISettlement.NotNodeOwner.selector);
        settlement.collect(fleet, node.addr, stranger.addr);
        refused(node, ISettlement.NotNodeOwner.selector);
        settlement.collect(fleet, node.addr, node.addr);
        as_(owner);
        settlement.collect(fleet, node.addr, address(0xCAFE));
        vm.assertEq(address(0xCAFE).balance, PRICE);
        refused(owner, ISettlement.NothingOwed.selector);
        settlement.collect(fleet, node.addr, owner.addr);
    }

    function test_reentrancy_into_collect_pays_once() public {
        settle(ticket(device, device.addr, GIB));
        ReentersSettlement thief = new ReentersSettlement(settlement);
        // The thief is whom the owner pays; from within it calls collect again and is not the owner.
        thief.arm(abi.encodeCall(settlement.collect, (fleet, node.addr, address(thief))));
        as_(owner);
        settlement.collect(fleet, node.addr, address(thief));
        vm.assertTrue(thief.refusedInside());
        vm.assertEq(address(thief).balance, PRICE);
    }

    function test_reentrancy_by_an_owner_contract_pays_once() public {
        ReentersSettlement thief = new ReentersSettlement(settlement);
        Person memory own = person("own node");
        ISigned.Signature memory yes = nodeConsent(own, address(thief));
        vm.deal(address(thief), STAKE);
        vm.prank(address(thief));
        staking.register{value: STAKE}(own.addr, FOREVER, yes);
        as_(operator);
        settlement.openChannel{value: DEPOSIT}(fleet, own.addr, PRICE, CAP);
        as_(operator);
        settlement.vouch(fleet, own.addr, 7);
        thief.run(abi.encodeCall(settlement.collect, (fleet, own.addr, address(thief))));
        vm.assertTrue(thief.refusedInside());
        vm.assertEq(address(thief).balance, 7);
    }

    function test_a_receiver_that_refuses_changes_nothing() public {
        settle(ticket(device, device.addr, GIB));
        refused(owner, ISettlement.PaymentRefused.selector);
        settlement.collect(fleet, node.addr, address(registry));
        vm.assertEq(owed(), PRICE);
    }
}

/// Takes its payment and repeats the call that paid it from within.
contract ReentersSettlement {
    ISettlement private immutable SETTLEMENT;
    bytes private data;
    bool public refusedInside;

    constructor(ISettlement settlement) {
        SETTLEMENT = settlement;
    }

    function arm(bytes calldata data_) external {
        data = data_;
    }

    function run(bytes calldata data_) external {
        data = data_;
        (bool done,) = address(SETTLEMENT).call(data_);
        require(done);
    }

    receive() external payable {
        (bool done,) = address(SETTLEMENT).call(data);
        refusedInside = !done;
    }
}
