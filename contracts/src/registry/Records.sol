// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IRegistryRecords} from "../interfaces/IRegistry.sol";
import {Layout} from "../lib/Layout.sol";

/// @title Records
/// @notice Registry's storage: who may write which kind, and the one SSTORE. Knows nothing of what records mean.
abstract contract Records is IRegistryRecords {
    // The declared shape of the storage, for the compiler's `storageLayout`. It is read and written by `_read` and
    // `_write` alone, through `Layout`; the tests compare the two.
    mapping(address id => Layout.Device) internal device;
    mapping(address key => Layout.KeyUse) internal keyOf;
    mapping(uint48 number => Layout.Fleet) internal fleet;
    mapping(uint48 number => Layout.PendingOperator) internal pendingOperator;
    mapping(bytes32 g => Layout.Grant) internal grants;
    mapping(bytes32 labelHash => Layout.Name) internal name;
    mapping(bytes32 labelHash => Layout.NameOwner) internal nameOwner;
    mapping(bytes32 labelHash => bytes32) internal nameRecords;
    mapping(address subject => bytes32) internal reverse;
    mapping(address node => Layout.Node) internal node;
    mapping(address node => address) internal nodeOwner;
    mapping(uint32 epoch => bytes32) internal committee;
    uint48 internal fleetCount;

    /// @inheritdoc IRegistryRecords
    address public immutable nameRegistrar;
    /// @inheritdoc IRegistryRecords
    address public immutable nodeStaking;
    /// @inheritdoc IRegistryRecords
    address public immutable predecessor;

    constructor(address nameRegistrar_, address nodeStaking_, address predecessor_) {
        nameRegistrar = nameRegistrar_;
        nodeStaking = nodeStaking_;
        predecessor = predecessor_;
    }

    /// @inheritdoc IRegistryRecords
    function put(uint8 kind, bytes32 key, bytes32 value) external {
        if (kind < Layout.NAME || kind > Layout.COMMITTEE) revert UnknownKind();
        if (msg.sender != (kind < Layout.NODE ? nameRegistrar : nodeStaking)) revert NotWriter();
        _write(Layout.slotOf(kind, key), value);
    }

    /// @inheritdoc IRegistryRecords
    function get(uint8 kind, bytes32 key) external view returns (bytes32) {
        if (kind > Layout.FLEET_COUNT) revert UnknownKind();
        return _read(Layout.slotOf(kind, key));
    }

    function _read(bytes32 slot) internal view returns (bytes32 value) {
        assembly ("memory-safe") {
            value := sload(slot)
        }
    }

    /// The only SSTORE of Registry. A follower that applies every `Set` holds exactly this storage.
    function _write(bytes32 slot, bytes32 value) internal {
        if (_read(slot) == value) return;
        assembly ("memory-safe") {
            sstore(slot, value)
        }
        emit Set(slot, value);
    }
}
