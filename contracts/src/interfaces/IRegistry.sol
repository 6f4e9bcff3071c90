// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ISigned} from "./ISigned.sol";

/// @title IRegistryRecords
/// @notice The part of Registry that other contracts, followers and successor registries use: raw records by kind
/// and key, and the event from which the whole storage can be rebuilt.
interface IRegistryRecords {
    /// @notice The word at `slot` is `value` from here on.
    /// @dev The only event a follower needs. It may assume: every storage write of Registry emits exactly one `Set`,
    /// in the order of the writes; a write that changes nothing emits nothing; `value` zero means the leaf is gone
    /// from the storage trie; nothing else ever alters the storage. Applying all `Set` since deployment yields a map
    /// whose Merkle-Patricia root (over `keccak256(slot)`) is the account's `storageRoot`.
    event Set(bytes32 indexed slot, bytes32 value);

    /// `kind` isn't one of the layout, or isn't the caller's to write.
    error UnknownKind();
    /// Only NameRegistrar writes kinds 5 to 8, only NodeStaking kinds 9 to 11.
    error NotWriter();

    /// @notice Writes one record.
    /// @dev By NameRegistrar for kinds 5–8 and NodeStaking for kinds 9–11. The value isn't interpreted here.
    /// @param kind The record's kind, as in `Layout`.
    /// @param key The record's key, left-padded to 32 bytes.
    /// @param value The packed record; zero removes it.
    function put(uint8 kind, bytes32 key, bytes32 value) external;

    /// @notice The packed record of `kind` and `key`; zero when there is none.
    /// @dev The key of kind 12 (`fleetCount`) is ignored.
    function get(uint8 kind, bytes32 key) external view returns (bytes32);

    /// @notice The registry this one succeeds; zero when it is the first.
    function predecessor() external view returns (address);

    /// @notice The only contract that may write names.
    function nameRegistrar() external view returns (address);

    /// @notice The only contract that may write nodes and committees.
    function nodeStaking() external view returns (address);
}

/// @title IFleets
/// @notice A fleet is a group of devices under one operator, an account or a contract.
///
/// Signed variants carry the operator's EIP-712 signature and can be sent by anyone. Their structs end with
/// `uint40 nonce` (the fleet's, read from its record) and `uint40 deadline`, in this order:
/// ```
/// BumpPolicyEpoch(uint48 fleet,uint40 nonce,uint40 deadline)
/// ProposeOperator(uint48 fleet,address operator,uint40 nonce,uint40 deadline)
/// CancelOperator(uint48 fleet,uint40 nonce,uint40 deadline)
/// AcceptOperator(uint48 fleet,uint40 nonce,uint40 deadline)      signed by the proposed operator
/// ```
interface IFleets is ISigned {
    /// @notice A fleet exists from here on; numbers start at 1 and have no gaps. Flags never change.
    event FleetCreated(uint48 indexed fleet, address indexed operator, uint16 flags);
    /// @notice `operator` may take the fleet over from `acceptFrom` on. Replaces an earlier proposal.
    event OperatorProposed(uint48 indexed fleet, address indexed operator, uint40 acceptFrom);
    /// @notice No transfer is pending any more.
    event OperatorProposalCancelled(uint48 indexed fleet);
    /// @notice `operator` controls the fleet from here on, `previous` no longer does. Signed calls not yet sent are void.
    event OperatorChanged(uint48 indexed fleet, address indexed previous, address indexed operator);
    /// @notice Every grant of the fleet written under an earlier epoch is dead.
    event PolicyEpochBumped(uint48 indexed fleet, uint40 policyEpoch);

    /// The caller or signer doesn't operate this fleet; a fleet that doesn't exist has no operator.
    error NotOperator();
    /// A flag outside the layout.
    error UnknownFlags();
    /// The zero address can't be an operator or an owner.
    error ZeroAddress();
    /// No transfer is pending, or it is meant for somebody else.
    error NotPendingOperator();
    /// The 48 hours of a `slowRevoke` fleet aren't over.
    error TooEarly();
    /// A `validUntil` or `expiry` that isn't in the future.
    error AlreadyExpired();

    /// @notice Makes a fleet operated by the caller. Has no signed variant: nothing exists yet to hold a nonce.
    /// @param flags Bit 0, `slowRevoke`: see `revoke` and `proposeOperator`.
    /// @return fleet Its number.
    function createFleet(uint16 flags) external returns (uint48 fleet);

    /// @notice Kills every grant of the fleet at once. By the operator.
    function bumpPolicyEpoch(uint48 fleet) external;
    /// @notice `bumpPolicyEpoch`, sent by anyone, signed by the operator.
    function bumpPolicyEpochBySig(uint48 fleet, uint40 deadline, Signature calldata signature) external;

    /// @notice First step of a transfer, by the operator. Can be accepted at once, under `slowRevoke` after 48 h.
    function proposeOperator(uint48 fleet, address operator) external;
    /// @notice `proposeOperator`, sent by anyone, signed by the operator.
    function proposeOperatorBySig(uint48 fleet, address operator, uint40 deadline, Signature calldata signature)
        external;

