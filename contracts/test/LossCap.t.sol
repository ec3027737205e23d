// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import {IVault} from "../src/interfaces/IVault.sol";
import {FeedPriceSource} from "../src/prices/FeedPriceSource.sol";
import {VaultTest} from "./base/VaultTest.sol";
import {FixedRateRouter} from "./doubles/FixedRateRouter.sol";
import {ParSource, SettableFeed} from "./doubles/SettableFeed.sol";

contract LossCapTest is VaultTest {
    uint64 private constant WINDOW = 1 days;
    uint256 private constant CAP = 1_000;
    /// @dev Of each trade: a source rounds down, so one unit may have been lost unseen.
    uint256 private constant ROUNDING = 1;
    uint256 private constant PERIOD_START = (START / WINDOW) * WINDOW;

    FixedRateRouter private router;
    ParSource private par;

    function setUp() public override {
        super.setUp();
        vm.warp(PERIOD_START);
        router = new FixedRateRouter();
        par = new ParSource();
        allowOperator();
        allowRouter(address(router), 1);
        allowToken(address(eth18));
        allowToken(address(usd6));
        eth18.mint(address(vault), 1e9);
        usd6.mint(address(router), 1e9);
        setLossCap(address(par), CAP, WINDOW);
    }

    function test_losses_add_up_to_the_cap_and_no_further() external {
        lose(600);
        lose(399 - ROUNDING);
        assertCounted(999 + ROUNDING);
        refuseLoss(1, 1_000);
    }

    function test_loss_says_what_it_was_and_what_counts() external {
        router.setPayBps(9_400);
        IVault.Swap memory s = trade(10_000);
        vm.expectEmit(true, false, false, true, address(vault));
        emit IVault.LossRecorded(s.tradeId, 600 + ROUNDING, 600 + ROUNDING);
        execute(s);
    }

    function test_gain_does_not_make_up_for_a_loss() external {
        lose(600);
        router.setPayBps(20_000);
        execute(trade(10_000));
        assertCounted(600 + ROUNDING);
        refuseLoss(400, 600 + ROUNDING);
    }

    function test_losses_of_two_windows_ago_are_forgotten_and_not_sooner() external {
        vm.warp(PERIOD_START + WINDOW - 1);
        lose(900);
        vm.warp(PERIOD_START + 2 * WINDOW - 2);
        refuseLoss(100, 901);
        vm.warp(PERIOD_START + 2 * WINDOW);
        assertCounted(0);
        lose(900);
    }

    function test_tiny_trades_do_not_lose_for_free() external {
        for (uint256 i = 0; i < CAP; ++i) {
            execute(trade(1));
        }
        executeExpecting(trade(1), abi.encodeWithSelector(IVault.LossCapExceeded.selector, ROUNDING, CAP, CAP));
    }

    /// @dev The promise itself, for any times and losses: what is lost within any one window stays within the cap.
    function testFuzz_no_window_loses_more_than_the_cap(uint32[16] calldata waits, uint16[16] calldata wishes)
        external
    {
        uint256[16] memory times;
        uint256[16] memory losses;
        uint256 nowAt = PERIOD_START;
        for (uint256 i = 0; i < 16; ++i) {
            nowAt += waits[i] % WINDOW;
            vm.warp(nowAt);
            times[i] = nowAt;
            losses[i] = tryToLose(wishes[i] % 1_200);
            vm.assertLe(sumSince(times, losses, i, nowAt), CAP, "within the window");
        }
    }

    function test_lifted_cap_measures_nothing() external {
        setLossCap(address(0), 5, 5);
        (address source, uint256 cap, uint64 window, uint256 counted) = vault.lossPolicy();
        vm.assertTrue(source == address(0) && cap == 0 && window == 0 && counted == 0, "nothing kept");
        lose(5_000);
    }

    function test_window_and_source_must_make_sense() external {
        vm.startPrank(owner);
        vm.expectRevert(abi.encodeWithSelector(IVault.LossWindowOutOfRange.selector, 59, 60, 365 days));
        vault.setLossCap(address(par), CAP, 59);
        vm.expectRevert(abi.encodeWithSelector(IVault.LossWindowOutOfRange.selector, 365 days + 1, 60, 365 days));
        vault.setLossCap(address(par), CAP, 365 days + 1);
        vm.expectRevert(abi.encodeWithSelector(IVault.AddressInvalid.selector, stranger));
        vault.setLossCap(stranger, CAP, WINDOW);
        vm.stopPrank();
    }

    function test_stale_price_stops_trading_but_no_withdrawal() external {
        SettableFeed feed = new SettableFeed(8, 1e8);
        address[] memory tokens = new address[](2);
        address[] memory feeds = new address[](2);
        (tokens[0], tokens[1]) = (address(eth18), address(usd6));
        (feeds[0], feeds[1]) = (address(feed), address(feed));
        setLossCap(address(new FeedPriceSource(1 hours, tokens, feeds)), CAP, WINDOW);
        vm.warp(block.timestamp + 1 hours);
        executeExpecting(
            trade(1),
            abi.encodeWithSelector(
                FeedPriceSource.PriceStale.selector, address(eth18), PERIOD_START, PERIOD_START + 1 hours, 1 hours
            )
        );
        vm.prank(owner);
        vm.assertEq(vault.withdrawAll(address(eth18), owner), 1e9, "withdrawn");
    }

    function setLossCap(address source, uint256 cap, uint64 window) private {
        vm.prank(owner);
        vault.setLossCap(source, cap, window);
    }

    function trade(uint256 amountIn) private returns (IVault.Swap memory) {
        return swapOf(address(router), pathV3(address(eth18), 500, address(usd6)), amountIn);
    }

    /// @dev A trade of 10,000 that pays back `loss` less.
    function losing(uint256 loss) private returns (IVault.Swap memory) {
        router.setPayBps(10_000 - loss);
        return trade(10_000);
    }

    function lose(uint256 loss) private {
        execute(losing(loss));
    }

    function refuseLoss(uint256 loss, uint256 counted) private {
        executeExpecting(
            losing(loss), abi.encodeWithSelector(IVault.LossCapExceeded.selector, loss + ROUNDING, counted, CAP)
        );
    }

    function tryToLose(uint256 loss) private returns (uint256) {
        IVault.Swap memory s = losing(loss);
        vm.prank(operator);
        try vault.executeSwap(s) {
            return loss;
        } catch {
            return 0;
        }
    }

    function sumSince(uint256[16] memory times, uint256[16] memory losses, uint256 last, uint256 nowAt)
        private
        pure
        returns (uint256 sum)
    {
        for (uint256 i = 0; i <= last; ++i) {
            if (times[i] + WINDOW > nowAt) sum += losses[i];
        }
    }

    function assertCounted(uint256 expected) private view {
        (,,, uint256 counted) = vault.lossPolicy();
        vm.assertEq(counted, expected, "counted");
    }
}
