// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {INodeStaking} from "./interfaces/INodeStaking.sol";
import {IRegistryRecords} from "./interfaces/IRegistry.sol";
import {Eip712} from "./lib/Eip712.sol";
import {KnownHashes} from "./lib/KnownHashes.sol";
import {Layout} from "./lib/Layout.sol";

/// @title NodeStaking
/// @notice Bonds nodes, lets them go, punishes those that signed what isn't so, and writes who is on the committee.
/// Trusted by Registry for kinds 9 to 11. Convicts on evidence alone: nobody's word counts.
contract NodeStaking is Eip712, INodeStaking {
    using Layout for bytes32;
    using Layout for address;
    using Layout for Layout.Node;

    bytes32 private constant REGISTER_NODE = keccak256("RegisterNode(address node,address owner,uint40 deadline)");
    bytes32 private constant HEAD = keccak256("Head(uint64 number,bytes32 hash,uint64 attestedAt,bytes32 nonce)");
    bytes32 private constant HEAD_DOMAIN =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,bytes32 salt)");

    uint256 private constant MAX_MEMBERS = 16;
    /// The reporter's part of the stake, one in four: less than half, so that who controls a node can't buy itself out.
    uint96 private constant REWARD_DIVISOR = 4;

    IRegistryRecords private immutable REGISTRY;
    /// @inheritdoc INodeStaking
    bytes32 public immutable genesisHash;
    /// @inheritdoc INodeStaking
    bool public immutable headerNumbers;
    /// @inheritdoc INodeStaking
    uint96 public immutable minStake;
    uint40 private immutable EPOCH_LENGTH;
    uint40 private immutable STAKED_AGE;
    uint40 private immutable UNBONDING_AGE;

    /// @inheritdoc INodeStaking
    mapping(address who => uint256) public claimable;
    /// @inheritdoc INodeStaking
    mapping(uint64 number => bytes32) public anchored;
    mapping(uint32 epoch => uint256) private _bestStake;

    constructor(
        IRegistryRecords registry_,
        bytes32 genesisHash_,
        bool headerNumbers_,
        uint96 minStake_,
        Ages memory ages_
    ) {
        if (ages_.epochLength < 2) revert BadAges();
        if (minStake_ == 0) revert BadStake();
        REGISTRY = registry_;
        genesisHash = genesisHash_;
        headerNumbers = headerNumbers_;
        minStake = minStake_;
        (EPOCH_LENGTH, STAKED_AGE, UNBONDING_AGE) = (ages_.epochLength, ages_.staked, ages_.unbonding);
    }

    // ---- bonding ----------------------------------------------------------------------------------------------

    /// @inheritdoc INodeStaking
    function register(address node, uint40 deadline, Signature calldata consent) external payable {
        _requireBefore(deadline);
        if (msg.value < minStake || msg.value > type(uint96).max) revert BadStake();
        Layout.Node memory n = _node(node);
        if (n.flags & Layout.SLASHED != 0) revert NodeIsSlashed();
        if (n.stake != 0) revert NodeExists();
        address owner = _ownerOf(node);
        if (owner != address(0) && owner != msg.sender) revert NotNodeOwner();
        _requireSignedBy(node, keccak256(abi.encode(REGISTER_NODE, node, msg.sender, deadline)), consent);

        // Checked above to fit 96 bits.
        uint96 stake = uint96(msg.value);
        _writeNode(node, Layout.Node(stake, uint40(block.timestamp), 0, 0));
        _put(Layout.NODE_OWNER, node.toKey(), msg.sender.toKey());
        emit NodeRegistered(node, msg.sender, stake);
    }

    /// @inheritdoc INodeStaking
    function unbond(address node) external {
        if (msg.sender != _ownerOf(node)) revert NotNodeOwner();
        Layout.Node memory n = _node(node);
        if (n.stake == 0 || n.unbondAt != 0) revert NotBonded();
        n.unbondAt = uint40(block.timestamp) + UNBONDING_AGE;
        _writeNode(node, n);
        emit NodeUnbonding(node, n.unbondAt);
    }

    /// @inheritdoc INodeStaking
    function release(address node) external {
        if (msg.sender != _ownerOf(node)) revert NotNodeOwner();
        Layout.Node memory n = _node(node);
        if (n.stake == 0) revert NotBonded();
        if (n.unbondAt == 0 || !_hasPassed(n.unbondAt)) revert StillBonded();
        _put(Layout.NODE, node.toKey(), 0);
        claimable[msg.sender] += n.stake;
        emit NodeReleased(node, msg.sender, n.stake);
    }

    /// @inheritdoc INodeStaking
    function claim() external {
        uint256 amount = claimable[msg.sender];
        if (amount == 0) revert NothingToClaim();
        claimable[msg.sender] = 0;
        emit Claimed(msg.sender, amount);
        (bool paid,) = msg.sender.call{value: amount}("");
        if (!paid) revert PaymentRefused();
    }

    // ---- faults -----------------------------------------------------------------------------------------------

    /// @inheritdoc INodeStaking
    function reportTwoHeads(
        address node,
        Head calldata one,
        Signature calldata oneSignature,
        Head calldata other,
        Signature calldata otherSignature
    ) external {
        if (one.number != other.number || one.hash == other.hash) revert NoContradiction();
        _requireHeadBy(node, one, oneSignature);
        _requireHeadBy(node, other, otherSignature);
        _slash(node);
    }

    /// @inheritdoc INodeStaking
    function reportFalseHead(address node, Head calldata head, Signature calldata signature) external {
        if (!headerNumbers) revert NumbersUnknown();
        _requireHeadBy(node, head, signature);
        if (head.number <= block.number) {
            bytes32 known = anchored[head.number];
            if (known == 0) known = KnownHashes.of_(head.number);
            if (known == 0) revert HashUnknown();
            if (known == head.hash) revert HeadIsTrue();
        }
        _slash(node);
    }

    /// @inheritdoc INodeStaking
    function anchor(uint64 number) external {
        if (!headerNumbers) revert NumbersUnknown();
        if (anchored[number] != 0) return;
        bytes32 known = KnownHashes.of_(number);
        if (known == 0) revert HashUnknown();
        anchored[number] = known;
        emit Anchored(number, known);
    }

    function _requireHeadBy(address node, Head calldata head, Signature calldata signature) private view {
        bytes32 domain = keccak256(
            abi.encode(HEAD_DOMAIN, keccak256("Windlass Head"), keccak256("1"), block.chainid, genesisHash)
        );
        bytes32 structHash = keccak256(abi.encode(HEAD, head.number, head.hash, head.attestedAt, head.nonce));
        if (!_isSignedBy(node, _digest(domain, structHash), signature)) revert BadSignature();
    }

    /// One conviction, the full stake, for ever. What the reporter doesn't get stays here and is nobody's.
    function _slash(address node) private {
        if (_ownerOf(node) == address(0)) revert NoSuchNode();
        Layout.Node memory n = _node(node);
        if (n.flags & Layout.SLASHED != 0) revert NodeIsSlashed();
        (uint96 stake, uint96 reward) = (n.stake, n.stake / REWARD_DIVISOR);
        n.stake = 0;
        n.flags |= Layout.SLASHED;
        _writeNode(node, n);
        claimable[msg.sender] += reward;
        emit NodeSlashed(node, msg.sender, stake, reward);
    }

    // ---- committees -------------------------------------------------------------------------------------------

    /// @inheritdoc INodeStaking
    function proposeCommittee(uint32 epoch, address[] calldata members) external {
        if (epoch != block.timestamp / EPOCH_LENGTH + 1) revert NotInTime();
        if (block.timestamp % EPOCH_LENGTH >= EPOCH_LENGTH / 2) revert NotInTime();
        if (members.length == 0 || members.length > MAX_MEMBERS) revert BadCommittee();
        uint256 total = 0;
        address previous = address(0);
        for (uint256 i = 0; i < members.length; ++i) {
            if (members[i] <= previous) revert BadCommittee();
            previous = members[i];
            total += _eligibleStake(previous);
        }
        if (total <= _bestStake[epoch]) revert NotBetter();
        _bestStake[epoch] = total;
        _put(Layout.COMMITTEE, bytes32(uint256(epoch)), keccak256(abi.encodePacked(members)));
        emit CommitteeProposed(epoch, members);
    }

    function _eligibleStake(address member) private view returns (uint96) {
        Layout.Node memory n = _node(member);
        bool isEligible = n.stake != 0 && n.unbondAt == 0 && n.flags & Layout.SLASHED == 0
            && _hasPassed(uint256(n.since) + STAKED_AGE);
        if (!isEligible) revert NotEligible(member);
        return n.stake;
    }

    // ---- views and records ------------------------------------------------------------------------------------

    /// @inheritdoc INodeStaking
    function registry() external view returns (address) {
        return address(REGISTRY);
    }

    /// @inheritdoc INodeStaking
    function ages() external view returns (Ages memory) {
        return Ages(EPOCH_LENGTH, STAKED_AGE, UNBONDING_AGE);
    }

    function _node(address node) private view returns (Layout.Node memory) {
        return REGISTRY.get(Layout.NODE, node.toKey()).toNode();
    }

    function _ownerOf(address node) private view returns (address) {
        return address(uint160(uint256(REGISTRY.get(Layout.NODE_OWNER, node.toKey()))));
    }

    function _writeNode(address node, Layout.Node memory n) private {
        _put(Layout.NODE, node.toKey(), n.pack());
    }

    function _put(uint8 kind, bytes32 key, bytes32 value) private {
        REGISTRY.put(kind, key, value);
    }

    function _domainName() internal pure override returns (string memory, bytes32) {
        return ("NodeStaking", keccak256("NodeStaking"));
    }
}
