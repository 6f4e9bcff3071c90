// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IDevices, IRegistryRecords} from "../interfaces/IRegistry.sol";
import {Layout} from "../lib/Layout.sol";
import {Fleets} from "./Fleets.sol";

/// @title Enrolments
/// @notice How a device enters the registry and how its key is replaced: the two places where an address becomes taken.
/// A key serves once, ever, in this registry and in all it succeeds.
abstract contract Enrolments is Fleets, IDevices {
    using Layout for bytes32;
    using Layout for address;
    using Layout for Layout.Device;
    using Layout for Layout.KeyUse;

    bytes32 private constant ENROL =
        keccak256("Enrol(address device,uint48 fleet,address operator,uint40 validUntil,uint40 deadline)");
    bytes32 private constant ROTATE =
        keccak256("Rotate(address device,address oldKey,address newKey,uint40 deadline)");

    bytes4 private constant DONE = 0;

    /// @inheritdoc IDevices
    function enrol(uint48 number, address id, uint40 validUntil, uint40 deadline, Signature calldata consent)
        external
    {
        address operator = _byOperator(number).operator;
        bytes32 digest = _enrolDigest(_domainSeparator(), number, operator, id, validUntil, deadline);
        _revertWith(_enrol(number, id, validUntil, deadline, digest, consent));
    }

    /// @inheritdoc IDevices
    function enrolBySig(
        uint48 number,
        address id,
        uint40 validUntil,
        uint40 deadline,
        Signature calldata consent,
        Signature calldata signature
    ) external {
        address operator = _fleet(number).operator;
        bytes32 digest = _enrolDigest(_domainSeparator(), number, operator, id, validUntil, deadline);
        if (!_isSignedBy(operator, digest, signature)) revert BadSignature();
        _revertWith(_enrol(number, id, validUntil, deadline, digest, consent));
    }

    /// @inheritdoc IDevices
    function enrolBatch(uint48 number, Enrolment[] calldata enrolments) external returns (uint256 skipped) {
        address operator = _byOperator(number).operator;
        bytes32 domain = _domainSeparator();
        for (uint256 i = 0; i < enrolments.length; ++i) {
            Enrolment calldata e = enrolments[i];
            bytes32 digest = _enrolDigest(domain, number, operator, e.device, e.validUntil, e.deadline);
            bytes4 reason = _enrol(number, e.device, e.validUntil, e.deadline, digest, e.consent);
            if (reason == DONE) continue;
            emit EnrolmentSkipped(e.device, number, reason);
            ++skipped;
        }
    }

    /// Enrols, or answers the selector of the error that says why not, with nothing written.
    function _enrol(
        uint48 number,
        address id,
        uint40 validUntil,
        uint40 deadline,
        bytes32 digest,
        Signature calldata consent
    ) private returns (bytes4) {
        if (_hasPassed(deadline)) return DeadlinePassed.selector;
        if (_hasPassed(validUntil)) return AlreadyExpired.selector;
        bytes32 slot = _deviceSlot(id);
        if (_read(slot) != 0) return AlreadyEnrolled.selector;
        if (_read(_keySlot(id)) != 0) return KeyTaken.selector;
        (bytes4 refusal, address key) = _inheritedKey(id);
        if (refusal != DONE) return refusal;
        if (!_isSignedBy(key, digest, consent)) return BadSignature.selector;
        if (key != id) {
            if (_isTakenHere(key)) return KeyTaken.selector;
            _write(_keySlot(key), Layout.KeyUse(id, uint40(block.timestamp)).pack());
            emit KeyRotated(id, id, key);
        }
        _write(slot, Layout.Device(key, number, validUntil, Layout.ACTIVE).pack());
        emit Enrolled(id, number, validUntil);
        return DONE;
    }

    /// The key that must consent for `id`: its key in the latest predecessor that knows it, else the id itself.
    function _inheritedKey(address id) private view returns (bytes4 refusal, address key) {
        address p = predecessor;
        key = id;
        bool known = false;
        // As many rounds as there are generations of the product, fixed when this contract was deployed. The whole line
        // is asked, or a device revoked two generations ago and never carried over could return in the third.
        while (p != address(0)) {
            if (_ask(p, Layout.KEY_OF, id) != 0) return (KeyTaken.selector, key);
            if (!known) {
                Layout.Device memory d = _ask(p, Layout.DEVICE, id).toDevice();
                if (d.status == Layout.REVOKED || d.status == Layout.REVOKING) return (RevokedBefore.selector, key);
                known = d.status != Layout.NONE;
                if (known) key = d.key;
            }
            p = IRegistryRecords(p).predecessor();
        }
    }

    /// @inheritdoc IDevices
    function rotate(address id, address newKey, uint40 deadline, Signature calldata consent) external {
        Layout.Device memory d = _read(_deviceSlot(id)).toDevice();
        if (msg.sender != d.key) revert NotKey();
        bytes32 digest = _rotateDigest(id, d.key, newKey, deadline);
        _rotate(id, d, newKey, deadline, digest, consent);
    }

    /// @inheritdoc IDevices
    function rotateBySig(
        address id,
        address newKey,
        uint40 deadline,
        Signature calldata consent,
        Signature calldata signature
    ) external {
        Layout.Device memory d = _read(_deviceSlot(id)).toDevice();
        bytes32 digest = _rotateDigest(id, d.key, newKey, deadline);
        if (!_isSignedBy(d.key, digest, signature)) revert BadSignature();
        _rotate(id, d, newKey, deadline, digest, consent);
    }

    function _rotate(
        address id,
        Layout.Device memory d,
        address newKey,
        uint40 deadline,
        bytes32 digest,
        Signature calldata consent
    ) private {
        _requireBefore(deadline);
        if (d.status != Layout.ACTIVE || _hasPassed(d.validUntil)) revert NotActive();
        if (!_isSignedBy(newKey, digest, consent)) revert BadSignature();
        if (_isTakenHere(newKey) || _isTakenBefore(newKey)) revert KeyTaken();
        address oldKey = d.key;
        d.key = newKey;
        _write(_deviceSlot(id), d.pack());
        _write(_keySlot(newKey), Layout.KeyUse(id, uint40(block.timestamp)).pack());
        emit KeyRotated(id, oldKey, newKey);
    }

    function _isTakenHere(address key) private view returns (bool) {
        return _read(_deviceSlot(key)) != 0 || _read(_keySlot(key)) != 0;
    }

    /// Whether any predecessor holds the address as an id or a rotated-to key. An id not yet carried over is its device's
    /// to bring, so nobody may rotate onto it.
    function _isTakenBefore(address key) private view returns (bool) {
        for (address p = predecessor; p != address(0); p = IRegistryRecords(p).predecessor()) {
            if (_ask(p, Layout.DEVICE, key) != 0 || _ask(p, Layout.KEY_OF, key) != 0) return true;
        }
        return false;
    }

    function _ask(address registry, uint8 kind, address key) private view returns (bytes32) {
        return IRegistryRecords(registry).get(kind, key.toKey());
    }

    function _enrolDigest(
        bytes32 domain,
        uint48 number,
        address operator,
        address id,
        uint40 validUntil,
        uint40 deadline
    ) private pure returns (bytes32) {
        return _digest(domain, keccak256(abi.encode(ENROL, id, number, operator, validUntil, deadline)));
    }

    function _rotateDigest(address id, address oldKey, address newKey, uint40 deadline)
        private
        view
        returns (bytes32)
    {
        return _digest(_domainSeparator(), keccak256(abi.encode(ROTATE, id, oldKey, newKey, deadline)));
    }

    function _deviceSlot(address id) internal pure returns (bytes32) {
        return Layout.slotOf(Layout.DEVICE, id.toKey());
    }

    function _keySlot(address key) private pure returns (bytes32) {
        return Layout.slotOf(Layout.KEY_OF, key.toKey());
    }

    function _revertWith(bytes4 selector) private pure {
        if (selector == DONE) return;
        assembly ("memory-safe") {
            mstore(0x00, selector)
            revert(0x00, 0x04)
        }
    }
}
