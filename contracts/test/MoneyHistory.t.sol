// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {INodeStaking} from "../src/interfaces/INodeStaking.sol";
import {IRegistry} from "../src/interfaces/IRegistry.sol";
import {ISettlement} from "../src/interfaces/ISettlement.sol";
import {ISigned} from "../src/interfaces/ISigned.sol";
import {Layout} from "../src/lib/Layout.sol";
import {Base} from "./Base.sol";
import {FuzzSelector, Handler} from "./Handler.sol";
import {SettlementBase} from "./Settlement.t.sol";

/// @notice Random lives of nodes, stakes, committees, channels and tickets, keeping its own account of the money.
contract MoneyHandler is Handler, SettlementBase {
    uint256 internal constant NODES = 4;

    Person[] internal nodes;
    Person[] internal fleetDevices;
    uint256 public staked;
    uint256 public released;
    uint256 public slashed;
    uint256 public rewarded;
    uint256 public claimedSoFar;
    uint256 public deposited;
    uint256 public withdrawn;
    uint256 public collected;
    uint256 internal people;
    uint64 internal headNumber;

    uint32[] internal epochs;
    mapping(uint32 epoch => uint256) internal bestOf;
    mapping(uint32 epoch => bytes32) internal committeeOf_;
    /// A proposal was taken that must not stand, or refused though it must.
    bool public committeesDisagree;

    function setUp() public override(Base, SettlementBase) {}

    constructor(IRegistry registry_, INodeStaking staking_, ISettlement settlement_, uint48 fleet_) {
        (registry, staking, settlement, fleet) = (registry_, staking_, settlement_, fleet_);
        vm.deal(owner.addr, 1_000_000 ether);
        vm.deal(operator.addr, 1_000_000 ether);
        for (uint256 i = 0; i < NODES; ++i) {
            registerNode(i);
            openChannelTo(nodes[i].addr, 5 ether);
            enrolDevice();
        }
    }

    function fresh() internal returns (Person memory) {
        return person(string.concat("money", vm.toString(people++)));
    }

    function anyNode(uint256 seed) internal view returns (address) {
        return nodes[pick(seed, nodes.length)].addr;
    }

    // ---- stake ------------------------------------------------------------------------------------------------

    function registerNode(uint256 seed) public counted("registerNode") {
        Person memory who = isMischief(seed) && nodes.length > 0 ? nodes[pick(seed, nodes.length)] : fresh();
        uint96 stake = STAKE + uint96(seed % 1 ether);
        bytes memory data = abi.encodeCall(staking.register, (who.addr, FOREVER, nodeConsent(who, owner.addr)));
        bool isNew = nodeOwnerOf(who.addr) == address(0);
        if (!attempt(owner.addr, address(staking), stake, data)) return;
        staked += stake;
        if (isNew) nodes.push(who);
    }

    function unbond(uint256 seed) public counted("unbond") {
        address node_ = freshlyBonded(seed);
        attempt(owner.addr, address(staking), 0, abi.encodeCall(staking.unbond, (node_)));
    }

    function freshlyBonded(uint256 seed) internal returns (address node_) {
        node_ = anyNode(seed);
        Layout.Node memory n = nodeOf(node_);
        if (isMischief(seed) || (n.stake != 0 && n.unbondAt == 0)) return node_;
        Person memory who = fresh();
        bytes memory data = abi.encodeCall(staking.register, (who.addr, FOREVER, nodeConsent(who, owner.addr)));
        prepare(owner.addr, address(staking), STAKE, data);
        staked += STAKE;
        nodes.push(who);
        return who.addr;
    }

    function release(uint256 seed) public counted("release") {
        address node_ = freshlyBonded(seed);
        prepare(owner.addr, address(staking), 0, abi.encodeCall(staking.unbond, (node_)));
        if (seed % 3 != 0) vm.warp(block.timestamp + UNBONDING);
        uint96 stake = nodeOf(node_).stake;
        if (!attempt(owner.addr, address(staking), 0, abi.encodeCall(staking.release, (node_)))) return;
        released += stake;
    }

    function slash(uint256 seed) public counted("slash") {
        Person memory who = nodes[pick(seed, nodes.length)];
        INodeStaking.Head memory a = head(++headNumber, keccak256("a"));
        INodeStaking.Head memory b = head(headNumber, isMischief(seed) ? a.hash : keccak256("b"));
        if (nodeOf(who.addr).flags != 0) who = registerAnother();
        uint96 stake = nodeOf(who.addr).stake;
        bytes memory data =
            abi.encodeCall(staking.reportTwoHeads, (who.addr, a, signHead(who, a), b, signHead(who, b)));
        if (!attempt(stranger.addr, address(staking), 0, data)) return;
        slashed += stake;
        rewarded += stake / 4;
    }

    function registerAnother() internal returns (Person memory who) {
        who = fresh();
        bytes memory data = abi.encodeCall(staking.register, (who.addr, FOREVER, nodeConsent(who, owner.addr)));
        prepare(owner.addr, address(staking), STAKE, data);
        staked += STAKE;
        nodes.push(who);
    }

    function claim(uint256 seed) public counted("claim") {
        address who = seed % 2 == 0 ? owner.addr : stranger.addr;
        if (staking.claimable(who) == 0) who = who == owner.addr ? stranger.addr : owner.addr;
        uint256 amount = staking.claimable(who);
        if (amount == 0) return release(seed | 1);
        if (attempt(who, address(staking), 0, abi.encodeCall(staking.claim, ()))) claimedSoFar += amount;
    }

    // ---- committees -------------------------------------------------------------------------------------------

    /// A committee for the next epoch, of some of the nodes that may be on one; or, on purpose, one that must not stand.
    /// What the contract says is compared with what this account of it says.
    function proposeCommittee(uint256 seed) public counted("proposeCommittee") {
        if (block.timestamp % EPOCH >= EPOCH / 2) vm.warp((block.timestamp / EPOCH + 1) * EPOCH);
        uint32 next = uint32(block.timestamp / EPOCH) + 1;
        (address[] memory members, uint256 total) = candidates(seed);
        if (members.length == 0 || (total <= bestOf[next] && !isMischief(seed))) {
            // A day later everything is open again, and nodes bonded now are old enough in a week.
            registerAnother();
            vm.warp((block.timestamp / EPOCH + 1 + STAKED / EPOCH) * EPOCH);
            next = uint32(block.timestamp / EPOCH) + 1;
            (members, total) = candidates(seed | 1);
        }
        // Nobody who may not be on a committee is, even where nothing better was proposed yet.
        for (uint256 i = 0; i < 3; ++i) {
            mustRefuse(next, unfit(seed, i));
        }
        bool isRight = members.length > 0 && total > bestOf[next] && !isMischief(seed);
        if (isMischief(seed)) (next, members) = spoiled(seed, next, members);
        bytes memory data = abi.encodeCall(staking.proposeCommittee, (next, members));
        bool done = attempt(stranger.addr, address(staking), 0, data);
        if (done != isRight) committeesDisagree = true;
        mustRefuse(next, members); // for as much stake as stands already
        if (!done) return;
        if (bestOf[next] == 0) epochs.push(next);
        (bestOf[next], committeeOf_[next]) = (total, keccak256(abi.encodePacked(members)));
    }

    function mustRefuse(uint32 epoch, address[] memory members) internal {
        bytes memory data = abi.encodeCall(staking.proposeCommittee, (epoch, members));
        if (prepare(stranger.addr, address(staking), 0, data)) committeesDisagree = true;
    }

    /// Up to 16 nodes in ascending order, of those bonded for long enough that stay; about half of them.
    function candidates(uint256 seed) internal view returns (address[] memory members, uint256 total) {
        address[] memory all = new address[](16);
        uint256 count = 0;
        for (uint256 i = 0; i < nodes.length && count < 16; ++i) {
            Layout.Node memory n = nodeOf(nodes[i].addr);
            bool isEligible =
                n.stake != 0 && n.unbondAt == 0 && n.flags == 0 && block.timestamp >= uint256(n.since) + STAKED;
            if (!isEligible || uint256(keccak256(abi.encode(seed, i))) % 2 == 0) continue;
            uint256 place = count++;
            for (; place > 0 && all[place - 1] > nodes[i].addr; --place) {
                all[place] = all[place - 1];
            }
            all[place] = nodes[i].addr;
            total += n.stake;
        }
        members = new address[](count);
        for (uint256 i = 0; i < count; ++i) {
            members[i] = all[i];
        }
    }

    /// The list, made wrong: for another epoch, in the second half, of nobody, of one who may not be on it, one twice.
    function spoiled(uint256 seed, uint32 next, address[] memory members)
        internal
        returns (uint32, address[] memory)
    {
        uint256 how = seed % 5;
        if (how == 0) return (next + 1, members);
        if (how == 1) {
            vm.warp(uint256(next - 1) * EPOCH + EPOCH / 2);
            return (next, members);
        }
        if (how == 2) return (next, new address[](0));
        if (how == 3) return (next, unfit(seed, seed % 3));
        // One of them twice: the order isn't strict any more.
        address[] memory longer = new address[](members.length + 1);
        for (uint256 i = 0; i < members.length; ++i) {
            longer[i + 1] = members[i];
        }
        if (members.length > 0) longer[0] = members[0];
        return (next, longer);
    }

    /// A node that is on its way out, too young, or without stake (gone or convicted), alone on a list; or nobody's address.
    function unfit(uint256 seed, uint256 why) internal view returns (address[] memory one) {
        one = new address[](1);
        one[0] = stranger.addr;
        uint256 start = pick(seed, nodes.length);
        for (uint256 i = 0; i < nodes.length; ++i) {
            address who = nodes[(start + i) % nodes.length].addr;
            Layout.Node memory n = nodeOf(who);
            bool isYoung = block.timestamp < uint256(n.since) + STAKED;
            bool isLeaving = n.stake != 0 && n.unbondAt != 0 && !isYoung;
            if (why == 0 ? isLeaving : why == 1 ? n.stake != 0 && isYoung : n.stake == 0) one[0] = who;
        }
    }

    // ---- channels ---------------------------------------------------------------------------------------------

    function enrolDevice() internal {
        Person memory who = fresh();
        uint40 deadline = uint40(block.timestamp + 1);
        ISigned.Signature memory yes =
            signed(who, ENROL, abi.encode(who.addr, fleet, operator.addr, FOREVER, deadline));
        bytes memory data = abi.encodeCall(registry.enrol, (fleet, who.addr, FOREVER, deadline, yes));
        if (prepare(operator.addr, address(registry), 0, data)) fleetDevices.push(who);
    }

    function openChannelTo(address node_, uint256 value) internal returns (bool done) {
        bytes memory data = abi.encodeCall(settlement.openChannel, (fleet, node_, PRICE, CAP));
        done = prepare(operator.addr, address(settlement), value, data);
        if (done) deposited += value;
    }

    function openChannel(uint256 seed) public counted("openChannel") {
        address node_ = isMischief(seed) ? anyNode(seed) : registerAnother().addr;
        uint256 value = seed % 1 ether;
        bytes memory data = abi.encodeCall(settlement.openChannel, (fleet, node_, PRICE, CAP));
        if (attempt(operator.addr, address(settlement), value, data)) deposited += value;
    }

    /// A channel, any of those opened at the start.
    function anyChannel(uint256 seed) internal view returns (address) {
        return nodes[pick(seed, NODES)].addr;
    }

    function topUp(uint256 seed) public counted("topUp") {
        uint256 value = seed % 1 ether;
        address by = isMischief(seed) ? owner.addr : operator.addr;
        bytes memory data = abi.encodeCall(settlement.topUp, (fleet, anyChannel(seed)));
        if (attempt(by, address(settlement), value, data)) deposited += value;
    }

    function announceTerms(uint256 seed) public counted("announceTerms") {
        address by = isMischief(seed) ? owner.addr : operator.addr;
        bytes memory data = abi.encodeCall(
            settlement.announceTerms, (fleet, anyChannel(seed), uint96(seed % 10 gwei), uint64(seed % CAP))
        );
        attempt(by, address(settlement), 0, data);
    }

    function withdraw(uint256 seed) public counted("withdraw") {
        address node_ = anyChannel(seed);
        prepare(operator.addr, address(settlement), 1 gwei, abi.encodeCall(settlement.topUp, (fleet, node_)));
        deposited += 1 gwei;
        uint128 amount = uint128(1 + seed % 0.1 ether);
        bytes memory data = abi.encodeCall(settlement.announceWithdrawal, (fleet, node_, amount));
        prepare(operator.addr, address(settlement), 0, data);
        if (!isMischief(seed)) vm.warp(block.timestamp + 14 days);
        uint256 before = operator.addr.balance;
        data = abi.encodeCall(settlement.withdraw, (fleet, node_));
        if (attempt(operator.addr, address(settlement), 0, data)) withdrawn += operator.addr.balance - before;
    }

    function settleTicket(uint256 seed) public counted("settle") {
        Person memory who = fleetDevices[pick(seed, fleetDevices.length)];
        ISettlement.Ticket[] memory tickets = new ISettlement.Ticket[](1);
        node = nodes[pick(seed ^ 2, NODES)];
        Person memory signer = isMischief(seed) ? operator : who;
        tickets[0] = ticket(signer, who.addr, uint128(seed % (1 << 40)));
        attempt(stranger.addr, address(settlement), 0, abi.encodeCall(settlement.settle, (fleet, node.addr, tickets)));
    }

    function redeem(uint256 seed) public counted("redeem") {
        node = nodes[pick(seed ^ 3, NODES)];
        uint256 total = settlement.channel(fleet, node.addr).voucherTotal + seed % 0.1 ether;
        ISigned.Signature memory s = voucher(isMischief(seed) ? stranger : operator, total);
        attempt(stranger.addr, address(settlement), 0, abi.encodeCall(settlement.redeem, (fleet, node.addr, total, s)));
    }

    function collectOwed(uint256 seed) public counted("collect") {
        address node_ = anyChannel(seed);
        if (settlement.owed(fleet, node_) == 0 && !isMischief(seed)) {
            ISettlement.Channel memory c = settlement.channel(fleet, node_);
            prepare(operator.addr, address(settlement), 1, abi.encodeCall(settlement.topUp, (fleet, node_)));
            deposited += 1;
            prepare(operator.addr, address(settlement), 0, abi.encodeCall(settlement.vouch, (fleet, node_, c.paid + 1)));
        }
        uint256 before = owner.addr.balance;
        bytes memory data = abi.encodeCall(settlement.collect, (fleet, node_, owner.addr));
        if (attempt(owner.addr, address(settlement), 0, data)) collected += owner.addr.balance - before;
    }

    function wait(uint256 seed) public counted("wait") {
        vm.warp(block.timestamp + seed % 2 days);
        ++counts[current].successes;
    }

    // ---- what must hold ---------------------------------------------------------------------------------------

    function assertStakeCovered() external view {
        uint256 bonded = 0;
        for (uint256 i = 0; i < nodes.length; ++i) {
            bonded += nodeOf(nodes[i].addr).stake;
        }
        uint256 claims = staking.claimable(owner.addr) + staking.claimable(stranger.addr);
        vm.assertGe(address(staking).balance, bonded + claims);
        vm.assertEq(bonded, staked - released - slashed);
        vm.assertEq(claims, released + rewarded - claimedSoFar);
        vm.assertEq(address(staking).balance, staked - claimedSoFar);
    }

    /// Every epoch's committee is the best one proposed in time, and stays it.
    function assertCommittees() external view {
        vm.assertFalse(committeesDisagree);
        for (uint256 i = 0; i < epochs.length; ++i) {
            bytes32 written = registry.get(Layout.COMMITTEE, bytes32(uint256(epochs[i])));
            vm.assertEq(written, committeeOf_[epochs[i]]);
        }
    }

    function assertDepositsCovered() external view {
        uint256 held = 0;
        for (uint256 i = 0; i < nodes.length; ++i) {
            ISettlement.Channel memory c;
            try settlement.channel(fleet, nodes[i].addr) returns (ISettlement.Channel memory opened) {
                c = opened;
            } catch {
                continue;
            }
            vm.assertGe(c.deposit, c.paid);
            vm.assertLe(settlement.owed(fleet, nodes[i].addr), c.deposit - c.paid);
            held += c.deposit - c.paid;
        }
        vm.assertEq(address(settlement).balance, held);
        vm.assertEq(held, deposited - withdrawn - collected);
    }
}

