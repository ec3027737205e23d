// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import {ISwapRouterV2, ISwapRouterV3} from "../src/interfaces/ISwapRouters.sol";
import {IVault} from "../src/interfaces/IVault.sol";
import {UniswapTest} from "./base/UniswapTest.sol";

/// @title What a swap through the vault costs beside the same swap straight through the router
/// @dev Each call is a transaction of its own (isolate), so the figures hold the 21,000 of the transaction, calldata and
/// refunds. Both traders hold both tokens already. The vault is measured on a day on which it traded before.
/// forge-config: default.isolate = true
contract GasTest is UniswapTest {
    event Measured(string what, uint256 gas);

    function setUp() public override {
        super.setUp();
        allowTrading();
        fund(100e18, 200_000e6);
        swapDirect(stranger, sellEth(), 1e18);
        eth18.mint(stranger, 10e18);
        execute(swapOf(routerV3, sellEth(), 1e18));
    }

    function test_gas() external {
        vm.prank(stranger);
        eth18.approve(routerV3, 1e18);
        uint256 approve = lastGas();
        vm.prank(stranger);
        ISwapRouterV3(routerV3).exactInput(
            ISwapRouterV3.ExactInputParams(sellEth(), stranger, block.timestamp, 1e18, 1)
        );
        uint256 direct = lastGas();
        vm.prank(stranger);
        eth18.approve(routerV3, type(uint256).max);
        vm.prank(stranger);
        ISwapRouterV3(routerV3).exactInput(
            ISwapRouterV3.ExactInputParams(sellEth(), stranger, block.timestamp, 1e18, 1)
        );
        uint256 directStanding = lastGas();
        execute(swapOf(routerV3, sellEth(), 1e18));
        uint256 through = lastGas();
        emit Measured("approve", approve);
        emit Measured("direct", direct);
        emit Measured("direct with standing approval", directStanding);
        emit Measured("vault", through);
    }

    function lastGas() private view returns (uint256) {
        return vm.lastCallGas().gasTotalUsed;
    }
}
