// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IRegistry} from "./interfaces/IRegistry.sol";
import {Devices} from "./registry/Devices.sol";
import {Grants} from "./registry/Grants.sol";
import {Records} from "./registry/Records.sol";

/// @title Registry
/// @notice Everything a device must prove, in one storage trie. Immutable: no proxy, no admin, no money, no way to
/// change a rule. A new version is a new contract that names this one as its predecessor.
///
/// `Records` owns the storage, `Fleets` the operator's authority, `Enrolments` and `Devices` the life of a device,
/// `Grants` the permissions.
contract Registry is Devices, Grants, IRegistry {
    /// @param nameRegistrar_ Predicted from the deployer's nonces: it names this contract in its own constructor.
    /// @param nodeStaking_ Predicted likewise.
    /// @param predecessor_ The registry this one succeeds, or zero.
    constructor(address nameRegistrar_, address nodeStaking_, address predecessor_)
        Records(nameRegistrar_, nodeStaking_, predecessor_)
    {}
}
