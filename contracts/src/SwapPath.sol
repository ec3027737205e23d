// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import {IVault} from "./interfaces/IVault.sol";

/// @title Reads the packed tokens of a swap path
library SwapPath {
    uint256 internal constant TOKEN_BYTES = 20;
    uint256 internal constant FEE_BYTES = 3;

    /// @notice Number of tokens in `path`, whose tokens lie `stride` bytes apart. Reverts unless it is a whole path.
    function countTokens(bytes calldata path, uint256 stride) internal pure returns (uint256 count) {
        uint256 length = path.length;
        if (length < stride + TOKEN_BYTES || (length - TOKEN_BYTES) % stride != 0) revert IVault.PathInvalid(length);
        count = (length - TOKEN_BYTES) / stride + 1;
    }

    /// @notice The token at `index` of a path that {countTokens} has accepted.
    function tokenAt(bytes calldata path, uint256 stride, uint256 index) internal pure returns (address token) {
        uint256 start = index * stride;
        token = address(bytes20(path[start:start + TOKEN_BYTES]));
    }

    /// @notice All tokens of a path of 20-byte tokens.
    function toTokens(bytes calldata path) internal pure returns (address[] memory tokens) {
        tokens = new address[](countTokens(path, TOKEN_BYTES));
        for (uint256 i = 0; i < tokens.length; ++i) {
            tokens[i] = tokenAt(path, TOKEN_BYTES, i);
        }
    }
}
