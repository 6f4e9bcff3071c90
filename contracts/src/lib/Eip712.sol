// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @notice An ECDSA signature over secp256k1. `v` is 27 or 28 and `s` in the lower half of the order (EIP-2).
struct Signature {
    bytes32 r;
    bytes32 s;
    uint8 v;
}

/// @title ERC-5267: how a wallet learns the EIP-712 domain of a contract.
interface IERC5267 {
    event EIP712DomainChanged();

    function eip712Domain()
        external
        view
        returns (
            bytes1 fields,
            string memory name,
            string memory version,
            uint256 chainId,
            address verifyingContract,
            bytes32 salt,
            uint256[] memory extensions
        );
}

/// @title Eip712
/// @notice The domain {name, "1", chain id, this contract} and the one place where a signature becomes a signer.
/// The domain is hashed on every use: it holds no immutable and stays right when a chain forks under a new id.
abstract contract Eip712 is IERC5267 {
    bytes32 private constant DOMAIN_TYPE =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant VERSION_HASH = keccak256("1");

    /// Half the order of secp256k1, rounded down: the largest `s` that EIP-2 admits.
    uint256 private constant MAX_S = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;

    /// The signature isn't by whom it must be, over this very statement, in its canonical form.
    error BadSignature();
    /// `block.timestamp` has reached the deadline the signer set.
    error DeadlinePassed();

    /// The domain's name: the contract's own.
    function _domainName() internal pure virtual returns (string memory);

    /// @inheritdoc IERC5267
    function eip712Domain()
        external
        view
        returns (bytes1, string memory, string memory, uint256, address, bytes32, uint256[] memory)
    {
        return (0x0f, _domainName(), "1", block.chainid, address(this), bytes32(0), new uint256[](0));
    }

    function _digest(bytes32 structHash) internal view returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(DOMAIN_TYPE, keccak256(bytes(_domainName())), VERSION_HASH, block.chainid, address(this))
        );
        return keccak256(abi.encodePacked(hex"1901", domain, structHash));
    }

    /// Whether `signature` over the statement is by `signer`. False for the zero signer, a high `s`, an odd `v`.
    function _isSignedBy(address signer, bytes32 digest, Signature calldata signature) internal pure returns (bool) {
        if (signer == address(0) || uint256(signature.s) > MAX_S) return false;
        // ecrecover answers zero for what it can't recover, and zero was refused above.
        return ecrecover(digest, signature.v, signature.r, signature.s) == signer;
    }

    function _requireSignedBy(address signer, bytes32 structHash, Signature calldata signature) internal view {
        if (!_isSignedBy(signer, _digest(structHash), signature)) revert BadSignature();
    }

    /// Expiry, one rule: a time has passed once `block.timestamp` reaches it.
    function _hasPassed(uint256 time) internal view returns (bool) {
        return block.timestamp >= time;
    }

    function _requireBefore(uint40 deadline) internal view {
        if (_hasPassed(deadline)) revert DeadlinePassed();
    }
}