/// @notice After any history, the balances cover what is owed, to the wei.
contract MoneyHistoryTest is SettlementBase {
    MoneyHandler internal handler;

    function setUp() public override {
        vm.warp(START);
        (registry, names) = deploy(address(0));
        staking = deployStaking(true);
        settlement = ISettlement(create("Settlement", abi.encode(registry)));
        fleet = createFleet(operator, 0);
        handler = new MoneyHandler(registry, staking, settlement, fleet);
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function targetSelectors() external view returns (FuzzSelector[] memory targets) {
        bytes4[14] memory all = [
            handler.registerNode.selector,
            handler.unbond.selector,
            handler.release.selector,
            handler.slash.selector,
            handler.claim.selector,
            handler.proposeCommittee.selector,
            handler.openChannel.selector,
            handler.topUp.selector,
            handler.announceTerms.selector,
            handler.withdraw.selector,
            handler.settleTicket.selector,
            handler.redeem.selector,
            handler.collectOwed.selector,
            handler.wait.selector
        ];
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(handler), new bytes4[](all.length));
        for (uint256 i = 0; i < all.length; ++i) {
            targets[0].selectors[i] = all[i];
        }
    }

    /// NodeStaking's balance covers stake and claims; Settlement's is Σ (deposit − paid); owed never exceeds that; every
    /// epoch has the best committee proposed in time, of nodes that may be on it; all records follow from `Set`.
    function invariant_money_history() public view {
        handler.assertStakeCovered();
        handler.assertDepositsCovered();
        handler.assertCommittees();
        handler.assertMirrored();
    }

    function afterInvariant() external view {
        handler.requireBusy();
    }
}
