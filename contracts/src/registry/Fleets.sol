// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IFleets} from "../interfaces/IRegistry.sol";
import {Eip712} from "../lib/Eip712.sol";
import {Layout} from "../lib/Layout.sol";
import {Records} from "./Records.sol";

/// @title Fleets
/// @notice Fleets and their operators, and the one place where an operator's authority is checked: `_byOperator` for a
/// call, `_bySignature` for a signed one, which spends the fleet's nonce.
abstract contract Fleets is Records, Eip712, IFleets {
    using Layout for bytes32;
    using Layout for uint48;
    using Layout for Layout.Fleet;
    using Layout for Layout.PendingOperator;

    /// How long a `slowRevoke` fleet has to notice a stolen operator key.
    uint40 internal constant SLOW_DELAY = 48 hours;

    bytes32 private constant BUMP_POLICY_EPOCH =
        keccak256("BumpPolicyEpoch(uint48 fleet,uint40 nonce,uint40 deadline)");
    bytes32 private constant PROPOSE_OPERATOR =
        keccak256("ProposeOperator(uint48 fleet,address operator,uint40 nonce,uint40 deadline)");
    bytes32 private constant CANCEL_OPERATOR =
        keccak256("CancelOperator(uint48 fleet,uint40 nonce,uint40 deadline)");
    bytes32 private constant ACCEPT_OPERATOR =
        keccak256("AcceptOperator(uint48 fleet,uint40 nonce,uint40 deadline)");

    /// @inheritdoc IFleets
    function createFleet(uint16 flags) external returns (uint48 number) {
        if (flags & ~Layout.SLOW_REVOKE != 0) revert UnknownFlags();
        bytes32 countSlot = Layout.slotOf(Layout.FLEET_COUNT, 0);
        number = uint48(uint256(_read(countSlot))) + 1;
        _write(countSlot, number.toKey());
        _writeFleet(number, Layout.Fleet(msg.sender, 1, 0, flags));
        emit FleetCreated(number, msg.sender, flags);
    }

    /// @inheritdoc IFleets
    function bumpPolicyEpoch(uint48 number) external {
        _bumpPolicyEpoch(number, _byOperator(number));
    }

    /// @inheritdoc IFleets
    function bumpPolicyEpochBySig(uint48 number, uint40 deadline, Signature calldata signature) external {
        _bumpPolicyEpoch(number, _bySignature(number, abi.encode(BUMP_POLICY_EPOCH, number), deadline, signature));
    }

    function _bumpPolicyEpoch(uint48 number, Layout.Fleet memory f) private {
        f.policyEpoch += 1;
        _writeFleet(number, f);
        emit PolicyEpochBumped(number, f.policyEpoch);
    }

    /// @inheritdoc IFleets
    function proposeOperator(uint48 number, address operator) external {
        _proposeOperator(number, operator, _byOperator(number));
    }

    /// @inheritdoc IFleets
    function proposeOperatorBySig(uint48 number, address operator, uint40 deadline, Signature calldata signature)
        external
    {
        bytes memory head = abi.encode(PROPOSE_OPERATOR, number, operator);
        _proposeOperator(number, operator, _bySignature(number, head, deadline, signature));
    }

    function _proposeOperator(uint48 number, address operator, Layout.Fleet memory f) private {
        if (operator == address(0)) revert ZeroAddress();
        uint40 acceptFrom = uint40(block.timestamp);
        if (_isSlow(f)) acceptFrom += SLOW_DELAY;
        _write(_pendingSlot(number), Layout.PendingOperator(operator, acceptFrom).pack());
        emit OperatorProposed(number, operator, acceptFrom);
    }

    /// @inheritdoc IFleets
    function cancelOperator(uint48 number) external {
        _byOperator(number);
        _cancelOperator(number);
    }

    /// @inheritdoc IFleets
    function cancelOperatorBySig(uint48 number, uint40 deadline, Signature calldata signature) external {
        _bySignature(number, abi.encode(CANCEL_OPERATOR, number), deadline, signature);
        _cancelOperator(number);
    }

    function _cancelOperator(uint48 number) private {
        bytes32 slot = _pendingSlot(number);
        if (_read(slot) == 0) revert NotPendingOperator();
        _write(slot, 0);
        emit OperatorProposalCancelled(number);
    }

    /// @inheritdoc IFleets
    function acceptOperator(uint48 number) external {
        Layout.PendingOperator memory pending = _read(_pendingSlot(number)).toPendingOperator();
        if (msg.sender != pending.operator) revert NotPendingOperator();
        _acceptOperator(number, pending);
    }

    /// @inheritdoc IFleets
    function acceptOperatorBySig(uint48 number, uint40 deadline, Signature calldata signature) external {
        Layout.PendingOperator memory pending = _read(_pendingSlot(number)).toPendingOperator();
        if (pending.operator == address(0)) revert NotPendingOperator();
        bytes memory head = abi.encode(ACCEPT_OPERATOR, number);
        _requireSigned(pending.operator, head, _fleet(number).nonce, deadline, signature);
        _acceptOperator(number, pending);
    }

    function _acceptOperator(uint48 number, Layout.PendingOperator memory pending) private {
        if (!_hasPassed(pending.acceptFrom)) revert TooEarly();
        Layout.Fleet memory f = _fleet(number);
        address previous = f.operator;
        f.operator = pending.operator;
        // Voids what the former operator signed and nobody sent, should the fleet ever return to it.
        f.nonce += 1;
        _writeFleet(number, f);
        _write(_pendingSlot(number), 0);
        emit OperatorChanged(number, previous, pending.operator);
    }

    /// The fleet, if the caller operates it.
    function _byOperator(uint48 number) internal view returns (Layout.Fleet memory f) {
        f = _fleet(number);
        if (msg.sender != f.operator) revert NotOperator();
    }

    /// The fleet, if its operator signed `head ‖ nonce ‖ deadline`. Spends the nonce before anything else happens.
    function _bySignature(uint48 number, bytes memory head, uint40 deadline, Signature calldata signature)
        internal
        returns (Layout.Fleet memory f)
    {
        f = _fleet(number);
        _requireSigned(f.operator, head, f.nonce, deadline, signature);
        f.nonce += 1;
        _writeFleet(number, f);
    }

    function _requireSigned(
        address signer,
        bytes memory head,
        uint40 nonce,
        uint40 deadline,
        Signature calldata signature
    ) private view {
        _requireBefore(deadline);
        _requireSignedBy(signer, keccak256(bytes.concat(head, abi.encode(nonce, deadline))), signature);
    }

    function _isSlow(Layout.Fleet memory f) internal pure returns (bool) {
        return f.flags & Layout.SLOW_REVOKE != 0;
    }

    function _fleet(uint48 number) internal view returns (Layout.Fleet memory) {
        return _read(Layout.slotOf(Layout.FLEET, number.toKey())).toFleet();
    }

    function _writeFleet(uint48 number, Layout.Fleet memory f) private {
        _write(Layout.slotOf(Layout.FLEET, number.toKey()), f.pack());
    }

    function _pendingSlot(uint48 number) private pure returns (bytes32) {
        return Layout.slotOf(Layout.PENDING_OPERATOR, number.toKey());
    }

    function _domainName() internal pure override returns (string memory, bytes32) {
        return ("Registry", keccak256("Registry"));
    }
}