    /// @notice Calls a pending transfer off. By the operator.
    function cancelOperator(uint48 fleet) external;
    /// @notice `cancelOperator`, sent by anyone, signed by the operator.
    function cancelOperatorBySig(uint48 fleet, uint40 deadline, Signature calldata signature) external;

    /// @notice Second step of a transfer, by the proposed operator.
    function acceptOperator(uint48 fleet) external;
    /// @notice `acceptOperator`, sent by anyone, signed by the proposed operator.
    function acceptOperatorBySig(uint48 fleet, uint40 deadline, Signature calldata signature) external;
}

/// @title IDevices
/// @notice Devices: enrolment, keys, validity. A device id is the address of the device's first key, for life.
///
/// EIP-712 structs. The first two are signed by both parties named beside them, the same words by each; they need no
/// nonce because an id enrols once and a key serves once, ever. The others are the operator's and carry the fleet's nonce.
/// ```
/// Enrol(address device,uint48 fleet,address operator,uint40 validUntil,uint40 deadline)   device's key; operator in enrolBySig
/// Rotate(address device,address oldKey,address newKey,uint40 deadline)                    new key; current key in rotateBySig
/// RevokeOwn(address device,uint40 deadline)                                               the device's current key
/// Suspend(address device,uint40 nonce,uint40 deadline)
/// Resume(address device,uint40 nonce,uint40 deadline)
/// Extend(address device,uint40 validUntil,uint40 nonce,uint40 deadline)
/// Revoke(address device,uint40 nonce,uint40 deadline)
/// CancelRevoke(address device,uint40 validUntil,uint40 nonce,uint40 deadline)
/// ```
interface IDevices is ISigned {
    /// @notice One device of a batch, with its consent to the `Enrol` statement.
    struct Enrolment {
        address device;
        uint40 validUntil;
        uint40 deadline;
        Signature consent;
    }

    /// @notice The device is active in `fleet` until `validUntil`. Happens once per device, ever. Its key is the id
    /// itself, unless a `KeyRotated` right before says which key it brings along from a predecessor.
    event Enrolled(address indexed device, uint48 indexed fleet, uint40 validUntil);
    /// @notice A batch left this device out; `reason` is the selector of the error a single enrolment would give.
    event EnrolmentSkipped(address indexed device, uint48 indexed fleet, bytes4 reason);
    /// @notice `newKey` is the device's key from here on; `oldKey` is nobody's, for ever.
    event KeyRotated(address indexed device, address indexed oldKey, address indexed newKey);
    /// @notice The device is denied everything until `Resumed`. Its `validUntil` goes on.
    event Suspended(address indexed device, uint48 indexed fleet);
    /// @notice The device is active again, if its `validUntil` hasn't passed.
    event Resumed(address indexed device, uint48 indexed fleet);
    /// @notice The device is valid until `validUntil`, which is later than before. Its status is as it was.
    event Extended(address indexed device, uint48 indexed fleet, uint40 validUntil);
    /// @notice A tombstone from here on. Nothing about the device changes ever again.
    event Revoked(address indexed device, uint48 indexed fleet);
    /// @notice Reads as suspended until `effectiveAt`, a tombstone from then on unless cancelled before.
    event Revoking(address indexed device, uint48 indexed fleet, uint40 effectiveAt);
    /// @notice Suspended again, valid until `validUntil`.
    event RevocationCancelled(address indexed device, uint48 indexed fleet, uint40 validUntil);

    /// The id was enrolled before; also after it was revoked.
    error AlreadyEnrolled();
    /// The address serves or served as another device's key, or as an id.
    error KeyTaken();
    /// A predecessor holds this id as revoked or revoking.
    error RevokedBefore();
    /// The caller isn't the device's current key.
    error NotKey();
    /// The caller is neither the fleet's operator nor the device's current key.
    error NotOperatorOrKey();
    /// No device of this id.
    error NotEnrolled();
    /// The device isn't active, or is past its `validUntil`.
    error NotActive();
    /// The device isn't suspended.
    error NotSuspended();
    /// `extend` only raises `validUntil`.
    error NotLater();
    /// The device is revoked, for ever.
    error DeviceRevoked();
    /// A revocation is under way.
    error AlreadyRevoking();
    /// No revocation is under way, or it has taken effect.
    error NotRevoking();

    /// @notice Enrols a device. By the fleet's operator, with the device's consent.
    /// @dev With a predecessor that knows the id, consent is by the key it has there, which stays its key.
    /// @param validUntil Unix seconds, in the future; 2^40 − 1 is no expiry.
    /// @param deadline Until when the consent may be used.
    /// @param consent Over `Enrol`, by the device's key.
    function enrol(uint48 fleet, address device, uint40 validUntil, uint40 deadline, Signature calldata consent)
        external;

    /// @notice `enrol` sent by anyone: `signature` is the operator's over the same `Enrol`.
    function enrolBySig(
        uint48 fleet,
        address device,
        uint40 validUntil,
        uint40 deadline,
        Signature calldata consent,
        Signature calldata signature
    ) external;

