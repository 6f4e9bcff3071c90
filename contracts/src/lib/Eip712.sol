// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC5267, ISigned} from "../interfaces/ISigned.sol";

/// @title Eip712
/// @notice The domain {name, "1", chain id, this contract} and the one place where a signature becomes a signer.
/// The domain is hashed on every use: it holds no immutable and stays right when a chain forks under a new id.
abstract contract Eip712 is ISigned {
    bytes32 private constant DOMAIN_TYPE =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant VERSION_HASH = keccak256("1");

    /// Half the order of secp256k1, rounded down: the largest `s` that EIP-2 admits.
    uint256 private constant MAX_S = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;

    /// The domain's name, the contract's own, and its keccak256, which the compiler then knows.
    function _domainName() internal pure virtual returns (string memory name, bytes32 nameHash);

    /// @inheritdoc IERC5267
    function eip712Domain()
        external
        view
        returns (bytes1, string memory, string memory, uint256, address, bytes32, uint256[] memory)
    {
        (string memory name,) = _domainName();
        return (0x0f, name, "1", block.chainid, address(this), bytes32(0), new uint256[](0));
    }

    function _domainSeparator() internal view returns (bytes32) {
        (, bytes32 nameHash) = _domainName();
        return keccak256(abi.encode(DOMAIN_TYPE, nameHash, VERSION_HASH, block.chainid, address(this)));
    }

    function _digest(bytes32 domain, bytes32 structHash) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", domain, structHash));
    }

    /// Who made the signature; zero for a high `s`, an odd `v`, or values that no key gives.
    function _signerOf(bytes32 digest, Signature calldata signature) internal pure returns (address) {
        if (uint256(signature.s) > MAX_S) return address(0);
        return ecrecover(digest, signature.v, signature.r, signature.s);
    }

    /// Whether the signature is by `signer`. The zero signer has none.
    function _isSignedBy(address signer, bytes32 digest, Signature calldata signature) internal pure returns (bool) {
        return signer != address(0) && _signerOf(digest, signature) == signer;
    }

    function _requireSignedBy(address signer, bytes32 structHash, Signature calldata signature) internal view {
        if (!_isSignedBy(signer, _digest(_domainSeparator(), structHash), signature)) revert BadSignature();
    }

    /// Expiry, one rule: a time has passed once `block.timestamp` reaches it.
    function _hasPassed(uint256 time) internal view returns (bool) {
        return block.timestamp >= time;
    }

    function _requireBefore(uint40 deadline) internal view {
        if (_hasPassed(deadline)) revert DeadlinePassed();
    }
}
