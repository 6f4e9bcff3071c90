// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ISigned} from "./ISigned.sol";

/// @title INameRegistrar
/// @notice Names: commit-reveal registration, yearly fees, expiry and grace, targets, records, reverse names. The
/// records lie in Registry (kinds 5–8); here are the commitments and the money.
///
/// A name is free, then held until its expiry, then in grace (only `renew` works), then free again.
///
/// EIP-712 domain {"NameRegistrar", "1", chain id, this contract}. The first three are the name owner's and carry the
/// name's nonce, which its record holds and nothing resets; the last is the subject's key's and carries its `nonceOf`:
/// ```
/// Transfer(bytes32 labelHash,address to,uint40 nonce,uint40 deadline)
/// SetTarget(bytes32 labelHash,address target,uint8 kind,uint40 nonce,uint40 deadline)
/// SetRecords(bytes32 labelHash,bytes32 records,uint40 nonce,uint40 deadline)
/// SetReverse(address subject,bytes32 labelHash,uint256 nonce,uint40 deadline)
/// ```
/// `commit`, `register` and `renew` name no sender: anyone may send them for the owner that the commitment binds.
interface INameRegistrar is ISigned {
    /// @notice How long a commitment must and may wait, and how long an expired name is kept for renewal; seconds.
    struct Ages {
        uint40 min;
        uint40 max;
        uint40 grace;
    }

    /// @notice Wei per year for labels of 3, 4, and 5 or more bytes.
    struct Fees {
        uint96 three;
        uint96 four;
        uint96 five;
    }

    /// @notice The commitment can be used from `ages().min` after this block on, until `ages().max` after it. Says nothing
    /// about which name it is for.
    event Committed(bytes32 indexed commitment);
    /// @notice The name is `owner`'s until `expiry`. Earlier target, records and signatures are void. The only event
    /// that carries the label.
    event NameRegistered(
        bytes32 indexed labelHash,
        address indexed owner,
        string label,
        address target,
        uint8 kind,
        uint40 expiry,
        uint48 version
    );
    /// @notice The name is held until `expiry`; nothing else about it changed.
    event NameRenewed(bytes32 indexed labelHash, uint40 expiry);
    /// @notice The name is `owner`'s; target and records are cleared.
    event NameTransferred(bytes32 indexed labelHash, address indexed owner, uint48 version);
    /// @notice The name points at `target` from here on; at nothing when it is zero.
    event TargetSet(bytes32 indexed labelHash, address indexed target, uint8 kind);
    /// @notice `records` is the keccak256 of an off-chain, signed record set; zero clears it.
    event RecordsSet(bytes32 indexed labelHash, bytes32 records);
    /// @notice The subject claims this name as its own. Counts only if the name forwards to the same subject.
    event ReverseSet(address indexed subject, bytes32 indexed labelHash);
    /// @notice All fees so far, `amount` wei, went to the treasury.
    event Withdrawn(uint256 amount);

    /// Not `[a-z0-9-]`, 3–63 bytes, hyphens inside only and not in both 3rd and 4th place.
    error IllegalLabel();
    /// The same commitment was made and is still usable; it can't be overwritten.
    error CommitmentLive();
    /// Nobody committed to exactly this registration.
    error NoCommitment();
    /// The commitment is younger than `ages().min`.
    error CommitmentTooYoung();
    /// The commitment is older than `ages().max`: commit again.
    error CommitmentTooOld();
    /// The name is held, or in grace.
    error NameTaken();
    /// The name has expired: only `renew` works, and only in grace.
    error NameExpired();
    /// There is no such name.
    error NoSuchName();
    /// The caller or signer doesn't own the name.
    error NotNameOwner();
    /// Zero, less than `ages().grace` when registering, or the name would be held for more than 100 years from now.
    error BadDuration();
    /// The payment isn't exactly `fee(label, duration)`.
    error WrongFee();
    /// Kind is 1 device, 2 node or 3 other account with a target, and 0 without.
    error BadTarget();
    /// The zero address can't own a name.
    error ZeroOwner();
    /// The caller isn't the subject, or not the current key of the device it is.
    error NotSubject();
    /// The constructor's ages are contradictory.
    error BadAges();
    /// The treasury refused the payment.
    error PaymentRefused();

