// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {INodeStaking} from "../src/interfaces/INodeStaking.sol";
import {IDevices, IGrants} from "../src/interfaces/IRegistry.sol";
import {ISettlement} from "../src/interfaces/ISettlement.sol";
import {ISigned} from "../src/interfaces/ISigned.sol";
import {Layout} from "../src/lib/Layout.sol";
import {Base} from "./Base.sol";
import {SettlementBase} from "./Settlement.t.sol";
import {Signed} from "./Signed.sol";

/// @notice The table of authority, cell by cell: every action, tried by every role. A row says who may; everyone else is
/// refused, and each attempt starts from the same state.
contract AuthorityTest is SettlementBase, Signed {
    uint256 internal constant OPERATOR = 1 << 0;
    uint256 internal constant FOREIGN_OPERATOR = 1 << 1;
    uint256 internal constant CURRENT_KEY = 1 << 2;
    uint256 internal constant FIRST_KEY = 1 << 3;
    uint256 internal constant NEW_KEY = 1 << 4;
    uint256 internal constant PROPOSED_OPERATOR = 1 << 5;
    uint256 internal constant NAME_OWNER = 1 << 6;
    uint256 internal constant NODE_OWNER = 1 << 7;
    uint256 internal constant NODE_KEY = 1 << 8;
    uint256 internal constant STRANGER = 1 << 9;
    uint256 internal constant NAME_REGISTRAR = 1 << 10;
    uint256 internal constant NODE_STAKING = 1 << 11;
    uint256 internal constant SETTLEMENT = 1 << 12;
    uint256 internal constant TREASURY = 1 << 13;
    uint256 internal constant ROLES = 14;
    /// Roles with a key, which can sign.
    uint256 internal constant SIGNERS = 10;
    uint256 internal constant ANYONE = (1 << ROLES) - 1;
    uint256 internal constant NOBODY = 0;

    bytes32 internal constant HASH = keccak256("sensor-7");
    bytes32 internal constant H = keccak256("a grant");

    Person internal key = person("current key");
    Person internal next = person("new key");
    Person internal foreign = person("foreign operator");
    Person internal proposed = person("proposed operator");
    Person internal nameOwner = person("name owner");
    Person internal suspended = person("suspended device");
    Person internal revoking = person("revoking device");
    Person internal slowDevice = person("device of a slow fleet");
    Person internal leaving = person("leaving node");
    uint48 internal slow;
    uint48 internal foreignFleet;
    uint256 internal cells;

    function setUp() public override(Base, SettlementBase) {
        SettlementBase.setUp();
        for (uint256 i = 0; i < ROLES; ++i) {
            vm.deal(role(i).addr, 1000 ether);
        }
        foreignFleet = createFleet(foreign, 0);
        slow = createFleet(operator, Layout.SLOW_REVOKE);
        rotate(device, device, key);
        enrol(fleet, operator, suspended, FOREVER);
        enrol(slow, operator, revoking, FOREVER);
        enrol(slow, operator, slowDevice, FOREVER);
        registerName(nameOwner, "sensor-7", device.addr, 1);
        bond(leaving, STAKE);
        open();
        vm.startPrank(operator.addr);
        registry.suspend(suspended.addr);
        registry.revoke(revoking.addr);
        registry.grant(fleet, H, FOREVER, 1);
        registry.proposeOperator(fleet, proposed.addr);
        settlement.announceWithdrawal(fleet, node.addr, 1);
        settlement.vouch(fleet, node.addr, 1);
        vm.stopPrank();
        as_(owner);
        staking.unbond(leaving.addr);
    }

    function role(uint256 i) internal view returns (Person memory) {
        if (i < SIGNERS) {
            return
                [operator, foreign, key, device, next, proposed, nameOwner, owner, node, stranger][i];
        }
        return Person([address(names), address(staking), address(settlement), treasury][i - SIGNERS], 0);
    }

    // ---- one row ----------------------------------------------------------------------------------------------

    function row(string memory action, uint256 allowed, address target, bytes memory data) internal {
        row(action, allowed, target, 0, data);
    }

    function row(string memory action, uint256 allowed, address target, uint256 value, bytes memory data) internal {
        for (uint256 i = 0; i < ROLES; ++i) {
            uint256 start = vm.snapshotState();
            vm.prank(role(i).addr);
            (bool done, bytes memory why) = target.call{value: value}(data);
            assertCell(action, i, allowed, done, why);
            undo(start);
        }
    }

    /// The same, by signature: a stranger sends what each role signed.
    function signedRow(uint256 allowed, Statement memory s) internal {
        for (uint256 i = 0; i < SIGNERS; ++i) {
            uint256 start = vm.snapshotState();
            uint40 deadline = uint40(block.timestamp + 1);
            (bool done, bytes4 rule) = send(s, deadline, signatureOf(role(i), s, deadline, s.target));
            assertCell(s.typed, i, allowed, done, abi.encodePacked(rule));
            undo(start);
        }
    }

    /// A refusal names its rule: four bytes of a custom error at least.
    function assertCell(string memory action, uint256 i, uint256 allowed, bool done, bytes memory why) private pure {
        bool may = allowed >> i & 1 == 1;
        vm.assertEq(done, may, string.concat(action, " by role ", vm.toString(i)));
        if (!may) vm.assertGe(why.length, 4, action);
    }

    /// Back to where the cell began, all but the count.
    function undo(uint256 start) private {
        uint256 done = cells + 1;
        vm.assertTrue(vm.revertToState(start));
        cells = done;
    }

    // ---- the table --------------------------------------------------------------------------------------------

    function test_fleets_and_grants() public {
        address at_ = address(registry);
        row("create a fleet", ANYONE, at_, abi.encodeCall(registry.createFleet, (0)));
        row("bump the epoch", OPERATOR, at_, abi.encodeCall(registry.bumpPolicyEpoch, (fleet)));
        row("propose an operator", OPERATOR, at_, abi.encodeCall(registry.proposeOperator, (fleet, stranger.addr)));
        row("cancel the proposal", OPERATOR, at_, abi.encodeCall(registry.cancelOperator, (fleet)));
        row("accept", PROPOSED_OPERATOR, at_, abi.encodeCall(registry.acceptOperator, (fleet)));
        row("grant", OPERATOR, at_, abi.encodeCall(registry.grant, (fleet, keccak256("h"), FOREVER, 1)));
        IGrants.GrantTerms[] memory batch = new IGrants.GrantTerms[](2);
        batch[0] = IGrants.GrantTerms(keccak256("h"), FOREVER, 1);
        batch[1] = IGrants.GrantTerms(H, FOREVER, 1);
        row("grant a batch", OPERATOR, at_, abi.encodeCall(registry.grantBatch, (fleet, batch)));
        row("revoke a grant", OPERATOR, at_, abi.encodeCall(registry.revokeGrant, (fleet, H)));
        vm.assertEq(cells, 8 * ROLES);
    }

    function test_devices() public {
        address at_ = address(registry);
        ISigned.Signature memory yes = consent(next, next.addr, fleet, operator.addr, FOREVER);
        ISigned.Signature memory no = consent(operator, next.addr, fleet, operator.addr, FOREVER);
        row("enrol", OPERATOR, at_, abi.encodeCall(registry.enrol, (fleet, next.addr, FOREVER, SOON, yes)));
        row(
            "enrol without consent",
            NOBODY,
            at_,
            abi.encodeCall(registry.enrol, (fleet, next.addr, FOREVER, SOON, no))
        );
        IDevices.Enrolment[] memory batch = new IDevices.Enrolment[](1);
        batch[0] = IDevices.Enrolment(next.addr, FOREVER, SOON, yes);
        row("enrol a batch", OPERATOR, at_, abi.encodeCall(registry.enrolBatch, (fleet, batch)));
        yes = consent(key, device.addr, foreignFleet, foreign.addr, FOREVER);
        row(
            "change fleet",
            NOBODY,
            at_,
            abi.encodeCall(registry.enrol, (foreignFleet, device.addr, FOREVER, SOON, yes))
        );
        yes = rotation(next, device.addr, key.addr, next.addr);
        row("rotate", CURRENT_KEY, at_, abi.encodeCall(registry.rotate, (device.addr, next.addr, SOON, yes)));
        no = rotation(key, device.addr, key.addr, next.addr);
        row(
            "rotate without the new key",
            NOBODY,
            at_,
            abi.encodeCall(registry.rotate, (device.addr, next.addr, SOON, no))
        );
        row("suspend", OPERATOR, at_, abi.encodeCall(registry.suspend, (device.addr)));
        row("resume", OPERATOR, at_, abi.encodeCall(registry.resume, (suspended.addr)));
        vm.warp(block.timestamp + 1);
        row("revoke", OPERATOR | CURRENT_KEY, at_, abi.encodeCall(registry.revoke, (device.addr)));
        row("revoke slowly", OPERATOR, at_, abi.encodeCall(registry.revoke, (slowDevice.addr)));
        row("cancel a revocation", OPERATOR, at_, abi.encodeCall(registry.cancelRevoke, (revoking.addr, FOREVER)));
        row("extend what is for ever", NOBODY, at_, abi.encodeCall(registry.extend, (device.addr, FOREVER)));
        Person memory short = person("short-lived");
        enrol(fleet, operator, short, uint40(block.timestamp + 1));
        row("extend", OPERATOR, at_, abi.encodeCall(registry.extend, (short.addr, FOREVER)));
        vm.assertEq(cells, 13 * ROLES);
    }

    function test_put() public {
        for (uint8 kind = 0; kind < 14; ++kind) {
            uint256 allowed = kind < Layout.NAME || kind > Layout.COMMITTEE
                ? NOBODY
                : kind < Layout.NODE ? NAME_REGISTRAR : NODE_STAKING;
            row("put", allowed, address(registry), abi.encodeCall(registry.put, (kind, H, H)));
        }
        vm.assertEq(cells, 14 * ROLES);
    }

    function test_names() public {
        address at_ = address(names);
        bytes32 commitment = names.commitmentOf(keccak256("abc-def"), stranger.addr, address(0), 0, GRACE, H);
        row("commit", ANYONE, at_, abi.encodeCall(names.commit, (commitment)));
        names.commit(commitment);
        vm.warp(block.timestamp + MIN_AGE);
        uint256 fee = names.fee("abc-def", GRACE);
        row(
            "register as committed",
            ANYONE,
            at_,
            fee,
            abi.encodeCall(names.register, ("abc-def", stranger.addr, address(0), 0, GRACE, H))
        );
        row("renew", ANYONE, at_, fee, abi.encodeCall(names.renew, ("sensor-7", GRACE)));
        row("transfer", NAME_OWNER, at_, abi.encodeCall(names.transfer, (HASH, stranger.addr)));
        row("set the target", NAME_OWNER, at_, abi.encodeCall(names.setTarget, (HASH, stranger.addr, 3)));
        row("set records", NAME_OWNER, at_, abi.encodeCall(names.setRecords, (HASH, H)));
        row("reverse name of a device", CURRENT_KEY, at_, abi.encodeCall(names.setReverse, (device.addr, HASH)));
        row("reverse name of a device's key", NOBODY, at_, abi.encodeCall(names.setReverse, (key.addr, HASH)));
        row("reverse name of an account", STRANGER, at_, abi.encodeCall(names.setReverse, (stranger.addr, HASH)));
        row("reverse name of who is suspended", NOBODY, at_, abi.encodeCall(names.setReverse, (suspended.addr, HASH)));
        row("pay the treasury", ANYONE, at_, abi.encodeCall(names.withdraw, ()));
        vm.assertEq(cells, 11 * ROLES);
    }

    function test_nodes() public {
        address at_ = address(staking);
        ISigned.Signature memory yes = nodeConsent(next, owner.addr);
        ISigned.Signature memory no = nodeConsent(owner, owner.addr);
        row("register", NODE_OWNER, at_, STAKE, abi.encodeCall(staking.register, (next.addr, FOREVER, yes)));
        row("register without consent", NOBODY, at_, STAKE, abi.encodeCall(staking.register, (next.addr, FOREVER, no)));
        row("unbond", NODE_OWNER, at_, abi.encodeCall(staking.unbond, (node.addr)));
        INodeStaking.Head memory a = head(5, keccak256("a"));
        INodeStaking.Head memory b = head(5, keccak256("b"));
        bytes memory report =
            abi.encodeCall(staking.reportTwoHeads, (node.addr, a, signHead(node, a), b, signHead(node, b)));
        row("report two heads", ANYONE, at_, report);
        INodeStaking.Head memory future = head(uint64(block.number) + 1, keccak256("a"));
        report = abi.encodeCall(staking.reportFalseHead, (node.addr, future, signHead(node, future)));
        row("report a false head", ANYONE, at_, report);
        vm.setBlockhash(block.number - 1, H);
        row("anchor", ANYONE, at_, abi.encodeCall(staking.anchor, (uint64(block.number - 1))));
        vm.warp((START / EPOCH + 30) * EPOCH);
        address[] memory members = new address[](1);
        members[0] = node.addr;
        uint32 epoch = uint32(block.timestamp / EPOCH) + 1;
        row("propose a committee", ANYONE, at_, abi.encodeCall(staking.proposeCommittee, (epoch, members)));
        row("release", NODE_OWNER, at_, abi.encodeCall(staking.release, (leaving.addr)));
        as_(owner);
        staking.release(leaving.addr);
        row("claim", NODE_OWNER, at_, abi.encodeCall(staking.claim, ()));
        vm.assertEq(cells, 9 * ROLES);
    }

    function test_channels() public {
        address at_ = address(settlement);
        row("open", OPERATOR, at_, 1, abi.encodeCall(settlement.openChannel, (fleet, leaving.addr, PRICE, CAP)));
        row("top up", OPERATOR, at_, 1, abi.encodeCall(settlement.topUp, (fleet, node.addr)));
        row("announce terms", OPERATOR, at_, abi.encodeCall(settlement.announceTerms, (fleet, node.addr, 0, 0)));
        row(
            "announce a withdrawal",
            OPERATOR,
            at_,
            abi.encodeCall(settlement.announceWithdrawal, (fleet, node.addr, 2))
        );
        row("vouch", OPERATOR, at_, abi.encodeCall(settlement.vouch, (fleet, node.addr, 2)));
        ISigned.Signature memory yes = voucher(operator, 2);
        row("redeem a voucher", ANYONE, at_, abi.encodeCall(settlement.redeem, (fleet, node.addr, 2, yes)));
        ISettlement.Ticket[] memory tickets = new ISettlement.Ticket[](1);
        tickets[0] = ticket(key, device.addr, GIB);
        row("settle a ticket", ANYONE, at_, abi.encodeCall(settlement.settle, (fleet, node.addr, tickets)));
        row("collect", NODE_OWNER, at_, abi.encodeCall(settlement.collect, (fleet, node.addr, owner.addr)));
        vm.warp(block.timestamp + 14 days);
        row("withdraw", OPERATOR, at_, abi.encodeCall(settlement.withdraw, (fleet, node.addr)));
        vm.assertEq(cells, 9 * ROLES);
    }

    // ---- by signature -----------------------------------------------------------------------------------------

    function test_what_operators_sign() public {
        uint40 until = FOREVER;
        signedRow(
            OPERATOR,
            of_(
                "Suspend(address device,uint40 nonce,uint40 deadline)",
                abi.encode(device.addr),
                registry.suspendBySig.selector
            )
        );
        signedRow(
            OPERATOR,
            of_(
                "Resume(address device,uint40 nonce,uint40 deadline)",
                abi.encode(suspended.addr),
                registry.resumeBySig.selector
            )
        );
        signedRow(
            OPERATOR,
            of_(
                "Revoke(address device,uint40 nonce,uint40 deadline)",
                abi.encode(device.addr),
                registry.revokeBySig.selector
            )
        );
        signedRow(
            OPERATOR,
            slowly(
                "CancelRevoke(address device,uint40 validUntil,uint40 nonce,uint40 deadline)",
                abi.encode(revoking.addr, until),
                registry.cancelRevokeBySig.selector
            )
        );
        signedRow(
            OPERATOR,
            of_(
                "Grant(uint48 fleet,bytes32 h,uint40 expiry,uint8 rights,uint40 nonce,uint40 deadline)",
                abi.encode(fleet, H, until, 1),
                registry.grantBySig.selector
            )
        );
        signedRow(
            OPERATOR,
            of_(
                "RevokeGrant(uint48 fleet,bytes32 h,uint40 nonce,uint40 deadline)",
                abi.encode(fleet, H),
                registry.revokeGrantBySig.selector
            )
        );
        signedRow(
            OPERATOR,
            of_(
                "BumpPolicyEpoch(uint48 fleet,uint40 nonce,uint40 deadline)",
                abi.encode(fleet),
                registry.bumpPolicyEpochBySig.selector
            )
        );
        signedRow(
            OPERATOR,
            of_(
                "ProposeOperator(uint48 fleet,address operator,uint40 nonce,uint40 deadline)",
                abi.encode(fleet, stranger.addr),
                registry.proposeOperatorBySig.selector
            )
        );
        signedRow(
            OPERATOR,
            of_(
                "CancelOperator(uint48 fleet,uint40 nonce,uint40 deadline)",
                abi.encode(fleet),
                registry.cancelOperatorBySig.selector
            )
        );
        signedRow(
            PROPOSED_OPERATOR,
            of_(
                "AcceptOperator(uint48 fleet,uint40 nonce,uint40 deadline)",
                abi.encode(fleet),
                registry.acceptOperatorBySig.selector
            )
        );
        Person memory short = person("short-lived");
        enrol(fleet, operator, short, uint40(block.timestamp + 1));
        signedRow(
            OPERATOR,
            of_(
                "Extend(address device,uint40 validUntil,uint40 nonce,uint40 deadline)",
                abi.encode(short.addr, until),
                registry.extendBySig.selector
            )
        );
        vm.assertEq(cells, 11 * SIGNERS);
    }

    function test_what_keys_and_name_owners_sign() public {
        Statement memory own = of_(
            "RevokeOwn(address device,uint40 deadline)", abi.encode(device.addr), registry.revokeOwnBySig.selector
        );
        own.nonce = "";
        signedRow(CURRENT_KEY, own);
        signedRow(
            NAME_OWNER,
            forNames(
                "Transfer(bytes32 labelHash,address to,uint40 nonce,uint40 deadline)",
                abi.encode(HASH, stranger.addr),
                names.transferBySig.selector, 0
            )
        );
        signedRow(
            NAME_OWNER,
            forNames(
                "SetTarget(bytes32 labelHash,address target,uint8 kind,uint40 nonce,uint40 deadline)",
                abi.encode(HASH, stranger.addr, 3),
                names.setTargetBySig.selector, 0
            )
        );
        signedRow(
            NAME_OWNER,
            forNames(
                "SetRecords(bytes32 labelHash,bytes32 records,uint40 nonce,uint40 deadline)",
                abi.encode(HASH, H),
                names.setRecordsBySig.selector, 0
            )
        );
        string memory typed = "SetReverse(address subject,bytes32 labelHash,uint256 nonce,uint40 deadline)";
        signedRow(CURRENT_KEY, forNames(typed, abi.encode(device.addr, HASH), names.setReverseBySig.selector, 0));
        signedRow(STRANGER, forNames(typed, abi.encode(stranger.addr, HASH), names.setReverseBySig.selector, 0));
        vm.assertEq(cells, 6 * SIGNERS);
    }

    /// Of the two signatures of an enrolment and of a rotation, each is by whom it must be.
    function test_what_two_sign() public {
        ISigned.Signature memory yes = consent(next, next.addr, fleet, operator.addr, FOREVER);
        ISigned.Signature memory agreed = rotation(next, device.addr, key.addr, next.addr);
        for (uint256 i = 0; i < SIGNERS; ++i) {
            uint256 start = vm.snapshotState();
            ISigned.Signature memory s = consent(role(i), next.addr, fleet, operator.addr, FOREVER);
            bytes memory data = abi.encodeCall(registry.enrolBySig, (fleet, next.addr, FOREVER, SOON, yes, s));
            (bool done, bytes memory why) = address(registry).call(data);
            assertCell("enrol by signature", i, OPERATOR, done, why);
            undo(start);
            s = rotation(role(i), device.addr, key.addr, next.addr);
            start = vm.snapshotState();
            data = abi.encodeCall(registry.rotateBySig, (device.addr, next.addr, SOON, agreed, s));
            (done, why) = address(registry).call(data);
            assertCell("rotate by signature", i, CURRENT_KEY, done, why);
            undo(start);
        }
        vm.assertEq(cells, 2 * SIGNERS);
    }

    function of_(string memory typed, bytes memory words, bytes4 selector) internal view returns (Statement memory) {
        return forRegistry(typed, words, selector, fleet);
    }

    function slowly(string memory typed, bytes memory words, bytes4 selector)
        internal
        view
        returns (Statement memory)
    {
        return forRegistry(typed, words, selector, slow);
    }
}
