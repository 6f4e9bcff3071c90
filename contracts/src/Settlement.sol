// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IRegistryRecords} from "./interfaces/IRegistry.sol";
import {ISettlement} from "./interfaces/ISettlement.sol";
import {Eip712} from "./lib/Eip712.sol";
import {Layout} from "./lib/Layout.sol";

/// @title Settlement
/// @notice Holds operators' deposits and pays nodes from them, on tickets and vouchers. Reads Registry, never writes it.
contract Settlement is Eip712, ISettlement {
    using Layout for bytes32;
    using Layout for address;
    using Layout for uint48;

    bytes32 private constant TICKET = keccak256(
        "Ticket(uint48 fleet,address node,address device,uint128 bytesTotal,uint64 connsTotal,uint64 issuedAt)"
    );
    bytes32 private constant VOUCHER = keccak256("Voucher(uint48 fleet,address node,uint256 total)");

    /// How long before they count other terms and withdrawals are announced.
    uint40 private constant NOTICE = 14 days;
    /// How long after a rotation tickets by retired keys still count.
    uint40 private constant RETIRED_KEY_WINDOW = 14 days;
    /// Prices are per 2^30 bytes; sums are kept in wei × 2^30 so that nothing is lost to rounding.
    uint256 private constant GIB_BITS = 30;

    struct Announced {
        uint96 pricePerGiB;
        uint64 maxBytesPerDevicePerDay;
        uint40 from;
    }

    struct Withdrawal {
        uint128 amount;
        uint40 from;
    }

    IRegistryRecords private immutable REGISTRY;

    mapping(uint48 fleet => mapping(address node => Channel)) private _channels;
    mapping(uint48 fleet => mapping(address node => Announced)) private _announced;
    mapping(uint48 fleet => mapping(address node => Withdrawal)) private _withdrawals;
    /// @inheritdoc ISettlement
    mapping(uint48 fleet => mapping(address node => mapping(address device => uint128))) public billed;

    constructor(IRegistryRecords registry_) {
        REGISTRY = registry_;
    }

    // ---- the operator's side ----------------------------------------------------------------------------------

    /// @inheritdoc ISettlement
    function openChannel(uint48 fleet, address node, uint96 pricePerGiB, uint64 maxBytesPerDevicePerDay)
        external
        payable
    {
        _requireOperator(fleet);
        if (_nodeOwner(node) == address(0)) revert NoSuchNode();
        Channel storage c = _channels[fleet][node];
        if (c.openedAt != 0) revert ChannelExists();
        c.deposit = _amount(msg.value);
        c.pricePerGiB = pricePerGiB;
        c.maxBytesPerDevicePerDay = maxBytesPerDevicePerDay;
        c.openedAt = uint40(block.timestamp);
        emit ChannelOpened(fleet, node, c.deposit, pricePerGiB, maxBytesPerDevicePerDay);
    }

    /// @inheritdoc ISettlement
    function topUp(uint48 fleet, address node) external payable {
        _requireOperator(fleet);
        Channel storage c = _open(fleet, node);
        uint128 amount = _amount(msg.value);
        c.deposit += amount;
        emit ToppedUp(fleet, node, amount);
    }

    /// @inheritdoc ISettlement
    function announceTerms(uint48 fleet, address node, uint96 pricePerGiB, uint64 maxBytesPerDevicePerDay)
        external
    {
        _requireOperator(fleet);
        _applyAnnounced(fleet, node, _open(fleet, node));
        uint40 from = uint40(block.timestamp) + NOTICE;
        _announced[fleet][node] = Announced(pricePerGiB, maxBytesPerDevicePerDay, from);
        emit TermsAnnounced(fleet, node, pricePerGiB, maxBytesPerDevicePerDay, from);
    }

    /// @inheritdoc ISettlement
    function announceWithdrawal(uint48 fleet, address node, uint128 amount) external {
        _requireOperator(fleet);
        _open(fleet, node);
        uint40 from = uint40(block.timestamp) + NOTICE;
        _withdrawals[fleet][node] = Withdrawal(amount, from);
        emit WithdrawalAnnounced(fleet, node, amount, from);
    }

    /// @inheritdoc ISettlement
    function withdraw(uint48 fleet, address node) external {
        _requireOperator(fleet);
        Channel storage c = _open(fleet, node);
        Withdrawal memory w = _withdrawals[fleet][node];
        if (w.from == 0 || !_hasPassed(w.from)) revert NoticeNotOver();
        uint128 free = c.deposit - _earned(c);
        uint128 amount = w.amount < free ? w.amount : free;
        if (amount == 0) revert NothingToWithdraw();
        delete _withdrawals[fleet][node];
        c.deposit -= amount;
        emit Withdrawn(fleet, node, amount);
        _pay(msg.sender, amount);
    }

    // ---- the node's side --------------------------------------------------------------------------------------

    /// @inheritdoc ISettlement
    function settle(uint48 fleet, address node, Ticket[] calldata tickets) external {
        Channel storage c = _open(fleet, node);
        _applyAnnounced(fleet, node, c);
        bytes32 domain = _domainSeparator();
        (uint256 cap, uint40 openedAt) = (c.maxBytesPerDevicePerDay, c.openedAt);
        uint256 bytesAdded = 0;
        for (uint256 i = 0; i < tickets.length; ++i) {
            Ticket calldata t = tickets[i];
            Layout.Device memory d = _get(Layout.DEVICE, t.device.toKey()).toDevice();
            if (d.status == Layout.NONE || d.fleet != fleet) revert ForeignDevice(t.device);
            _requireTicketSigned(d, _digest(domain, _ticketHash(fleet, node, t)), t);
            bytesAdded += _bill(fleet, node, t, cap * _daysOpen(openedAt, d.validUntil));
        }
        c.ticketSum += bytesAdded * c.pricePerGiB;
    }

    /// Raises what the device was billed to its ticket, at most to `limit`; answers by how much. Never down.
    function _bill(uint48 fleet, address node, Ticket calldata t, uint256 limit) private returns (uint256 added) {
        uint128 before = billed[fleet][node][t.device];
        // The smaller of the two fits 128 bits because the ticket's total does.
        uint128 next = t.bytesTotal < limit ? t.bytesTotal : uint128(limit);
        if (next <= before) return 0;
        billed[fleet][node][t.device] = next;
        emit TicketBilled(fleet, node, t.device, next);
        return next - before;
    }

    /// Days begun from the channel's opening until now or the device's end, whichever is first.
    function _daysOpen(uint40 openedAt, uint40 validUntil) private view returns (uint256) {
        uint256 end = _hasPassed(validUntil) ? validUntil : block.timestamp;
        return end <= openedAt ? 0 : (end - openedAt + 1 days - 1) / 1 days;
    }

    /// The current key signs; for a while after a rotation so may the first key and every rotated-to one.
    function _requireTicketSigned(Layout.Device memory d, bytes32 digest, Ticket calldata t) private view {
        if (_isSignedBy(d.key, digest, t.signature)) return;
        address signer = _signerOf(digest, t.signature);
        bool isItsKey = signer == t.device
            || _get(Layout.KEY_OF, signer.toKey()).toKeyUse().device == t.device;
        uint256 since = _get(Layout.KEY_OF, d.key.toKey()).toKeyUse().since;
        if (signer == address(0) || !isItsKey || _hasPassed(since + RETIRED_KEY_WINDOW)) revert BadTicket(t.device);
    }

    /// @inheritdoc ISettlement
    function redeem(uint48 fleet, address node, uint256 total, Signature calldata signature) external {
        _requireSignedBy(_operator(fleet), keccak256(abi.encode(VOUCHER, fleet, node, total)), signature);
        _redeem(fleet, node, total);
    }

    /// @inheritdoc ISettlement
    function vouch(uint48 fleet, address node, uint256 total) external {
        _requireOperator(fleet);
        _redeem(fleet, node, total);
    }

    function _redeem(uint48 fleet, address node, uint256 total) private {
        Channel storage c = _open(fleet, node);
        if (total <= c.voucherTotal) return;
        c.voucherTotal = total;
        emit VoucherRedeemed(fleet, node, total);
    }

    /// @inheritdoc ISettlement
    function collect(uint48 fleet, address node, address to) external {
        if (msg.sender != _nodeOwner(node)) revert NotNodeOwner();
        Channel storage c = _open(fleet, node);
        uint128 amount = _earned(c) - c.paid;
        if (amount == 0) revert NothingOwed();
        c.paid += amount;
        emit Collected(fleet, node, to, amount);
        _pay(to, amount);
    }

    // ---- views ------------------------------------------------------------------------------------------------

    /// @inheritdoc ISettlement
    function owed(uint48 fleet, address node) external view returns (uint128) {
        Channel storage c = _open(fleet, node);
        return _earned(c) - c.paid;
    }

    /// @inheritdoc ISettlement
    function channel(uint48 fleet, address node) external view returns (Channel memory c) {
        c = _open(fleet, node);
        Announced memory a = _announced[fleet][node];
        if (_isInForce(a)) {
            (c.pricePerGiB, c.maxBytesPerDevicePerDay) = (a.pricePerGiB, a.maxBytesPerDevicePerDay);
        }
    }

    /// @inheritdoc ISettlement
    function registry() external view returns (address) {
        return address(REGISTRY);
    }

    // ---- what the rest stands on ------------------------------------------------------------------------------

    /// min(deposit, max(ticketSum >> 30, voucherTotal)). Never falls below `paid`: both sums only rise, and a withdrawal
    /// leaves the deposit at or above this.
    function _earned(Channel storage c) private view returns (uint128) {
        (uint256 byTickets, uint256 byVouchers, uint128 deposit) = (c.ticketSum >> GIB_BITS, c.voucherTotal, c.deposit);
        uint256 earned = byTickets > byVouchers ? byTickets : byVouchers;
        return earned < deposit ? uint128(earned) : deposit;
    }

    function _applyAnnounced(uint48 fleet, address node, Channel storage c) private {
        Announced memory a = _announced[fleet][node];
        if (!_isInForce(a)) return;
        (c.pricePerGiB, c.maxBytesPerDevicePerDay) = (a.pricePerGiB, a.maxBytesPerDevicePerDay);
        delete _announced[fleet][node];
    }

    function _isInForce(Announced memory a) private view returns (bool) {
        return a.from != 0 && _hasPassed(a.from);
    }

    function _open(uint48 fleet, address node) private view returns (Channel storage c) {
        c = _channels[fleet][node];
        if (c.openedAt == 0) revert NoSuchChannel();
    }

    function _ticketHash(uint48 fleet, address node, Ticket calldata t) private pure returns (bytes32) {
        return
            keccak256(abi.encode(TICKET, fleet, node, t.device, t.bytesTotal, t.connsTotal, t.issuedAt));
    }

    function _requireOperator(uint48 fleet) private view {
        if (msg.sender != _operator(fleet)) revert NotOperator();
    }

    function _operator(uint48 fleet) private view returns (address) {
        return _get(Layout.FLEET, fleet.toKey()).toFleet().operator;
    }

    function _nodeOwner(address node) private view returns (address) {
        return address(uint160(uint256(_get(Layout.NODE_OWNER, node.toKey()))));
    }

    function _get(uint8 kind, bytes32 key) private view returns (bytes32) {
        return REGISTRY.get(kind, key);
    }

    function _amount(uint256 value) private pure returns (uint128) {
        if (value > type(uint128).max) revert BadAmount();
        return uint128(value);
    }

    /// The last act of every payout: all state is written before.
    function _pay(address to, uint128 amount) private {
        (bool paid,) = to.call{value: amount}("");
        if (!paid) revert PaymentRefused();
    }

    function _domainName() internal pure override returns (string memory, bytes32) {
        return ("Settlement", keccak256("Settlement"));
    }
}
