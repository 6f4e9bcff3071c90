// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title Layout
/// @notice The storage layout of Registry, byte by byte, and the only place that knows it. A device derives the same
/// slots and unpacks the same words from a storage proof, so nothing here can change once a Registry is deployed.
///
/// Every kind but the last is a mapping whose base slot is the kind's number: the record of `key` lies at
/// `keccak256(key ‖ kind)`, both as 32 bytes, big-endian. Fields are packed low bits first, as solc packs a struct;
/// bits above the last field are zero. Bit ranges, low bit first:
///
/// ```
/// kind                 key             0..                40..                80..           128.. / 160..
///  0 device            device id       key 0..160         fleet 160..208      validUntil 208..248   status 248..256
///  1 keyOf             key address     device 0..160      since 160..200
///  2 fleet             fleet number    operator 0..160    policyEpoch 160..200  nonce 200..240      flags 240..256
///  3 pendingOperator   fleet number    operator 0..160    acceptFrom 160..200
///  4 grant             g               expiry 0..40       policyEpoch 40..80  fleet 80..128         rights 128..136
///  5 name              label hash      target 0..160      expiry 160..200     kind 200..208         version 208..256
///  6 nameOwner         label hash      owner 0..160       nonce 160..200
///  7 nameRecords       label hash      digest 0..256
///  8 reverse           address         label hash 0..256
///  9 node              node address    stake 0..96        since 96..136       unbondAt 136..176     flags 176..192
/// 10 nodeOwner         node address    owner 0..160
/// 11 committee         epoch           digest 0..256
/// 12 fleetCount        (none: slot 12 itself)             count 0..48
/// ```
///
/// Addresses and numbers used as keys are left-padded to 32 bytes. Times are Unix seconds, 40 bits wide.
library Layout {
    uint8 internal constant DEVICE = 0;
    uint8 internal constant KEY_OF = 1;
    uint8 internal constant FLEET = 2;
    uint8 internal constant PENDING_OPERATOR = 3;
    uint8 internal constant GRANT = 4;
    uint8 internal constant NAME = 5;
    uint8 internal constant NAME_OWNER = 6;
    uint8 internal constant NAME_RECORDS = 7;
    uint8 internal constant REVERSE = 8;
    uint8 internal constant NODE = 9;
    uint8 internal constant NODE_OWNER = 10;
    uint8 internal constant COMMITTEE = 11;
    uint8 internal constant FLEET_COUNT = 12;

    /// The device's `status`: never seen, usable, paused by its operator, a tombstone, a tombstone from `validUntil` on.
    uint8 internal constant NONE = 0;
    uint8 internal constant ACTIVE = 1;
    uint8 internal constant SUSPENDED = 2;
    uint8 internal constant REVOKED = 3;
    uint8 internal constant REVOKING = 4;

    /// Fleet flag: an operator's revocation and an operator transfer take effect 48 h later and can be called off.
    uint16 internal constant SLOW_REVOKE = 1;

    /// A name's `kind`: what its target is. 0 goes with the zero target only.
    uint8 internal constant TARGET_DEVICE = 1;
    uint8 internal constant TARGET_NODE = 2;
    uint8 internal constant TARGET_ACCOUNT = 3;

    /// Node flag: convicted of signing a false head, for ever.
    uint16 internal constant SLASHED = 1;

    struct Device {
        address key;
        uint48 fleet;
        uint40 validUntil;
        uint8 status;
    }

    struct KeyUse {
        address device;
        uint40 since;
    }

    struct Fleet {
        address operator;
        uint40 policyEpoch;
        uint40 nonce;
        uint16 flags;
    }

    struct PendingOperator {
        address operator;
        uint40 acceptFrom;
    }

    struct Grant {
        uint40 expiry;
        uint40 policyEpoch;
        uint48 fleet;
        uint8 rights;
    }

    struct Name {
        address target;
        uint40 expiry;
        uint8 kind;
        uint48 version;
    }

    struct NameOwner {
        address owner;
        uint40 nonce;
    }

    struct Node {
        uint96 stake;
        uint40 since;
        uint40 unbondAt;
        uint16 flags;
    }

    /// @notice Where the record of `kind` and `key` lies.
    function slotOf(uint8 kind, bytes32 key) internal pure returns (bytes32 slot) {
        if (kind == FLEET_COUNT) return bytes32(uint256(FLEET_COUNT));
        assembly ("memory-safe") {
            // 0x00..0x40 is scratch space: nothing lives there between statements.
            mstore(0x00, key)
            mstore(0x20, kind)
            slot := keccak256(0x00, 0x40)
        }
    }

    function toKey(address a) internal pure returns (bytes32) {
        return bytes32(uint256(uint160(a)));
    }

    function toKey(uint48 number) internal pure returns (bytes32) {
        return bytes32(uint256(number));
    }

    function pack(Device memory r) internal pure returns (bytes32) {
        return bytes32(
            uint256(uint160(r.key)) | uint256(r.fleet) << 160 | uint256(r.validUntil) << 208
                | uint256(r.status) << 248
        );
    }

    function toDevice(bytes32 w) internal pure returns (Device memory) {
        uint256 x = uint256(w);
        return Device(address(uint160(x)), uint48(x >> 160), uint40(x >> 208), uint8(x >> 248));
    }

    function pack(KeyUse memory r) internal pure returns (bytes32) {
        return bytes32(uint256(uint160(r.device)) | uint256(r.since) << 160);
    }

    function toKeyUse(bytes32 w) internal pure returns (KeyUse memory) {
        uint256 x = uint256(w);
        return KeyUse(address(uint160(x)), uint40(x >> 160));
    }

    function pack(Fleet memory r) internal pure returns (bytes32) {
        return bytes32(
            uint256(uint160(r.operator)) | uint256(r.policyEpoch) << 160 | uint256(r.nonce) << 200
                | uint256(r.flags) << 240
        );
    }

    function toFleet(bytes32 w) internal pure returns (Fleet memory) {
        uint256 x = uint256(w);
        return Fleet(address(uint160(x)), uint40(x >> 160), uint40(x >> 200), uint16(x >> 240));
    }

    function pack(PendingOperator memory r) internal pure returns (bytes32) {
        return bytes32(uint256(uint160(r.operator)) | uint256(r.acceptFrom) << 160);
    }

    function toPendingOperator(bytes32 w) internal pure returns (PendingOperator memory) {
        uint256 x = uint256(w);
        return PendingOperator(address(uint160(x)), uint40(x >> 160));
    }

    function pack(Grant memory r) internal pure returns (bytes32) {
        return bytes32(
            uint256(r.expiry) | uint256(r.policyEpoch) << 40 | uint256(r.fleet) << 80 | uint256(r.rights) << 128
        );
    }

    function pack(Name memory r) internal pure returns (bytes32) {
        return bytes32(
            uint256(uint160(r.target)) | uint256(r.expiry) << 160 | uint256(r.kind) << 200
                | uint256(r.version) << 208
        );
    }

    function toName(bytes32 w) internal pure returns (Name memory) {
        uint256 x = uint256(w);
        return Name(address(uint160(x)), uint40(x >> 160), uint8(x >> 200), uint48(x >> 208));
    }

    function pack(NameOwner memory r) internal pure returns (bytes32) {
        return bytes32(uint256(uint160(r.owner)) | uint256(r.nonce) << 160);
    }

    function toNameOwner(bytes32 w) internal pure returns (NameOwner memory) {
        uint256 x = uint256(w);
        return NameOwner(address(uint160(x)), uint40(x >> 160));
    }

    function pack(Node memory r) internal pure returns (bytes32) {
        return bytes32(
            uint256(r.stake) | uint256(r.since) << 96 | uint256(r.unbondAt) << 136 | uint256(r.flags) << 176
        );
    }

    function toNode(bytes32 w) internal pure returns (Node memory) {
        uint256 x = uint256(w);
        return Node(uint96(x), uint40(x >> 96), uint40(x >> 136), uint16(x >> 176));
    }
}
