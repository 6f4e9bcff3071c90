// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IGrants} from "../interfaces/IRegistry.sol";
import {Layout} from "../lib/Layout.sol";
import {Fleets} from "./Fleets.sol";

/// @title Grants
/// @notice Permissions of a fleet. The contract mixes the fleet's number into the key itself, so no other operator can
/// write or block a slot that a verifier will ever read for this fleet's devices.
abstract contract Grants is Fleets, IGrants {
    using Layout for Layout.Grant;

    bytes32 private constant GRANT =
        keccak256("Grant(uint48 fleet,bytes32 h,uint40 expiry,uint8 rights,uint40 nonce,uint40 deadline)");
    bytes32 private constant REVOKE_GRANT =
        keccak256("RevokeGrant(uint48 fleet,bytes32 h,uint40 nonce,uint40 deadline)");

    /// @inheritdoc IGrants
    function grant(uint48 number, bytes32 h, uint40 expiry, uint8 rights) external {
        _grant(number, _byOperator(number).policyEpoch, h, expiry, rights);
    }

    /// @inheritdoc IGrants
    function grantBySig(
        uint48 number,
        bytes32 h,
        uint40 expiry,
        uint8 rights,
        uint40 deadline,
        Signature calldata signature
    ) external {
        bytes memory head = abi.encode(GRANT, number, h, expiry, rights);
        _grant(number, _bySignature(number, head, deadline, signature).policyEpoch, h, expiry, rights);
    }

    /// @inheritdoc IGrants
    function grantBatch(uint48 number, GrantTerms[] calldata batch) external {
        uint40 policyEpoch = _byOperator(number).policyEpoch;
        for (uint256 i = 0; i < batch.length; ++i) {
            _grant(number, policyEpoch, batch[i].h, batch[i].expiry, batch[i].rights);
        }
    }

    function _grant(uint48 number, uint40 policyEpoch, bytes32 h, uint40 expiry, uint8 rights) private {
        if (rights == 0) revert ZeroRights();
        if (_hasPassed(expiry)) revert AlreadyExpired();
        _write(_grantSlot(number, h), Layout.Grant(expiry, policyEpoch, number, rights).pack());
        emit Granted(number, h, expiry, policyEpoch, rights);
    }

    /// @inheritdoc IGrants
    function revokeGrant(uint48 number, bytes32 h) external {
        _byOperator(number);
        _revokeGrant(number, h);
    }

    /// @inheritdoc IGrants
    function revokeGrantBySig(uint48 number, bytes32 h, uint40 deadline, Signature calldata signature) external {
        _bySignature(number, abi.encode(REVOKE_GRANT, number, h), deadline, signature);
        _revokeGrant(number, h);
    }

    function _revokeGrant(uint48 number, bytes32 h) private {
        bytes32 slot = _grantSlot(number, h);
        if (_read(slot) == 0) revert NoSuchGrant();
        _write(slot, 0);
        emit GrantRevoked(number, h);
    }

    function _grantSlot(uint48 number, bytes32 h) private pure returns (bytes32) {
        return Layout.slotOf(Layout.GRANT, keccak256(abi.encode(number, h)));
    }
}
