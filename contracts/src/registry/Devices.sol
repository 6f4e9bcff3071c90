// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IDevices} from "../interfaces/IRegistry.sol";
import {Layout} from "../lib/Layout.sol";
import {Enrolments} from "./Enrolments.sol";

/// @title Devices
/// @notice The validity of enrolled devices: suspend, resume, extend, revoke. A tombstone is never left.
abstract contract Devices is Enrolments {
    using Layout for bytes32;
    using Layout for Layout.Device;

    bytes32 private constant SUSPEND = keccak256("Suspend(address device,uint40 nonce,uint40 deadline)");
    bytes32 private constant RESUME = keccak256("Resume(address device,uint40 nonce,uint40 deadline)");
    bytes32 private constant EXTEND =
        keccak256("Extend(address device,uint40 validUntil,uint40 nonce,uint40 deadline)");
    bytes32 private constant REVOKE = keccak256("Revoke(address device,uint40 nonce,uint40 deadline)");
    bytes32 private constant CANCEL_REVOKE =
        keccak256("CancelRevoke(address device,uint40 validUntil,uint40 nonce,uint40 deadline)");
    bytes32 private constant REVOKE_OWN = keccak256("RevokeOwn(address device,uint40 deadline)");

    /// @inheritdoc IDevices
    function suspend(address id) external {
        Layout.Device memory d = _device(id);
        _byOperator(d.fleet);
        _suspend(id, d);
    }

    /// @inheritdoc IDevices
    function suspendBySig(address id, uint40 deadline, Signature calldata signature) external {
        Layout.Device memory d = _device(id);
        _bySignature(d.fleet, abi.encode(SUSPEND, id), deadline, signature);
        _suspend(id, d);
    }

    function _suspend(address id, Layout.Device memory d) private {
        if (d.status != Layout.ACTIVE) revert NotActive();
        d.status = Layout.SUSPENDED;
        _writeDevice(id, d);
        emit Suspended(id, d.fleet);
    }

    /// @inheritdoc IDevices
    function resume(address id) external {
        Layout.Device memory d = _device(id);
        _byOperator(d.fleet);
        _resume(id, d);
    }

    /// @inheritdoc IDevices
    function resumeBySig(address id, uint40 deadline, Signature calldata signature) external {
        Layout.Device memory d = _device(id);
        _bySignature(d.fleet, abi.encode(RESUME, id), deadline, signature);
        _resume(id, d);
    }

    function _resume(address id, Layout.Device memory d) private {
        if (d.status != Layout.SUSPENDED) revert NotSuspended();
        d.status = Layout.ACTIVE;
        _writeDevice(id, d);
        emit Resumed(id, d.fleet);
    }

    /// @inheritdoc IDevices
    function extend(address id, uint40 validUntil) external {
        Layout.Device memory d = _device(id);
        _byOperator(d.fleet);
        _extend(id, validUntil, d);
    }

    /// @inheritdoc IDevices
    function extendBySig(address id, uint40 validUntil, uint40 deadline, Signature calldata signature) external {
        Layout.Device memory d = _device(id);
        _bySignature(d.fleet, abi.encode(EXTEND, id, validUntil), deadline, signature);
        _extend(id, validUntil, d);
    }

    function _extend(address id, uint40 validUntil, Layout.Device memory d) private {
        if (d.status == Layout.REVOKED) revert DeviceRevoked();
        // Its validUntil is the time of its tombstone: raising that would be a way around `cancelRevoke`.
        if (d.status == Layout.REVOKING) revert AlreadyRevoking();
        if (validUntil <= d.validUntil) revert NotLater();
        if (_hasPassed(validUntil)) revert AlreadyExpired();
        d.validUntil = validUntil;
        _writeDevice(id, d);
        emit Extended(id, d.fleet, validUntil);
    }

    /// @inheritdoc IDevices
    function revoke(address id) external {
        Layout.Device memory d = _device(id);
        if (msg.sender == d.key) return _revokeAtOnce(id, d);
        Layout.Fleet memory f = _fleet(d.fleet);
        if (msg.sender != f.operator) revert NotOperatorOrKey();
        _revokeAsOperator(id, d, f);
    }

    /// @inheritdoc IDevices
    function revokeBySig(address id, uint40 deadline, Signature calldata signature) external {
        Layout.Device memory d = _device(id);
        _revokeAsOperator(id, d, _bySignature(d.fleet, abi.encode(REVOKE, id), deadline, signature));
    }

    /// @inheritdoc IDevices
    function revokeOwnBySig(address id, uint40 deadline, Signature calldata signature) external {
        Layout.Device memory d = _device(id);
        _requireBefore(deadline);
        _requireSignedBy(d.key, keccak256(abi.encode(REVOKE_OWN, id, deadline)), signature);
        _revokeAtOnce(id, d);
    }

    function _revokeAsOperator(address id, Layout.Device memory d, Layout.Fleet memory f) private {
        if (!_isSlow(f)) return _revokeAtOnce(id, d);
        if (d.status == Layout.REVOKED) revert DeviceRevoked();
        if (d.status == Layout.REVOKING) revert AlreadyRevoking();
        d.status = Layout.REVOKING;
        d.validUntil = uint40(block.timestamp) + SLOW_DELAY;
        _writeDevice(id, d);
        emit Revoking(id, d.fleet, d.validUntil);
    }

    function _revokeAtOnce(address id, Layout.Device memory d) private {
        if (_isTombstone(d)) revert DeviceRevoked();
        d.status = Layout.REVOKED;
        d.validUntil = uint40(block.timestamp);
        _writeDevice(id, d);
        emit Revoked(id, d.fleet);
    }

    /// @inheritdoc IDevices
    function cancelRevoke(address id, uint40 validUntil) external {
        Layout.Device memory d = _device(id);
        _byOperator(d.fleet);
        _cancelRevoke(id, validUntil, d);
    }

    /// @inheritdoc IDevices
    function cancelRevokeBySig(address id, uint40 validUntil, uint40 deadline, Signature calldata signature)
        external
    {
        Layout.Device memory d = _device(id);
        _bySignature(d.fleet, abi.encode(CANCEL_REVOKE, id, validUntil), deadline, signature);
        _cancelRevoke(id, validUntil, d);
    }

    function _cancelRevoke(address id, uint40 validUntil, Layout.Device memory d) private {
        if (d.status != Layout.REVOKING || _hasPassed(d.validUntil)) revert NotRevoking();
        if (_hasPassed(validUntil)) revert AlreadyExpired();
        d.status = Layout.SUSPENDED;
        d.validUntil = validUntil;
        _writeDevice(id, d);
        emit RevocationCancelled(id, d.fleet, validUntil);
    }

    function _isTombstone(Layout.Device memory d) private view returns (bool) {
        return d.status == Layout.REVOKED || (d.status == Layout.REVOKING && _hasPassed(d.validUntil));
    }

    function _device(address id) private view returns (Layout.Device memory d) {
        d = _read(_deviceSlot(id)).toDevice();
        if (d.status == Layout.NONE) revert NotEnrolled();
    }

    function _writeDevice(address id, Layout.Device memory d) private {
        _write(_deviceSlot(id), d.pack());
    }
}
