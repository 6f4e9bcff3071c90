// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title ERC-5267: how a wallet learns the EIP-712 domain of a contract.
interface IERC5267 {
    /// @notice Never emitted here: the domain is fixed.
    event EIP712DomainChanged();

    /// @notice The domain under which this contract takes signatures: name, version "1", chain id, itself.
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

/// @title ISigned
/// @notice A contract that takes EIP-712 signatures under the domain {its name, "1", chain id, its address}.
interface ISigned is IERC5267 {
    /// @notice An ECDSA signature over secp256k1. `v` is 27 or 28 and `s` in the lower half of the order (EIP-2).
    struct Signature {
        bytes32 r;
        bytes32 s;
        uint8 v;
    }

    /// The signature isn't by whom it must be, over this very statement, in its canonical form.
    error BadSignature();
    /// `block.timestamp` has reached the deadline the signer set.
    error DeadlinePassed();
}
