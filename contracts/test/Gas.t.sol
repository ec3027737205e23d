// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import {ISwapRouterV2, ISwapRouterV3} from "../src/interfaces/ISwapRouters.sol";
import {TwapPriceSource} from "../src/prices/TwapPriceSource.sol";
import {TestToken} from "../src/test/TestToken.sol";
import {UniswapTest} from "./base/UniswapTest.sol";

/// @title What a swap through the vault costs beside the same swap straight through the router
/// @dev Each call is a transaction of its own (isolate): the figures hold the 21,000 of the transaction, its calldata
/// and its refunds. Both traders hold both tokens and traded on the same day before. The vault leaves no approval
/// behind, so the same swap without it is an exact approval and a swap; the swap alone, under a standing approval that
/// lets the router take everything at any time, is measured too.
/// forge-config: default.isolate = true
contract GasTest is UniswapTest {
    uint256 private constant AMOUNT = 1e18;
    uint256 private constant WORST_PERCENT = 125;

    function setUp() public override {
        super.setUp();
        allowTrading();
        fund(100e18, 200_000e6);
        vm.warp(START + 1 hours);
    }

    function test_gas_of_a_v3_hop() external {
        compareV3("v3 one hop", sellEth());
    }

    function test_gas_of_two_v3_hops() external {
        TestToken third = new TestToken("Third", "THD", 8);
        createPool(address(usd6), 2_000e6, address(third), 1e8, 10_000);
        allowToken(address(third));
        compareV3("v3 two hops", abi.encodePacked(address(eth18), FEE, address(usd6), FEE, address(third)));
    }

    function test_gas_of_a_v3_hop_under_a_cooldown_and_a_twap_loss_cap() external {
        (address[] memory tokens, address[] memory pools) = (new address[](1), new address[](1));
        (tokens[0], pools[0]) = (address(eth18), pool);
        TwapPriceSource source = new TwapPriceSource(address(usd6), 10 minutes, tokens, pools);
        vm.startPrank(owner);
        vault.setLossCap(address(source), 10_000e6, 1 days);
        vault.setCooldown(1);
        vm.stopPrank();
        swapThroughVault(routerV3, sellEth());
        vm.warp(block.timestamp + 1);
        uint256 used = swapThroughVault(routerV3, sellEth());
        vm.snapshotValue("v3 one hop, through the vault, cool-down and TWAP loss cap", used);
    }

    function test_gas_of_a_v2_hop() external {
        deployV2(10_000);
        allowRouter(routerV2, 2);
        approve(routerV2, type(uint256).max);
        swapDirectV2();
        uint256 standing = swapDirectV2();
        approve(routerV2, 0);
        uint256 exact = approve(routerV2, AMOUNT);
        exact += swapDirectV2();
        bytes memory path = pathV2(address(eth18), address(usd6));
        swapThroughVault(routerV2, path);
        report("v2 one hop", standing, exact, swapThroughVault(routerV2, path));
    }

    function compareV3(string memory what, bytes memory path) private {
        approve(routerV3, type(uint256).max);
        swapDirectV3(path);
        uint256 standing = swapDirectV3(path);
        approve(routerV3, 0);
        uint256 exact = approve(routerV3, AMOUNT);
        exact += swapDirectV3(path);
        swapThroughVault(routerV3, path);
        report(what, standing, exact, swapThroughVault(routerV3, path));
    }

    function report(string memory what, uint256 standing, uint256 exact, uint256 vaultGas) private {
        vm.snapshotValue(string.concat(what, ", straight, standing approval"), standing);
        vm.snapshotValue(string.concat(what, ", straight, exact approval"), exact);
        vm.snapshotValue(string.concat(what, ", through the vault"), vaultGas);
        vm.assertLe(vaultGas * 100, exact * WORST_PERCENT, "gas through the vault, in per cent");
    }

    function approve(address router, uint256 amount) private returns (uint256) {
        vm.prank(stranger);
        eth18.approve(router, amount);
        return lastGas();
    }

    function swapDirectV3(bytes memory path) private returns (uint256) {
        eth18.mint(stranger, 2 * AMOUNT);
        vm.prank(stranger);
        ISwapRouterV3(routerV3)
            .exactInput(ISwapRouterV3.ExactInputParams(path, stranger, block.timestamp + 60, AMOUNT, 1));
        return lastGas();
    }

    function swapDirectV2() private returns (uint256) {
        address[] memory path = new address[](2);
        (path[0], path[1]) = (address(eth18), address(usd6));
        eth18.mint(stranger, 2 * AMOUNT);
        vm.prank(stranger);
        ISwapRouterV2(routerV2).swapExactTokensForTokens(AMOUNT, 1, path, stranger, block.timestamp + 60);
        return lastGas();
    }

    function swapThroughVault(address router, bytes memory path) private returns (uint256) {
        execute(swapOf(router, path, AMOUNT));
        return lastGas();
    }

    function lastGas() private view returns (uint256) {
        return vm.lastCallGas().gasTotalUsed;
    }
}
