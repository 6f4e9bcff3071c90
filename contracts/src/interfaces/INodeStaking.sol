// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ISigned} from "./ISigned.sol";

/// @title INodeStaking
/// @notice Nodes, their stake, the committees they form, and what they lose by signing a false head. The records lie in
/// Registry (kinds 9–11); here are the money, the best proposal per epoch and the anchored hashes.
///
/// A node is bonded from `register` on, unbonding from `unbond` on, and gone once its stake is released; convicted, it
/// is slashed for ever. Its owner is never cleared and its key never rotates.
///
/// EIP-712: the node's consent is in the domain {"NodeStaking", "1", chain id, this contract}; heads are in the domain
/// {"Windlass Head", "1", chain id, salt: genesis hash}, which names no contract.
/// ```
/// RegisterNode(address node,address owner,uint40 deadline)
/// Head(uint64 number,bytes32 hash,uint64 attestedAt,bytes32 nonce)
/// ```
interface INodeStaking is ISigned {
    /// @notice What a node says about a block. Only `number` and `hash` can convict.
    struct Head {
        uint64 number;
        bytes32 hash;
        uint64 attestedAt;
        bytes32 nonce;
    }

    /// @notice Seconds: the length of an epoch, how long a member must have been bonded, how long unbonding takes.
    struct Ages {
        uint40 epochLength;
        uint40 staked;
        uint40 unbonding;
    }

    /// @notice The node is bonded with `stake` from here on. Happens again if its owner returns after a release.
    event NodeRegistered(address indexed node, address indexed owner, uint96 stake);
    /// @notice The node leaves: no committee proposed from here on may list it, its stake is free from `unbondAt` on.
    event NodeUnbonding(address indexed node, uint40 unbondAt);
    /// @notice The node is gone; its owner may claim `stake`.
    event NodeReleased(address indexed node, address indexed owner, uint96 stake);
    /// @notice The node signed a false head: its stake is gone, `reward` is the reporter's to claim, the rest nobody's.
    event NodeSlashed(address indexed node, address indexed reporter, uint96 stake, uint96 reward);
    /// @notice The best proposal for `epoch` so far; replaces earlier ones. Counts only under a head of the second half
    /// of the epoch before.
    event CommitteeProposed(uint32 indexed epoch, address[] members);
    /// @notice The chain itself says that block `number` has `hash`.
    event Anchored(uint64 indexed number, bytes32 hash);
    /// @notice `by` was paid all it could claim.
    event Claimed(address indexed by, uint256 amount);

    /// The constructor's epoch length is zero.
    error BadAges();
    /// Less than `minStake()`, or more than fits.
    error BadStake();
    /// The node is bonded or unbonding.
    error NodeExists();
    /// The node was convicted, for ever.
    error NodeIsSlashed();
    /// The node belongs to somebody else.
    error NotNodeOwner();
    /// The node isn't bonded, or already unbonding.
    error NotBonded();
    /// The node isn't unbonding, or its time isn't over.
    error StillBonded();
    /// No node of this address was ever registered.
    error NoSuchNode();
    /// Two heads convict only when they have the same number and different hashes.
    error NoContradiction();
    /// This deployment can't judge heads by the chain: its `block.number` or BLOCKHASH isn't the headers'.
    error NumbersUnknown();
    /// Neither this contract nor the chain knows the hash of that block.
    error HashUnknown();
    /// The head says what the chain says.
    error HeadIsTrue();
    /// A proposal is for the next epoch, in the first half of the current one.
    error NotInTime();
    /// 1 to 16 members, strictly ascending.
    error BadCommittee();
    /// A member isn't bonded, not for long enough, unbonding or slashed.
    error NotEligible(address member);
    /// An earlier proposal has as much stake or more.
    error NotBetter();
    /// There is nothing to claim.
    error NothingToClaim();
    /// The receiver refused the payment.
    error PaymentRefused();

    /// @notice Bonds `node` for the caller, who sends the stake, with the node key's consent over `RegisterNode`. A node
    /// that was released can be bonded again by the same owner only.
    function register(address node, uint40 deadline, Signature calldata consent) external payable;

    /// @notice Starts the way out. By the node's owner.
    function unbond(address node) external;

    /// @notice Ends it, once `unbondAt` has passed: the stake is the owner's to claim. By the node's owner.
    function release(address node) external;

    /// @notice Convicts a node of signing two hashes for one number. Nonce and time don't matter.
    function reportTwoHeads(
        address node,
        Head calldata one,
        Signature calldata oneSignature,
        Head calldata other,
        Signature calldata otherSignature
    ) external;

    /// @notice Convicts a node of signing a block from the future, or a hash other than the one that was anchored or that
    /// the chain still knows. Silence of the chain convicts nobody.
    function reportFalseHead(address node, Head calldata head, Signature calldata signature) external;

    /// @notice Keeps the hash of a block for later reports, while the chain still knows it.
    function anchor(uint64 number) external;

    /// @notice Proposes the committee of the next epoch, in the first half of this one; the highest total stake stands.
    /// @param members Strictly ascending, at most 16. Stored as `keccak256(abi.encodePacked(members))`: of the addresses
    /// padded to 32 bytes each, in a row.
    function proposeCommittee(uint32 epoch, address[] calldata members) external;

    /// @notice Pays the caller what is claimable.
    function claim() external;

    /// @notice Wei that `who` may claim: released stake, rewards.
    function claimable(address who) external view returns (uint256);

    /// @notice The hash anchored for the block; zero if none.
    function anchored(uint64 number) external view returns (bytes32);

    /// @notice The registry that holds the records.
    function registry() external view returns (address);

    /// @notice The hash of block 0, the salt of the domain of heads. Fixed at construction.
    function genesisHash() external view returns (bytes32);

    /// @notice Whether `block.number` and BLOCKHASH are those of the headers here, as the deployer found out.
    function headerNumbers() external view returns (bool);

    /// @notice Wei a node must bond at least. Fixed at construction.
    function minStake() external view returns (uint96);

    /// @notice The periods of epochs, membership and unbonding. Fixed at construction.
    function ages() external view returns (Ages memory);
}
