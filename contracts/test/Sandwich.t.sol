// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import {IVault} from "../src/interfaces/IVault.sol";
import {TwapPriceSource} from "../src/prices/TwapPriceSource.sol";
import {UniswapTest} from "./base/UniswapTest.sol";

/// @title An operator who sandwiches its own trades in the pool the price is measured in
contract SandwichTest is UniswapTest {
    uint32 private constant TWAP_S = 10 minutes;
    uint64 private constant WINDOW = 1 days;
    uint256 private constant CAP = 5_000e6;
    uint256 private constant PUSH = 3_000e18;

    TwapPriceSource private source;

    function setUp() public override {
        super.setUp();
        allowTrading();
        fund(1_000e18, 0);
        (address[] memory tokens, address[] memory pools) = (new address[](1), new address[](1));
        (tokens[0], pools[0]) = (address(eth18), pool);
        source = new TwapPriceSource(address(usd6), TWAP_S, tokens, pools);
        vm.warp(START + 1 hours);
    }

    function test_without_a_loss_cap_the_sandwich_pays_off() external {
        uint256 loss = sandwich(100e18);
        vm.assertGe(loss, 50_000e6, "a loss worth preventing");
    }

    function test_loss_cap_refuses_the_sandwich_in_one_block() external {
        setLossCap();
        push();
        vm.expectPartialRevert(IVault.LossCapExceeded.selector);
        execute(swapOf(routerV3, sellEth(), 100e18));
    }

    function test_pushing_the_pool_does_not_move_the_measure_within_the_block() external {
        uint256 before = source.valueOf(address(eth18), 1e18);
        push();
        vm.assertEq(source.valueOf(address(eth18), 1e18), before, "same block, same measure");
    }

    function test_trade_at_the_market_passes_under_the_cap() external {
        setLossCap();
        uint256 worth = source.valueOf(address(eth18), 10e18);
        uint256 out = execute(swapOf(routerV3, sellEth(), 10e18));
        (,,, uint256 counted) = vault.lossPolicy();
        vm.assertEq(out + counted, worth + 1, "the pool's fee and slippage count as loss");
        vm.assertLe(counted, 60e6, "and little more");
    }

    /// @dev However it is cut, pushed and repeated, a day of sandwiches takes the cap and no more.
    function testFuzz_a_day_of_sandwiches_takes_the_cap_at_most(uint256[12] calldata amounts) external {
        setLossCap();
        uint256 taken;
        for (uint256 i = 0; i < amounts.length; ++i) {
            taken += sandwich(between(amounts[i], 1e15, 60e18));
            vm.warp(block.timestamp + 30 minutes);
        }
        vm.assertLe(taken, CAP, "taken");
    }

    /// @dev Loss of the vault at the measured price of before, zero when the vault refused.
    function sandwich(uint256 amountIn) private returns (uint256 loss) {
        uint256 worth = source.valueOf(address(eth18), amountIn);
        uint256 got = push();
        IVault.Swap memory s = swapOf(routerV3, sellEth(), amountIn);
        vm.prank(operator);
        try vault.executeSwap(s) returns (uint256 out) {
            loss = out < worth ? worth - out : 0;
        } catch {}
        swapDirect(operator, sellUsd(), got);
    }

    function push() private returns (uint256 got) {
        return swapDirect(operator, sellEth(), PUSH);
    }

    function setLossCap() private {
        vm.prank(owner);
        vault.setLossCap(address(source), CAP, WINDOW);
    }
}
