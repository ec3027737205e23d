// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import {FeedPriceSource} from "../src/prices/FeedPriceSource.sol";
import {TwapPriceSource} from "../src/prices/TwapPriceSource.sol";
import {TestToken} from "../src/test/TestToken.sol";
import {UniswapTest} from "./base/UniswapTest.sol";
import {SettableFeed} from "./doubles/SettableFeed.sol";

contract PricesTest is UniswapTest {
    uint32 private constant PERIOD_S = 600;

    // ------------------------------------------------------------------ time-weighted mean of a pool

    function test_twap_values_a_token_of_18_decimals_in_one_of_6() external {
        TwapPriceSource source = twapOf(address(usd6), address(eth18), pool);
        vm.warp(START + 1 hours);
        assertNear(source.valueOf(address(eth18), 1e18), USD_PER_ETH * 1e6);
        vm.assertEq(source.valueOf(address(usd6), 7), 7, "the quote is its own value");
    }

    function test_twap_values_a_token_of_6_decimals_in_one_of_18() external {
        TwapPriceSource source = twapOf(address(eth18), address(usd6), pool);
        vm.warp(START + 1 hours);
        assertNear(source.valueOf(address(usd6), USD_PER_ETH * 1e6), 1e18);
    }

    function test_twap_follows_a_price_that_stays() external {
        TwapPriceSource source = twapOf(address(usd6), address(eth18), pool);
        vm.warp(START + 1 hours);
        swapDirect(stranger, sellEth(), 4_142e18);
        vm.warp(block.timestamp + PERIOD_S / 2);
        uint256 halfway = source.valueOf(address(eth18), 1e18);
        vm.warp(block.timestamp + PERIOD_S / 2);
        assertNear(source.valueOf(address(eth18), 1e18), 1_000e6);
        assertNear(halfway, 1_414e6);
    }

    function testFuzz_twap_is_right_over_all_prices(uint256 amountA, uint256 amountB) external {
        amountA = between(amountA, 1, 1e18);
        amountB = between(amountB, 1, 1e18);
        TestToken a = new TestToken("A", "A", 18);
        TestToken b = new TestToken("B", "B", 18);
        address made = createPool(address(a), amountA, address(b), amountB, 1);
        TwapPriceSource source = twapOf(address(b), address(a), made);
        vm.warp(START + 1 hours);
        uint256 value = source.valueOf(address(a), amountA * 1e12);
        uint256 expected = amountB * 1e12;
        vm.assertLe(value, expected + expected / 9_000 + 1, "not above");
        vm.assertGe(value + expected / 9_000 + 1, expected, "not below");
    }

    function test_twap_refuses_what_it_cannot_measure() external {
        vm.expectRevert(TwapPriceSource.PeriodZero.selector);
        new TwapPriceSource(address(usd6), 0, new address[](0), new address[](0));
        vm.expectRevert(abi.encodeWithSelector(TwapPriceSource.LengthMismatch.selector, 1, 0));
        new TwapPriceSource(address(usd6), PERIOD_S, new address[](1), new address[](0));
        vm.expectRevert(
            abi.encodeWithSelector(TwapPriceSource.PoolMismatch.selector, pool, address(weth), address(usd6))
        );
        twapOf(address(usd6), address(weth), pool);
        TwapPriceSource source = twapOf(address(usd6), address(eth18), pool);
        vm.expectRevert(abi.encodeWithSelector(TwapPriceSource.PriceUnknown.selector, address(weth)));
        source.valueOf(address(weth), 1);
        vm.expectRevert(bytes("OLD"));
        source.valueOf(address(eth18), 1);
    }

    // ------------------------------------------------------------------ price feeds

    function test_feed_values_tokens_in_18_decimals_whatever_theirs() external {
        FeedPriceSource source = feedsOf(new SettableFeed(8, 2_000e8), new SettableFeed(18, 1e18));
        vm.assertEq(source.valueOf(address(eth18), 3e18), 6_000e18, "eth");
        vm.assertEq(source.valueOf(address(usd6), 3e6), 3e18, "usd");
    }

    function test_feed_refuses_old_missing_and_senseless_prices() external {
        SettableFeed feed = new SettableFeed(8, 2_000e8);
        FeedPriceSource source = feedsOf(feed, feed);
        vm.expectRevert(abi.encodeWithSelector(FeedPriceSource.PriceUnknown.selector, address(weth)));
        source.valueOf(address(weth), 1);
        feed.set(0, block.timestamp);
        vm.expectRevert(abi.encodeWithSelector(FeedPriceSource.PriceNotPositive.selector, address(eth18), 0));
        source.valueOf(address(eth18), 1);
        feed.set(1, block.timestamp - PERIOD_S + 1);
        source.valueOf(address(eth18), 1);
        feed.set(1, block.timestamp - PERIOD_S);
        vm.expectRevert(
            abi.encodeWithSelector(
                FeedPriceSource.PriceStale.selector, address(eth18), START - PERIOD_S, START, PERIOD_S
            )
        );
        source.valueOf(address(eth18), 1);
        vm.expectRevert(abi.encodeWithSelector(FeedPriceSource.LengthMismatch.selector, 1, 0));
        new FeedPriceSource(1, new address[](1), new address[](0));
    }

    function twapOf(address quote, address token, address pool_) private returns (TwapPriceSource) {
        (address[] memory tokens, address[] memory pools) = (new address[](1), new address[](1));
        (tokens[0], pools[0]) = (token, pool_);
        return new TwapPriceSource(quote, PERIOD_S, tokens, pools);
    }

    function feedsOf(SettableFeed ethFeed, SettableFeed usdFeed) private returns (FeedPriceSource) {
        (address[] memory tokens, address[] memory feeds) = (new address[](2), new address[](2));
        (tokens[0], tokens[1]) = (address(eth18), address(usd6));
        (feeds[0], feeds[1]) = (address(ethFeed), address(usdFeed));
        return new FeedPriceSource(PERIOD_S, tokens, feeds);
    }

    /// @dev Within four basis points: a tick is one, and the swaps here hit their prices to three.
    function assertNear(uint256 value, uint256 expected) private pure {
        vm.assertLe(value, expected + expected / 2_500, "not above");
        vm.assertGe(value, expected - expected / 2_500, "not below");
    }
}
