// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {ISwapRouterV3} from "../../src/interfaces/ISwapRouters.sol";

/// @title Speaks like a V3 router, and pays out of its own stock: one base unit for one, unless told otherwise
contract FixedRateRouter {
    using SafeERC20 for IERC20;

    uint256 public payBps = 10_000;

    function setPayBps(uint256 bps) external {
        payBps = bps;
    }

    function exactInput(ISwapRouterV3.ExactInputParams calldata params) public virtual returns (uint256) {
        (IERC20 tokenIn, IERC20 tokenOut) = ends(params.path);
        tokenIn.safeTransferFrom(msg.sender, address(this), params.amountIn);
        tokenOut.safeTransfer(params.recipient, params.amountIn * payBps / 10_000);
        return params.amountIn;
    }

    function ends(bytes calldata path) internal pure returns (IERC20 first, IERC20 last) {
        first = IERC20(address(bytes20(path[:20])));
        last = IERC20(address(bytes20(path[path.length - 20:])));
    }
}
