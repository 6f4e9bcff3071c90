// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {INameRegistrar} from "./interfaces/INameRegistrar.sol";
import {IRegistryRecords} from "./interfaces/IRegistry.sol";
import {Eip712} from "./lib/Eip712.sol";
import {Labels} from "./lib/Labels.sol";
import {Layout} from "./lib/Layout.sol";

/// @title NameRegistrar
/// @notice Sells names and writes their records into Registry, which trusts it for kinds 5 to 8. Holds commitments,
/// reverse nonces and fees; nothing that a device must prove.
contract NameRegistrar is Eip712, INameRegistrar {
    using Layout for bytes32;
    using Layout for address;
    using Layout for Layout.Name;
    using Layout for Layout.NameOwner;

    bytes32 private constant TRANSFER =
        keccak256("Transfer(bytes32 labelHash,address to,uint40 nonce,uint40 deadline)");
    bytes32 private constant SET_TARGET =
        keccak256("SetTarget(bytes32 labelHash,address target,uint8 kind,uint40 nonce,uint40 deadline)");
    bytes32 private constant SET_RECORDS =
        keccak256("SetRecords(bytes32 labelHash,bytes32 records,uint40 nonce,uint40 deadline)");
    bytes32 private constant SET_REVERSE =
        keccak256("SetReverse(address subject,bytes32 labelHash,uint256 nonce,uint40 deadline)");

    uint256 private constant YEAR = 365 days;
    /// The longest a name can be held from now on: no name is for ever, and no expiry nears 2^40 − 1.
    uint256 private constant MAX_HELD = 100 * YEAR;

    IRegistryRecords private immutable REGISTRY;
    /// @inheritdoc INameRegistrar
    address public immutable treasury;
    uint40 private immutable MIN_AGE;
    uint40 private immutable MAX_AGE;
    uint40 private immutable GRACE;
    uint96 private immutable FEE_THREE;
    uint96 private immutable FEE_FOUR;
    uint96 private immutable FEE_FIVE;

    mapping(bytes32 commitment => uint40) private _committedAt;
    mapping(address signer => uint256) private _nonceOf;

    constructor(IRegistryRecords registry_, address treasury_, Ages memory ages_, Fees memory fees_) {
        if (ages_.min == 0 || ages_.max <= ages_.min) revert BadAges();
        REGISTRY = registry_;
        treasury = treasury_;
        (MIN_AGE, MAX_AGE, GRACE) = (ages_.min, ages_.max, ages_.grace);
        (FEE_THREE, FEE_FOUR, FEE_FIVE) = (fees_.three, fees_.four, fees_.five);
    }

    /// @inheritdoc INameRegistrar
    function commit(bytes32 commitment) external {
        uint40 made = _committedAt[commitment];
        if (made != 0 && !_hasPassed(made + MAX_AGE)) revert CommitmentLive();
        _committedAt[commitment] = uint40(block.timestamp);
        emit Committed(commitment);
    }

    /// @inheritdoc INameRegistrar
    function register(
        string calldata label,
        address owner,
        address target,
        uint8 kind,
        uint40 duration,
        bytes32 secret
    ) external payable {
        if (owner == address(0)) revert ZeroOwner();
        _requireTarget(target, kind);
        // Grace keeps a name from everyone else for nothing: were less than as much paid for, holding names would be free.
        if (duration < GRACE) revert BadDuration();
        _requireFee(label, duration);
        bytes32 labelHash = keccak256(bytes(label));
        _spendCommitment(commitmentOf(labelHash, owner, target, kind, duration, secret));

        Layout.Name memory n = _name(labelHash);
        bool isFirst = n.version == 0;
        if (!isFirst && !_hasPassed(uint256(n.expiry) + GRACE)) revert NameTaken();
        n = Layout.Name(target, _expiryFrom(block.timestamp, duration), kind, n.version + 1);
        _put(Layout.NAME, labelHash, n.pack());
        if (isFirst) {
            _put(Layout.NAME_OWNER, labelHash, owner.toKey());
        } else {
            _changeOwner(labelHash, _nameOwner(labelHash), owner);
        }
        emit NameRegistered(labelHash, owner, label, target, kind, n.expiry, n.version);
    }

    function _spendCommitment(bytes32 commitment) private {
        uint40 made = _committedAt[commitment];
        if (made == 0) revert NoCommitment();
        if (!_hasPassed(made + MIN_AGE)) revert CommitmentTooYoung();
        if (_hasPassed(made + MAX_AGE)) revert CommitmentTooOld();
        delete _committedAt[commitment];
    }

    /// @inheritdoc INameRegistrar
    function renew(string calldata label, uint40 duration) external payable {
        _requireFee(label, duration);
        bytes32 labelHash = keccak256(bytes(label));
        Layout.Name memory n = _name(labelHash);
        if (n.version == 0) revert NoSuchName();
        if (_hasPassed(uint256(n.expiry) + GRACE)) revert NameExpired();
        n.expiry = _expiryFrom(n.expiry, duration);
        _put(Layout.NAME, labelHash, n.pack());
        emit NameRenewed(labelHash, n.expiry);
    }

    /// @inheritdoc INameRegistrar
    function transfer(bytes32 labelHash, address to) external {
        (Layout.Name memory n, Layout.NameOwner memory o) = _byOwner(labelHash);
        _transfer(labelHash, to, n, o);
    }

    /// @inheritdoc INameRegistrar
    function transferBySig(bytes32 labelHash, address to, uint40 deadline, Signature calldata signature) external {
        bytes memory head = abi.encode(TRANSFER, labelHash, to);
        (Layout.Name memory n, Layout.NameOwner memory o) = _bySignature(labelHash, head, deadline, signature);
        // The change of owner raises the nonce that was signed.
        _transfer(labelHash, to, n, o);
    }

    function _transfer(bytes32 labelHash, address to, Layout.Name memory n, Layout.NameOwner memory o) private {
        if (to == address(0)) revert ZeroOwner();
        n = Layout.Name(address(0), n.expiry, 0, n.version + 1);
        _put(Layout.NAME, labelHash, n.pack());
        _changeOwner(labelHash, o, to);
        emit NameTransferred(labelHash, to, n.version);
    }

    /// The nonce rises with every change of owner, so what a former owner signed stays void should the name return.
    function _changeOwner(bytes32 labelHash, Layout.NameOwner memory o, address to) private {
        _put(Layout.NAME_OWNER, labelHash, Layout.NameOwner(to, o.nonce + 1).pack());
        _put(Layout.NAME_RECORDS, labelHash, 0);
    }

    /// @inheritdoc INameRegistrar
    function setTarget(bytes32 labelHash, address target, uint8 kind) external {
        (Layout.Name memory n,) = _byOwner(labelHash);
        _setTarget(labelHash, target, kind, n);
    }

    /// @inheritdoc INameRegistrar
    function setTargetBySig(
        bytes32 labelHash,
        address target,
        uint8 kind,
        uint40 deadline,
        Signature calldata signature
    ) external {
        bytes memory head = abi.encode(SET_TARGET, labelHash, target, kind);
        (Layout.Name memory n, Layout.NameOwner memory o) = _bySignature(labelHash, head, deadline, signature);
        _spendNonce(labelHash, o);
        _setTarget(labelHash, target, kind, n);
    }

    function _setTarget(bytes32 labelHash, address target, uint8 kind, Layout.Name memory n) private {
        _requireTarget(target, kind);
        (n.target, n.kind) = (target, kind);
        _put(Layout.NAME, labelHash, n.pack());
        emit TargetSet(labelHash, target, kind);
    }

    /// @inheritdoc INameRegistrar
    function setRecords(bytes32 labelHash, bytes32 records) external {
        _byOwner(labelHash);
        _setRecords(labelHash, records);
    }

    /// @inheritdoc INameRegistrar
    function setRecordsBySig(bytes32 labelHash, bytes32 records, uint40 deadline, Signature calldata signature)
        external
    {
        bytes memory head = abi.encode(SET_RECORDS, labelHash, records);
        (, Layout.NameOwner memory o) = _bySignature(labelHash, head, deadline, signature);
        _spendNonce(labelHash, o);
        _setRecords(labelHash, records);
    }

    function _setRecords(bytes32 labelHash, bytes32 records) private {
        _put(Layout.NAME_RECORDS, labelHash, records);
        emit RecordsSet(labelHash, records);
    }

    /// @inheritdoc INameRegistrar
    function setReverse(address subject, bytes32 labelHash) external {
        if (msg.sender != _keyOfSubject(subject)) revert NotSubject();
        _setReverse(subject, labelHash);
    }

    /// @inheritdoc INameRegistrar
    function setReverseBySig(address subject, bytes32 labelHash, uint40 deadline, Signature calldata signature)
        external
    {
        _requireBefore(deadline);
        address signer = _keyOfSubject(subject);
        uint256 nonce = _nonceOf[signer]++;
        bytes32 structHash = keccak256(abi.encode(SET_REVERSE, subject, labelHash, nonce, deadline));
        _requireSignedBy(signer, structHash, signature);
        _setReverse(subject, labelHash);
    }

    function _setReverse(address subject, bytes32 labelHash) private {
        _put(Layout.REVERSE, subject.toKey(), labelHash);
        emit ReverseSet(subject, labelHash);
    }

    /// Who speaks for `subject`: the current key of the active device it is; itself, if it is no device and nobody's key.
    function _keyOfSubject(address subject) private view returns (address) {
        Layout.Device memory d = _get(Layout.DEVICE, subject.toKey()).toDevice();
        if (d.status == Layout.NONE) {
            if (_get(Layout.KEY_OF, subject.toKey()) != 0) revert NotSubject();
            return subject;
        }
        if (d.status != Layout.ACTIVE || _hasPassed(d.validUntil)) revert NotSubject();
        return d.key;
    }

    /// @inheritdoc INameRegistrar
    function withdraw() external {
        uint256 amount = address(this).balance;
        emit Withdrawn(amount);
        // Nothing is left to protect during this call: no state depends on the balance.
        (bool paid,) = treasury.call{value: amount}("");
        if (!paid) revert PaymentRefused();
    }

    /// @inheritdoc INameRegistrar
    function fee(string calldata label, uint40 duration) public view returns (uint256) {
        if (!Labels.isLegal(bytes(label))) revert IllegalLabel();
        uint256 length = bytes(label).length;
        uint256 yearly = length == 3 ? FEE_THREE : length == 4 ? FEE_FOUR : FEE_FIVE;
        return (yearly * duration + YEAR - 1) / YEAR;
    }

    function _requireFee(string calldata label, uint40 duration) private {
        if (msg.value != fee(label, duration)) revert WrongFee();
    }

    /// @inheritdoc INameRegistrar
    function commitmentOf(
        bytes32 labelHash,
        address owner,
        address target,
        uint8 kind,
        uint40 duration,
        bytes32 secret
    ) public view returns (bytes32) {
        return keccak256(
            abi.encode(labelHash, owner, target, kind, duration, secret, block.chainid, address(this))
        );
    }

    /// @inheritdoc INameRegistrar
    function committedAt(bytes32 commitment) external view returns (uint40) {
        return _committedAt[commitment];
    }

    /// @inheritdoc INameRegistrar
    function nonceOf(address signer) external view returns (uint256) {
        return _nonceOf[signer];
    }

    /// @inheritdoc INameRegistrar
    function registry() external view returns (address) {
        return address(REGISTRY);
    }

    /// @inheritdoc INameRegistrar
    function ages() external view returns (Ages memory) {
        return Ages(MIN_AGE, MAX_AGE, GRACE);
    }

    /// @inheritdoc INameRegistrar
    function fees() external view returns (Fees memory) {
        return Fees(FEE_THREE, FEE_FOUR, FEE_FIVE);
    }

    /// The name and its owner, if it is held by the caller.
    function _byOwner(bytes32 labelHash) private view returns (Layout.Name memory n, Layout.NameOwner memory o) {
        (n, o) = _held(labelHash);
        if (msg.sender != o.owner) revert NotNameOwner();
    }

    /// The name and its owner, if it is held by who signed `head ‖ nonce ‖ deadline`.
    function _bySignature(bytes32 labelHash, bytes memory head, uint40 deadline, Signature calldata signature)
        private
        view
        returns (Layout.Name memory n, Layout.NameOwner memory o)
    {
        _requireBefore(deadline);
        (n, o) = _held(labelHash);
        _requireSignedBy(o.owner, keccak256(bytes.concat(head, abi.encode(o.nonce, deadline))), signature);
    }

    function _held(bytes32 labelHash) private view returns (Layout.Name memory n, Layout.NameOwner memory o) {
        n = _name(labelHash);
        if (n.version == 0) revert NoSuchName();
        if (_hasPassed(n.expiry)) revert NameExpired();
        o = _nameOwner(labelHash);
    }

    function _spendNonce(bytes32 labelHash, Layout.NameOwner memory o) private {
        o.nonce += 1;
        _put(Layout.NAME_OWNER, labelHash, o.pack());
    }

    function _requireTarget(address target, uint8 kind) private pure {
        bool isNone = target == address(0);
        if (isNone ? kind != 0 : kind < Layout.TARGET_DEVICE || kind > Layout.TARGET_ACCOUNT) revert BadTarget();
    }

    function _expiryFrom(uint256 start, uint40 duration) private view returns (uint40) {
        uint256 expiry = start + duration;
        if (duration == 0 || expiry > block.timestamp + MAX_HELD) revert BadDuration();
        return uint40(expiry);
    }

    function _name(bytes32 labelHash) private view returns (Layout.Name memory) {
        return _get(Layout.NAME, labelHash).toName();
    }

    function _nameOwner(bytes32 labelHash) private view returns (Layout.NameOwner memory) {
        return _get(Layout.NAME_OWNER, labelHash).toNameOwner();
    }

    function _get(uint8 kind, bytes32 key) private view returns (bytes32) {
        return REGISTRY.get(kind, key);
    }

    function _put(uint8 kind, bytes32 key, bytes32 value) private {
        REGISTRY.put(kind, key, value);
    }

    function _domainName() internal pure override returns (string memory, bytes32) {
        return ("NameRegistrar", keccak256("NameRegistrar"));
    }
}
