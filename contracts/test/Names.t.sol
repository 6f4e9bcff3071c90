// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {INameRegistrar} from "../src/interfaces/INameRegistrar.sol";
import {ISigned} from "../src/interfaces/ISigned.sol";
import {Layout} from "../src/lib/Layout.sol";
import {Signed} from "./Signed.sol";

/// @notice Names from commitment to expiry, and reverse names.
contract NamesTest is Signed {
    using Layout for bytes32;
    using Layout for address;

    string internal constant LABEL = "sensor-7";
    bytes32 internal constant HASH = keccak256("sensor-7");
    bytes32 internal constant SECRET = keccak256("secret");
    uint40 internal constant YEAR = 365 days;

    Person internal owner = person("owner");

    function setUp() public override {
        super.setUp();
        vm.deal(owner.addr, 100 ether);
    }

    function nameOf(bytes32 labelHash) internal view returns (Layout.Name memory) {
        return registry.get(Layout.NAME, labelHash).toName();
    }

    function ownerOf(bytes32 labelHash) internal view returns (Layout.NameOwner memory) {
        return registry.get(Layout.NAME_OWNER, labelHash).toNameOwner();
    }

    function commitTo(Person memory who, uint40 duration) internal {
        names.commit(names.commitmentOf(HASH, who.addr, device.addr, 1, duration, SECRET));
    }

    function register(Person memory payer, Person memory who, uint40 duration) internal {
        uint256 fee = names.fee(LABEL, duration);
        vm.prank(payer.addr);
        names.register{value: fee}(LABEL, who.addr, device.addr, 1, duration, SECRET);
    }

    function registerRefused(Person memory payer, Person memory who, uint40 duration, bytes4 rule) internal {
        uint256 fee = names.fee(LABEL, duration);
        refused(payer, rule);
        names.register{value: fee}(LABEL, who.addr, device.addr, 1, duration, SECRET);
    }

    function renew(uint40 duration) internal {
        uint256 fee = names.fee(LABEL, duration);
        vm.prank(stranger.addr);
        names.renew{value: fee}(LABEL, duration);
    }

    // ---- registration -----------------------------------------------------------------------------------------

    function test_commit_wait_register() public {
        commitTo(owner, YEAR);
        vm.warp(START + MIN_AGE);
        register(owner, owner, YEAR);
        Layout.Name memory n = nameOf(HASH);
        vm.assertEq(n.target, device.addr);
        vm.assertEq(uint256(n.kind), 1);
        vm.assertEq(uint256(n.version), 1);
        vm.assertEq(uint256(n.expiry), START + MIN_AGE + YEAR);
        vm.assertEq(ownerOf(HASH).owner, owner.addr);
        vm.assertEq(address(names).balance, FEE_FIVE);
        vm.assertEq(
            uint256(names.committedAt(names.commitmentOf(HASH, owner.addr, device.addr, 1, YEAR, SECRET))), 0
        );
    }

    function test_a_commitment_has_a_least_and_a_greatest_age() public {
        registerRefused(owner, owner, YEAR, INameRegistrar.NoCommitment.selector);
        commitTo(owner, YEAR);
        vm.warp(START + MIN_AGE - 1);
        registerRefused(owner, owner, YEAR, INameRegistrar.CommitmentTooYoung.selector);
        vm.warp(START + MAX_AGE);
        registerRefused(owner, owner, YEAR, INameRegistrar.CommitmentTooOld.selector);
        commitTo(owner, YEAR);
        vm.warp(START + MAX_AGE + MIN_AGE);
        register(owner, owner, YEAR);
        registerRefused(owner, owner, YEAR, INameRegistrar.NoCommitment.selector);
    }

    function test_a_front_run_or_overwritten_commitment_does_no_harm() public {
        // The thief sends the very commitment first, then tries to start its age anew.
        bytes32 commitment = names.commitmentOf(HASH, owner.addr, device.addr, 1, YEAR, SECRET);
        as_(stranger);
        names.commit(commitment);
        vm.warp(START + MAX_AGE - 1);
        refused(stranger, INameRegistrar.CommitmentLive.selector);
        names.commit(commitment);
        vm.assertEq(uint256(names.committedAt(commitment)), START);
        register(owner, owner, YEAR);
        vm.assertEq(ownerOf(HASH).owner, owner.addr);
    }

    function test_a_revealed_registration_can_only_be_repeated_for_its_owner() public {
        commitTo(owner, YEAR);
        vm.warp(START + MIN_AGE);
        // Seen in the mempool: for himself it isn't what was committed to; for the owner he pays the fee.
        registerRefused(stranger, stranger, YEAR, INameRegistrar.NoCommitment.selector);
        register(stranger, owner, YEAR);
        vm.assertEq(ownerOf(HASH).owner, owner.addr);
    }

    function test_a_commitment_binds_every_word() public {
        commitTo(owner, YEAR);
        vm.warp(START + MIN_AGE);
        bytes4 no = INameRegistrar.NoCommitment.selector;
        registerRefused(owner, owner, YEAR + 1, no);
        refused(owner, no);
        names.register{value: FEE_FIVE}(LABEL, owner.addr, stranger.addr, 1, YEAR, SECRET);
        refused(owner, no);
        names.register{value: FEE_FIVE}(LABEL, owner.addr, device.addr, 2, YEAR, SECRET);
        refused(owner, no);
        names.register{value: FEE_FIVE}(LABEL, owner.addr, device.addr, 1, YEAR, keccak256("other"));
        refused(owner, no);
        names.register{value: FEE_FIVE}("sensor-8", owner.addr, device.addr, 1, YEAR, SECRET);
        vm.chainId(1);
        registerRefused(owner, owner, YEAR, no);
    }

    function test_a_taken_name_is_not_registered_again_not_even_in_grace() public {
        registerName(owner, LABEL, device.addr, 1);
        uint40 expiry = nameOf(HASH).expiry;
        vm.warp(expiry - 1);
        commitTo(stranger, YEAR);
        vm.warp(expiry - 1 + MIN_AGE);
        registerRefused(stranger, stranger, YEAR, INameRegistrar.NameTaken.selector);
        vm.warp(expiry + GRACE - MIN_AGE);
        commitTo(stranger, YEAR + 1);
        vm.warp(expiry + GRACE - 1);
        registerRefused(stranger, stranger, YEAR, INameRegistrar.CommitmentTooOld.selector);
        vm.warp(expiry + GRACE);
        register(stranger, stranger, YEAR + 1);
        vm.assertEq(ownerOf(HASH).owner, stranger.addr);
    }

    /// Grace excludes everyone else for 30 days. Whoever wants that pays for as much first, or a second's fee a month
    /// would hold any name for ever.
    function test_a_name_is_not_squatted_for_the_price_of_a_second() public {
        commitTo(owner, 1);
        commitTo(owner, GRACE - 1);
        commitTo(owner, GRACE);
        vm.warp(START + MIN_AGE);
        registerRefused(owner, owner, 1, INameRegistrar.BadDuration.selector);
        registerRefused(owner, owner, GRACE - 1, INameRegistrar.BadDuration.selector);
        register(owner, owner, GRACE);
        vm.assertEq(uint256(nameOf(HASH).expiry), START + MIN_AGE + GRACE);
        // What is held can be held on for as short as one likes: grace doesn't grow by it.
        renew(1);
        vm.assertEq(uint256(nameOf(HASH).expiry), START + MIN_AGE + GRACE + 1);
    }

    function test_re_registration_clears_target_and_records_and_raises_version_and_nonce() public {
        registerName(owner, LABEL, device.addr, 1);
        as_(owner);
        names.setRecords(HASH, keccak256("records"));
        vm.warp(nameOf(HASH).expiry + GRACE);
        names.commit(names.commitmentOf(HASH, stranger.addr, address(0), 0, YEAR, SECRET));
        vm.warp(block.timestamp + MIN_AGE);
        as_(stranger);
        names.register{value: FEE_FIVE}(LABEL, stranger.addr, address(0), 0, YEAR, SECRET);
        vm.assertEq(nameOf(HASH).target, address(0));
        vm.assertEq(uint256(nameOf(HASH).version), 2);
        vm.assertEq(uint256(ownerOf(HASH).nonce), 1);
        vm.assertEq(registry.get(Layout.NAME_RECORDS, HASH), bytes32(0));
    }

    function test_register_refuses_bad_terms() public {
        refused(owner, INameRegistrar.ZeroOwner.selector);
        names.register{value: FEE_FIVE}(LABEL, address(0), device.addr, 1, YEAR, SECRET);
        refused(owner, INameRegistrar.BadTarget.selector);
        names.register{value: FEE_FIVE}(LABEL, owner.addr, device.addr, 0, YEAR, SECRET);
        refused(owner, INameRegistrar.BadTarget.selector);
        names.register{value: FEE_FIVE}(LABEL, owner.addr, device.addr, 4, YEAR, SECRET);
        refused(owner, INameRegistrar.BadTarget.selector);
        names.register{value: FEE_FIVE}(LABEL, owner.addr, address(0), 1, YEAR, SECRET);
        refused(owner, INameRegistrar.WrongFee.selector);
        names.register{value: FEE_FIVE - 1}(LABEL, owner.addr, device.addr, 1, YEAR, SECRET);
        refused(owner, INameRegistrar.WrongFee.selector);
        names.register{value: FEE_FIVE + 1}(LABEL, owner.addr, device.addr, 1, YEAR, SECRET);
        refused(owner, INameRegistrar.IllegalLabel.selector);
        names.register{value: FEE_FIVE}("Sensor-7", owner.addr, device.addr, 1, YEAR, SECRET);
        commitTo(owner, 0);
        commitTo(owner, 100 * YEAR + 1);
        vm.warp(START + MIN_AGE);
        registerRefused(owner, owner, 0, INameRegistrar.BadDuration.selector);
        registerRefused(owner, owner, 100 * YEAR + 1, INameRegistrar.BadDuration.selector);
    }

    // ---- labels and fees --------------------------------------------------------------------------------------

    function test_labels() public {
        string[8] memory legal = [
            "abc", "a-b", "000", "a--b", "x1-y2-z3", "zz9", "ab0-c",
            "0123456789012345678901234567890123456789012345678901234567890ab"
        ];
        for (uint256 i = 0; i < legal.length; ++i) {
            names.fee(legal[i], 1);
        }
        string[15] memory illegal = [
            "", "a", "ab", "-ab", "ab-", "ab--", "xn--abc", "aBc", "a_b", "a.b", "a b", unicode"äbc", "ab/", "ab{",
            "0123456789012345678901234567890123456789012345678901234567890abc"
        ];
        for (uint256 i = 0; i < illegal.length; ++i) {
            vm.expectRevert(INameRegistrar.IllegalLabel.selector);
            names.fee(illegal[i], 1);
        }
    }

    /// Every byte in every place, against the grammar said another way.
    function testFuzz_labels(bytes memory label, uint8 pick) public {
        vm.assume(label.length <= 70);
        // Mostly near-legal labels, or the fuzzer would only ever try hopeless ones.
        if (pick % 4 != 0) {
            bytes memory alphabet = "abcdefghijklmnopqrstuvwxyz0123456789-";
            for (uint256 i = 0; i < label.length; ++i) {
                label[i] = alphabet[uint8(label[i]) % alphabet.length];
            }
        }
        if (!isLegal(label)) vm.expectRevert(INameRegistrar.IllegalLabel.selector);
        names.fee(string(label), 1);
    }

    function isLegal(bytes memory label) internal pure returns (bool) {
        uint256 length = label.length;
        if (length < 3 || length > 63) return false;
        for (uint256 i = 0; i < length; ++i) {
            bytes1 c = label[i];
            bool isHyphen = c == "-";
            bool isAlphanumeric = (c >= "a" && c <= "z") || (c >= "0" && c <= "9");
            if (!isHyphen && !isAlphanumeric) return false;
            if (isHyphen && (i == 0 || i == length - 1)) return false;
            if (isHyphen && i == 3 && label[2] == "-") return false;
        }
        return true;
    }

    function test_fees_are_by_length_pro_rata_and_rounded_up() public view {
        vm.assertEq(names.fee("abc", YEAR), FEE_THREE);
        vm.assertEq(names.fee("abcd", YEAR), FEE_FOUR);
        vm.assertEq(names.fee("abcde", YEAR), FEE_FIVE);
        vm.assertEq(names.fee("abcde", 1), (uint256(FEE_FIVE) + YEAR - 1) / YEAR);
        vm.assertEq(names.fee("abcde", 2 * YEAR), 2 * uint256(FEE_FIVE));
    }

    function test_fees_go_to_the_treasury_alone() public {
        registerName(owner, LABEL, device.addr, 1);
        as_(stranger);
        names.withdraw();
        vm.assertEq(treasury.balance, FEE_FIVE);
        vm.assertEq(address(names).balance, 0);
    }

    function test_reentrancy_into_the_treasurys_payout_gains_nothing() public {
        Reenters thief = new Reenters();
        treasury = address(thief);
        (registry, names) = deploy(address(0));
        thief.watch(names);
        registerName(owner, LABEL, device.addr, 1);
        names.withdraw();
        vm.assertEq(address(thief).balance, FEE_FIVE);
        vm.assertEq(thief.entered(), 2);
    }

    function test_a_treasury_that_refuses_is_told() public {
        treasury = address(registry);
        (registry, names) = deploy(address(0));
        registerName(owner, LABEL, device.addr, 1);
        vm.expectRevert(INameRegistrar.PaymentRefused.selector);
        names.withdraw();
    }

    function test_contradictory_ages_are_refused() public {
        INameRegistrar.Fees memory fees = names.fees();
        vm.expectRevert(INameRegistrar.BadAges.selector);
        this.deployNames(INameRegistrar.Ages(0, 10, 1), fees);
        vm.expectRevert(INameRegistrar.BadAges.selector);
        this.deployNames(INameRegistrar.Ages(10, 10, 1), fees);
        this.deployNames(INameRegistrar.Ages(1, 2, 0), fees);
    }

    function deployNames(INameRegistrar.Ages calldata ages, INameRegistrar.Fees calldata fees) external {
        create("NameRegistrar", abi.encode(registry, treasury, ages, fees));
    }

    // ---- renewal, expiry, grace -------------------------------------------------------------------------------

    function test_anyone_renews_until_grace_ends() public {
        registerName(owner, LABEL, device.addr, 1);
        uint40 expiry = nameOf(HASH).expiry;
        vm.warp(expiry + GRACE - 1);
        renew(YEAR);
        vm.assertEq(uint256(nameOf(HASH).expiry), expiry + YEAR);
        vm.assertEq(nameOf(HASH).target, device.addr);
        vm.warp(expiry + YEAR + GRACE);
        uint256 fee = names.fee(LABEL, YEAR);
        refused(stranger, INameRegistrar.NameExpired.selector);
        names.renew{value: fee}(LABEL, YEAR);
    }

    function test_renew_refuses_bad_terms() public {
        uint256 fee = names.fee(LABEL, YEAR);
        refused(stranger, INameRegistrar.NoSuchName.selector);
        names.renew{value: fee}(LABEL, YEAR);
        registerName(owner, LABEL, device.addr, 1);
        refused(stranger, INameRegistrar.WrongFee.selector);
        names.renew{value: fee - 1}(LABEL, YEAR);
        refused(stranger, INameRegistrar.BadDuration.selector);
        names.renew(LABEL, 0);
        fee = names.fee(LABEL, 100 * YEAR);
        refused(stranger, INameRegistrar.BadDuration.selector);
        names.renew{value: fee}(LABEL, 100 * YEAR);
    }

    function test_in_grace_only_renewal_works() public {
        registerName(owner, LABEL, device.addr, 1);
        vm.warp(nameOf(HASH).expiry);
        bytes4 expired = INameRegistrar.NameExpired.selector;
        refused(owner, expired);
        names.transfer(HASH, stranger.addr);
        refused(owner, expired);
        names.setTarget(HASH, stranger.addr, 3);
        refused(owner, expired);
        names.setRecords(HASH, SECRET);
        renew(YEAR);
        as_(owner);
        names.setTarget(HASH, stranger.addr, 3);
    }

    function test_grace_period_theft() public {
        registerName(owner, LABEL, device.addr, 1);
        uint40 expiry = nameOf(HASH).expiry;
        vm.warp(expiry);
        commitTo(stranger, YEAR);
        vm.warp(expiry + MIN_AGE);
        registerRefused(stranger, stranger, YEAR, INameRegistrar.NameTaken.selector);
        renew(YEAR);
        vm.assertEq(ownerOf(HASH).owner, owner.addr);
    }

    // ---- the owner's acts -------------------------------------------------------------------------------------

    function test_only_the_owner_acts() public {
        bytes4 none = INameRegistrar.NoSuchName.selector;
        refused(owner, none);
        names.transfer(HASH, stranger.addr);
        refused(owner, none);
        names.setTarget(HASH, stranger.addr, 3);
        refused(owner, none);
        names.setRecords(HASH, SECRET);
        registerName(owner, LABEL, device.addr, 1);
        bytes4 no = INameRegistrar.NotNameOwner.selector;
        refused(stranger, no);
        names.transfer(HASH, stranger.addr);
        refused(stranger, no);
        names.setTarget(HASH, stranger.addr, 3);
        refused(stranger, no);
        names.setRecords(HASH, SECRET);
        // The target has no say over the name.
        refused(device, no);
        names.setTarget(HASH, stranger.addr, 3);
    }

    function test_target_and_records() public {
        registerName(owner, LABEL, device.addr, 1);
        as_(owner);
        names.setTarget(HASH, stranger.addr, 3);
        vm.assertEq(nameOf(HASH).target, stranger.addr);
        vm.assertEq(uint256(nameOf(HASH).kind), 3);
        vm.assertEq(uint256(nameOf(HASH).version), 1);
        refused(owner, INameRegistrar.BadTarget.selector);
        names.setTarget(HASH, address(0), 1);
        as_(owner);
        names.setTarget(HASH, address(0), 0);
        vm.assertEq(nameOf(HASH).target, address(0));
        as_(owner);
        names.setRecords(HASH, SECRET);
        vm.assertEq(registry.get(Layout.NAME_RECORDS, HASH), SECRET);
    }

    function test_transfer_clears_target_and_records_and_raises_version() public {
        registerName(owner, LABEL, device.addr, 1);
        as_(owner);
        names.setRecords(HASH, SECRET);
        refused(owner, INameRegistrar.ZeroOwner.selector);
        names.transfer(HASH, address(0));
        uint40 expiry = nameOf(HASH).expiry;
        as_(owner);
        names.transfer(HASH, stranger.addr);
        vm.assertEq(ownerOf(HASH).owner, stranger.addr);
        vm.assertEq(nameOf(HASH).target, address(0));
        vm.assertEq(uint256(nameOf(HASH).kind), 0);
        vm.assertEq(uint256(nameOf(HASH).version), 2);
        vm.assertEq(uint256(nameOf(HASH).expiry), expiry);
        vm.assertEq(registry.get(Layout.NAME_RECORDS, HASH), bytes32(0));
        refused(owner, INameRegistrar.NotNameOwner.selector);
        names.setTarget(HASH, owner.addr, 3);
    }

    // ---- signed -----------------------------------------------------------------------------------------------

    function byOwner(string memory typed, bytes memory words, bytes4 call, bytes4 replayRule) internal {
        registerName(owner, LABEL, device.addr, 1);
        assertOnlyBy(owner, forNames(typed, words, call, ownerOf(HASH).nonce), replayRule);
        vm.assertEq(uint256(ownerOf(HASH).nonce), 1);
    }

    function test_transferBySig() public {
        string memory typed = "Transfer(bytes32 labelHash,address to,uint40 nonce,uint40 deadline)";
        bytes memory words = abi.encode(HASH, stranger.addr);
        byOwner(typed, words, INameRegistrar.transferBySig.selector, ISigned.BadSignature.selector);
        vm.assertEq(ownerOf(HASH).owner, stranger.addr);
    }

    function test_setTargetBySig() public {
        string memory typed =
            "SetTarget(bytes32 labelHash,address target,uint8 kind,uint40 nonce,uint40 deadline)";
        bytes memory words = abi.encode(HASH, stranger.addr, uint8(3));
        byOwner(typed, words, INameRegistrar.setTargetBySig.selector, ISigned.BadSignature.selector);
        vm.assertEq(nameOf(HASH).target, stranger.addr);
    }

    function test_setRecordsBySig() public {
        string memory typed = "SetRecords(bytes32 labelHash,bytes32 records,uint40 nonce,uint40 deadline)";
        bytes memory words = abi.encode(HASH, SECRET);
        byOwner(typed, words, INameRegistrar.setRecordsBySig.selector, ISigned.BadSignature.selector);
        vm.assertEq(registry.get(Layout.NAME_RECORDS, HASH), SECRET);
    }

    function test_replay_after_the_name_went_away_and_came_back() public {
        registerName(owner, LABEL, device.addr, 1);
        string memory typed = "SetRecords(bytes32 labelHash,bytes32 records,uint40 nonce,uint40 deadline)";
        Statement memory s = forNames(typed, abi.encode(HASH, SECRET), INameRegistrar.setRecordsBySig.selector, 0);
        ISigned.Signature memory unsent = signatureOf(owner, s, SOON, address(names));
        as_(owner);
        names.transfer(HASH, stranger.addr);
        as_(stranger);
        names.transfer(HASH, owner.addr);
        assertRefused(s, SOON, unsent, ISigned.BadSignature.selector);
    }

    // ---- reverse names ----------------------------------------------------------------------------------------

    function test_a_reverse_name_is_set_by_who_it_is_about() public {
        refused(stranger, INameRegistrar.NotSubject.selector);
        names.setReverse(owner.addr, HASH);
        as_(owner);
        names.setReverse(owner.addr, HASH);
        vm.assertEq(registry.get(Layout.REVERSE, owner.addr.toKey()), HASH);
        as_(owner);
        names.setReverse(owner.addr, 0);
        vm.assertEq(registry.get(Layout.REVERSE, owner.addr.toKey()), bytes32(0));
    }

    function test_forged_reverse_name_of_a_device_by_retired_key_or_operator() public {
        fleetWithDevice(0);
        Person memory next = person("next");
        rotate(device, device, next);
        bytes4 no = INameRegistrar.NotSubject.selector;
        refused(device, no); // the first key, retired
        names.setReverse(device.addr, HASH);
        refused(operator, no);
        names.setReverse(device.addr, HASH);
        refused(next, no); // a key isn't a subject of its own
        names.setReverse(next.addr, HASH);
        as_(next);
        names.setReverse(device.addr, HASH);
        vm.assertEq(registry.get(Layout.REVERSE, device.addr.toKey()), HASH);
    }

    function test_a_device_that_is_not_active_sets_no_reverse_name() public {
        fleetWithDevice(0);
        bytes4 no = INameRegistrar.NotSubject.selector;
        as_(operator);
        registry.suspend(device.addr);
        refused(device, no);
        names.setReverse(device.addr, HASH);
        as_(operator);
        registry.resume(device.addr);
        vm.warp(START + 365 days);
        refused(device, no);
        names.setReverse(device.addr, HASH);
    }

    function test_setReverseBySig() public {
        fleetWithDevice(0);
        Person memory next = person("next");
        rotate(device, device, next);
        string memory typed = "SetReverse(address subject,bytes32 labelHash,uint256 nonce,uint40 deadline)";
        bytes memory words = abi.encode(device.addr, HASH);
        Statement memory s = forNames(typed, words, INameRegistrar.setReverseBySig.selector, 0);
        assertOnlyBy(next, s, ISigned.BadSignature.selector);
        vm.assertEq(registry.get(Layout.REVERSE, device.addr.toKey()), HASH);
        vm.assertEq(names.nonceOf(next.addr), 1);
    }
}

/// Takes its payment and asks for it again from within.
contract Reenters {
    INameRegistrar private names;
    uint256 public entered;

    function watch(INameRegistrar names_) external {
        names = names_;
    }

    receive() external payable {
        if (++entered < 2) names.withdraw();
    }
}
