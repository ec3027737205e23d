// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import {ISwapRouterV3} from "../../src/interfaces/ISwapRouters.sol";
import {TestToken} from "../../src/test/TestToken.sol";

/// @title A router in league with the operator: keeps the amount in and pays exactly the minimum, freshly minted
contract ThiefRouter {
    function exactInput(ISwapRouterV3.ExactInputParams calldata params) external returns (uint256) {
        bytes calldata path = params.path;
        TestToken(address(bytes20(path[:20]))).transferFrom(msg.sender, address(this), params.amountIn);
        TestToken(address(bytes20(path[path.length - 20:]))).mint(msg.sender, params.amountOutMinimum);
        return type(uint256).max;
    }
}
