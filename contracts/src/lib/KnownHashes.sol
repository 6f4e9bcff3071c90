// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title KnownHashes
/// @notice What the chain itself says about its past blocks. Zero means that it says nothing, never that a hash is wrong.
library KnownHashes {
    /// EIP-2935: the last 8,191 hashes, in state.
    address internal constant HISTORY = 0x0000F90827F1C53a10cb7A02335B175320002935;

    /// @notice The hash of block `number`, or zero when it isn't known (yet, any more, or on this chain).
    function of_(uint64 number) internal view returns (bytes32 hash) {
        // BLOCKHASH answers zero for the current block, the future and all but the last 256.
        hash = blockhash(number);
        if (hash != 0) return hash;
        (bool done, bytes memory answer) = HISTORY.staticcall(abi.encode(uint256(number)));
        // A chain without the contract answers success and no bytes; one that has it only lately answers zero.
        if (done && answer.length == 32) hash = abi.decode(answer, (bytes32));
    }
}