    /// @notice Enrols what it can and skips the rest, reporting each with `EnrolmentSkipped`. By the fleet's operator.
    /// @return skipped How many were left out.
    function enrolBatch(uint48 fleet, Enrolment[] calldata enrolments) external returns (uint256 skipped);

    /// @notice Replaces the device's key. By the current key, with the new key's consent over `Rotate`; never by the
    /// operator; only while the device is active and not expired.
    function rotate(address device, address newKey, uint40 deadline, Signature calldata consent) external;

    /// @notice `rotate` sent by anyone: `signature` is the current key's over the same `Rotate`.
    function rotateBySig(
        address device,
        address newKey,
        uint40 deadline,
        Signature calldata consent,
        Signature calldata signature
    ) external;

    /// @notice Pauses an active device. By the operator.
    function suspend(address device) external;
    /// @notice `suspend`, sent by anyone, signed by the operator.
    function suspendBySig(address device, uint40 deadline, Signature calldata signature) external;

    /// @notice Ends a suspension. By the operator.
    function resume(address device) external;
    /// @notice `resume`, sent by anyone, signed by the operator.
    function resumeBySig(address device, uint40 deadline, Signature calldata signature) external;

    /// @notice Raises `validUntil`, of an active or suspended device, expired or not. By the operator.
    function extend(address device, uint40 validUntil) external;
    /// @notice `extend`, sent by anyone, signed by the operator.
    function extendBySig(address device, uint40 validUntil, uint40 deadline, Signature calldata signature) external;

    /// @notice Makes the device a tombstone. By its current key: at once. By the operator: at once, under `slowRevoke`
    /// 48 h later (`Revoking`), until when it can be cancelled.
    function revoke(address device) external;
    /// @notice `revoke` signed by the operator.
    function revokeBySig(address device, uint40 deadline, Signature calldata signature) external;
    /// @notice `revoke` signed by the device's current key over `RevokeOwn`.
    function revokeOwnBySig(address device, uint40 deadline, Signature calldata signature) external;

    /// @notice Brings a revoking device back to suspended. By the operator, before the revocation takes effect.
    /// @param validUntil Unix seconds, in the future: the time it replaced isn't kept.
    function cancelRevoke(address device, uint40 validUntil) external;
    /// @notice `cancelRevoke`, sent by anyone, signed by the operator.
    function cancelRevokeBySig(address device, uint40 validUntil, uint40 deadline, Signature calldata signature)
        external;
}

/// @title IGrants
/// @notice Permissions, written by the operator of the target's fleet. The parties stay off chain: `h` is
/// `keccak256(abi.encode(uint8 targetKind, uint256 target, uint8 granteeKind, uint256 grantee, uint32 service))`, the
/// record's key is `g = keccak256(abi.encode(uint48 fleet, bytes32 h))`.
/// ```
/// Grant(uint48 fleet,bytes32 h,uint40 expiry,uint8 rights,uint40 nonce,uint40 deadline)
/// RevokeGrant(uint48 fleet,bytes32 h,uint40 nonce,uint40 deadline)
/// ```
interface IGrants is ISigned {
    /// @notice One grant of a batch.
    struct GrantTerms {
        bytes32 h;
        uint40 expiry;
        uint8 rights;
    }

    /// @notice The grant holds until `expiry`, while the fleet's epoch is `policyEpoch`. Replaces an earlier one of `h`.
    event Granted(uint48 indexed fleet, bytes32 indexed h, uint40 expiry, uint40 policyEpoch, uint8 rights);
    /// @notice The grant is gone.
    event GrantRevoked(uint48 indexed fleet, bytes32 indexed h);

    /// A grant must give something; take it back with `revokeGrant`.
    error ZeroRights();
    /// There is no such grant.
    error NoSuchGrant();

    /// @notice Writes a grant of the fleet. By its operator.
    /// @param expiry Unix seconds, in the future; 2^40 − 1 is no expiry.
    /// @param rights Bit 0: open. Not zero.
    function grant(uint48 fleet, bytes32 h, uint40 expiry, uint8 rights) external;
    /// @notice `grant`, sent by anyone, signed by the operator.
    function grantBySig(
        uint48 fleet,
        bytes32 h,
        uint40 expiry,
        uint8 rights,
        uint40 deadline,
        Signature calldata signature
    ) external;

    /// @notice Writes several grants of one fleet, all or none. By its operator.
    function grantBatch(uint48 fleet, GrantTerms[] calldata grants) external;

    /// @notice Removes a grant. By the fleet's operator.
    function revokeGrant(uint48 fleet, bytes32 h) external;
    /// @notice `revokeGrant`, sent by anyone, signed by the operator.
    function revokeGrantBySig(uint48 fleet, bytes32 h, uint40 deadline, Signature calldata signature) external;
}

/// @title IRegistry
/// @notice The one immutable contract that holds everything a device must prove. No proxy, no admin, no money.
/// EIP-712 domain: {"Registry", "1", chain id, this contract}.
interface IRegistry is IRegistryRecords, IFleets, IDevices, IGrants {}
