// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import {ISwapRouter02, ISwapRouterV2, ISwapRouterV3} from "./interfaces/ISwapRouters.sol";
import {IVault} from "./interfaces/IVault.sol";
import {SwapPath} from "./SwapPath.sol";

/// @title The kinds of router a vault can speak to
library SwapRouters {
    uint8 internal constant KIND_NONE = 0;
    uint8 internal constant KIND_UNISWAP_V3 = 1;
    uint8 internal constant KIND_UNISWAP_V2 = 2;
    uint8 internal constant KIND_UNISWAP_V3_ROUTER02 = 3;
    uint8 internal constant KIND_HIGHEST = KIND_UNISWAP_V3_ROUTER02;

    /// @notice Distance in bytes between two tokens of a path for this kind of router.
    function pathStride(uint8 kind) internal pure returns (uint256) {
        return kind == KIND_UNISWAP_V2 ? SwapPath.TOKEN_BYTES : SwapPath.TOKEN_BYTES + SwapPath.FEE_BYTES;
    }

    /// @notice The call that sells exactly `s.amountIn` and sends what it buys to this contract, and nowhere else.
    function encodeSwap(IVault.Swap calldata s, uint8 kind) internal view returns (bytes memory) {
        if (kind == KIND_UNISWAP_V2) {
            return abi.encodeCall(
                ISwapRouterV2.swapExactTokensForTokens,
                (s.amountIn, s.minAmountOut, SwapPath.toTokens(s.path), address(this), s.deadline)
            );
        }
        if (kind == KIND_UNISWAP_V3_ROUTER02) {
            return abi.encodeCall(
                ISwapRouter02.exactInput,
                (ISwapRouter02.ExactInputParams(s.path, address(this), s.amountIn, s.minAmountOut))
            );
        }
        return abi.encodeCall(
            ISwapRouterV3.exactInput,
            (ISwapRouterV3.ExactInputParams(s.path, address(this), s.deadline, s.amountIn, s.minAmountOut))
        );
    }
}