    /// @notice Reserves nothing, but proves later that the name was asked for before it was revealed.
    function commit(bytes32 commitment) external;

    /// @notice Registers a free name as committed. The payment is exactly `fee(label, duration)`. By anyone: who sends it
    /// gains nothing, the name is the committed owner's.
    /// @param label The name, in clear from here on.
    /// @param owner Who will own it.
    /// @param target What it points at; zero for nothing yet.
    /// @param kind What the target is: 1 device, 2 node, 3 other account, 0 with no target.
    /// @param duration Seconds, at least `ages().grace`: grace keeps the name from others as long again.
    /// @param secret What kept the commitment from being guessed.
    function register(
        string calldata label,
        address owner,
        address target,
        uint8 kind,
        uint40 duration,
        bytes32 secret
    ) external payable;

    /// @notice Adds `duration` to the expiry, until the end of grace. By anyone; the payment is exactly the fee.
    function renew(string calldata label, uint40 duration) external payable;

    /// @notice Gives the name away and clears target and records. By its owner.
    function transfer(bytes32 labelHash, address to) external;
    /// @notice `transfer`, sent by anyone, signed by the owner over `Transfer`.
    function transferBySig(bytes32 labelHash, address to, uint40 deadline, Signature calldata signature) external;

    /// @notice Points the name at `target`; the zero address with kind 0 clears it. By its owner.
    function setTarget(bytes32 labelHash, address target, uint8 kind) external;
    /// @notice `setTarget`, sent by anyone, signed by the owner over `SetTarget`.
    function setTargetBySig(
        bytes32 labelHash,
        address target,
        uint8 kind,
        uint40 deadline,
        Signature calldata signature
    ) external;

    /// @notice Sets the digest of the name's off-chain records; zero clears it. By its owner.
    function setRecords(bytes32 labelHash, bytes32 records) external;
    /// @notice `setRecords`, sent by anyone, signed by the owner over `SetRecords`.
    function setRecordsBySig(bytes32 labelHash, bytes32 records, uint40 deadline, Signature calldata signature)
        external;

    /// @notice Sets the name that `subject` claims; zero clears it. By the current key if `subject` is an enrolled
    /// device, which must be active, else by `subject` itself.
    function setReverse(address subject, bytes32 labelHash) external;
    /// @notice `setReverse`, sent by anyone, signed by who may call it over `SetReverse` with that key's `nonceOf`.
    function setReverseBySig(address subject, bytes32 labelHash, uint40 deadline, Signature calldata signature)
        external;

    /// @notice Pays all fees to the treasury. By anyone.
    function withdraw() external;

    /// @notice Wei for holding `label` for `duration` seconds: the yearly fee of its length, pro rata, rounded up.
    function fee(string calldata label, uint40 duration) external view returns (uint256);

    /// @notice keccak256 of the ABI encoding of the arguments, the chain id and this contract.
    function commitmentOf(
        bytes32 labelHash,
        address owner,
        address target,
        uint8 kind,
        uint40 duration,
        bytes32 secret
    ) external view returns (bytes32);

    /// @notice When the commitment was made; zero if never or used up.
    function committedAt(bytes32 commitment) external view returns (uint40);

    /// @notice The nonce of the signer's next `SetReverse`.
    function nonceOf(address signer) external view returns (uint256);

    /// @notice The registry that holds the records.
    function registry() external view returns (address);

    /// @notice Who is paid the fees. Fixed at construction.
    function treasury() external view returns (address);

    /// @notice How long commitments and expired names last. Fixed at construction.
    function ages() external view returns (Ages memory);

    /// @notice What names cost per year. Fixed at construction.
    function fees() external view returns (Fees memory);
}
