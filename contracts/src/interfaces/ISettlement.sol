// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ISigned} from "./ISigned.sol";

/// @title ISettlement
/// @notice How relayed bytes are paid for: an operator's deposit per (fleet, node), devices' cumulative tickets, and the
/// operator's payment vouchers.
///
/// `deposit` is all paid in less all withdrawn. What the node has earned is the greater of what its tickets and its
/// vouchers say, and never more than the deposit; `owed` is that, less what it was paid. Terms and deposits change only
/// with 14 days' notice, so a node that settles every week loses nothing to a change.
///
/// EIP-712 domain {"Settlement", "1", chain id, this contract}:
/// ```
/// Ticket(uint48 fleet,address node,address device,uint128 bytesTotal,uint64 connsTotal,uint64 issuedAt)
/// Voucher(uint48 fleet,address node,uint256 total)
/// ```
interface ISettlement is ISigned {
    /// @notice What a device says it sent through the node since the beginning of time, and its signature over `Ticket`.
    struct Ticket {
        address device;
        uint128 bytesTotal;
        uint64 connsTotal;
        uint64 issuedAt;
        Signature signature;
    }

    /// @notice A channel's state. Amounts in wei, times in Unix seconds; terms are those in force now.
    struct Channel {
        uint128 deposit;
        uint128 paid;
        uint96 pricePerGiB;
        uint64 maxBytesPerDevicePerDay;
        uint40 openedAt;
        uint256 ticketSum;
        uint256 voucherTotal;
    }

    /// @notice The channel exists from here on, for ever.
    event ChannelOpened(
        uint48 indexed fleet,
        address indexed node,
        uint128 deposit,
        uint96 pricePerGiB,
        uint64 maxBytesPerDevicePerDay
    );
    /// @notice The deposit is larger by `amount`.
    event ToppedUp(uint48 indexed fleet, address indexed node, uint128 amount);
    /// @notice These terms are in force from `from` on, without another transaction, unless others are announced before.
    event TermsAnnounced(
        uint48 indexed fleet,
        address indexed node,
        uint96 pricePerGiB,
        uint64 maxBytesPerDevicePerDay,
        uint40 from
    );
    /// @notice The operator may withdraw up to `amount` from `from` on, at any time. A node counts on the rest only.
    event WithdrawalAnnounced(uint48 indexed fleet, address indexed node, uint128 amount, uint40 from);
    /// @notice The announced withdrawal was made: the deposit is smaller by `amount`, which is at most what was announced.
    event Withdrawn(uint48 indexed fleet, address indexed node, uint128 amount);
    /// @notice The device's `billed` bytes are paid for or owed.
    event TicketBilled(uint48 indexed fleet, address indexed node, address indexed device, uint128 billed);
    /// @notice By vouchers the node has earned `total` wei so far. Only ever rises.
    event VoucherRedeemed(uint48 indexed fleet, address indexed node, uint256 total);
    /// @notice The node's owner was paid `amount` of what was owed, to `to`.
    event Collected(uint48 indexed fleet, address indexed node, address to, uint128 amount);

    /// The caller or signer doesn't operate this fleet.
    error NotOperator();
    /// No node of this address was ever registered.
    error NoSuchNode();
    /// The caller doesn't own the node.
    error NotNodeOwner();
    /// The channel was opened before.
    error ChannelExists();
    /// There is no such channel.
    error NoSuchChannel();
    /// More wei than 128 bits hold.
    error BadAmount();
    /// The 14 days aren't over, or nothing was announced.
    error NoticeNotOver();
    /// Everything in the channel is owed or paid.
    error NothingToWithdraw();
    /// The node is owed nothing.
    error NothingOwed();
    /// The device belongs to another fleet, or to none.
    error ForeignDevice(address device);
    /// The ticket isn't signed by the device's key, nor by a retired one within 14 days of the rotation.
    error BadTicket(address device);
    /// The receiver refused the payment.
    error PaymentRefused();

    /// @notice Opens the channel with the payment as its deposit. By the fleet's operator.
    /// @param pricePerGiB Wei per 2^30 bytes.
    /// @param maxBytesPerDevicePerDay What one device can cost per day at most, however many tickets it signs.
    function openChannel(uint48 fleet, address node, uint96 pricePerGiB, uint64 maxBytesPerDevicePerDay)
        external
        payable;

    /// @notice Adds the payment to the deposit. By the fleet's operator.
    function topUp(uint48 fleet, address node) external payable;

    /// @notice Announces other terms; they replace announced ones that aren't in force yet. By the fleet's operator.
    function announceTerms(uint48 fleet, address node, uint96 pricePerGiB, uint64 maxBytesPerDevicePerDay) external;

    /// @notice Announces a withdrawal; it replaces an earlier one not yet made. By the fleet's operator.
    function announceWithdrawal(uint48 fleet, address node, uint128 amount) external;

    /// @notice Pays the operator what was announced, at most what isn't earned by the node. By the fleet's operator.
    function withdraw(uint48 fleet, address node) external;

    /// @notice Bills tickets of one channel, all or none. Repeating one changes nothing. By anyone.
    function settle(uint48 fleet, address node, Ticket[] calldata tickets) external;

    /// @notice Takes the operator's statement that the node has earned `total` so far. By anyone.
    /// @dev The signer is the fleet's operator now: vouchers of a former one are void, so a node redeems what it relies on,
    /// and watches Registry's `OperatorProposed`. Tickets don't depend on who the operator is.
    function redeem(uint48 fleet, address node, uint256 total, Signature calldata signature) external;

    /// @notice `redeem` without a signature, for operators that are contracts. By the fleet's operator.
    function vouch(uint48 fleet, address node, uint256 total) external;

    /// @notice Pays what the node is owed to `to`. By the node's owner.
    function collect(uint48 fleet, address node, address to) external;

    /// @notice Wei the node can collect now.
    function owed(uint48 fleet, address node) external view returns (uint128);

    /// @notice The channel's state, with the terms that are in force now.
    function channel(uint48 fleet, address node) external view returns (Channel memory);

    /// @notice Bytes of the device that the channel was billed for.
    function billed(uint48 fleet, address node, address device) external view returns (uint128);

    /// @notice The registry that is read.
    function registry() external view returns (address);
}
