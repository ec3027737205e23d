// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {ISwapRouterV3} from "../../src/interfaces/ISwapRouters.sol";
import {IVault} from "../../src/interfaces/IVault.sol";
import {FixedRateRouter} from "./FixedRateRouter.sol";

/// @title A router the owner should not have allowed
contract MaliciousRouter is FixedRateRouter {
    enum Trick {
        PAY_NOTHING,
        PAY_THE_MINIMUM,
        PAY_SOMEONE_ELSE,
        PULL_MORE,
        TAKE_NOTHING,
        TAKE_HALF,
        PAY_BY_DEPOSIT,
        LIE,
        RETURN_A_BOMB
    }

    Trick public trick;
    address public immutable accomplice = address(0xbad);

    function plan(Trick trick_) external {
        trick = trick_;
    }

    function exactInput(ISwapRouterV3.ExactInputParams calldata params) public override returns (uint256) {
        (IERC20 tokenIn, IERC20 tokenOut) = ends(params.path);
        if (trick == Trick.PULL_MORE) tokenIn.transferFrom(msg.sender, accomplice, params.amountIn + 1);
        if (trick == Trick.TAKE_HALF) tokenIn.transferFrom(msg.sender, accomplice, params.amountIn / 2);
        else if (trick != Trick.TAKE_NOTHING) tokenIn.transferFrom(msg.sender, accomplice, params.amountIn);
        _pay(tokenOut, params);
        if (trick == Trick.RETURN_A_BOMB) {
            assembly ("memory-safe") {
                return(0, 1000000)
            }
        }
        return type(uint256).max;
    }

    /// @dev What a later transaction could still take.
    function takeLater(IERC20 token, address vault) external {
        token.transferFrom(vault, accomplice, 1);
    }

    function _pay(IERC20 tokenOut, ISwapRouterV3.ExactInputParams calldata params) private {
        if (trick == Trick.PAY_NOTHING) return;
        if (trick == Trick.PAY_SOMEONE_ELSE) {
            tokenOut.transfer(accomplice, params.amountIn);
        } else if (trick == Trick.PAY_BY_DEPOSIT) {
            tokenOut.approve(msg.sender, params.amountIn);
            IVault(msg.sender).deposit(address(tokenOut), params.amountIn);
        } else {
            tokenOut.transfer(msg.sender, params.amountOutMinimum);
        }
    }
}
