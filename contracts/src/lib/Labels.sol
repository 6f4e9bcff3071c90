// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title Labels
/// @notice The one grammar of names: `[a-z0-9-]`, 3 to 63 bytes, no hyphen at either edge, no `--` in 3rd and 4th
/// place (kept clear of IDNA's encoded labels). A label is refused or taken as it is, never mapped.
library Labels {
    uint256 internal constant MIN_BYTES = 3;
    uint256 internal constant MAX_BYTES = 63;

    /// Bit n is set when byte n may stand in a label: `-`, `0`–`9`, `a`–`z`.
    uint256 private constant ALLOWED = 1 << 0x2d | 0x3ff << 0x30 | 0x3ffffff << 0x61;

    function isLegal(bytes calldata label) internal pure returns (bool) {
        uint256 length = label.length;
        if (length < MIN_BYTES || length > MAX_BYTES) return false;
        if (label[0] == "-" || label[length - 1] == "-") return false;
        if (length > 3 && label[2] == "-" && label[3] == "-") return false;
        for (uint256 i = 0; i < length; ++i) {
            if (ALLOWED >> uint8(label[i]) & 1 == 0) return false;
        }
        return true;
    }
}
