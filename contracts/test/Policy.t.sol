// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import {IVault} from "../src/interfaces/IVault.sol";
import {UniswapTest} from "./base/UniswapTest.sol";

contract PolicyTest is UniswapTest {
    function setUp() public override {
        super.setUp();
        allowTrading();
        fund(100e18, 200_000e6);
    }

    // ------------------------------------------------------------------ who and when

    function testFuzz_only_the_operator_trades(address caller) external {
        vm.assume(caller != operator);
        IVault.Swap memory s = swapOf(routerV3, sellEth(), 1e18);
        vm.expectRevert(abi.encodeWithSelector(IVault.NotOperator.selector, caller, operator));
        vm.prank(caller);
        vault.executeSwap(s);
    }

    function test_operator_ends_at_the_second_of_expiry() external {
        uint64 expiresAt = uint64(block.timestamp + 100);
        vm.prank(owner);
        vault.setOperator(operator, expiresAt);
        vm.warp(expiresAt - 1);
        execute(swapOf(routerV3, sellEth(), 1e18));
        vm.warp(expiresAt);
        executeExpecting(
            swapOf(routerV3, sellEth(), 1e18),
            abi.encodeWithSelector(IVault.OperatorExpired.selector, expiresAt, expiresAt)
        );
    }

    function test_revoked_operator_is_nobody() external {
        vm.prank(owner);
        vault.revokeOperator();
        executeExpecting(
            swapOf(routerV3, sellEth(), 1e18), abi.encodeWithSelector(IVault.NotOperator.selector, operator, address(0))
        );
    }

    function test_operator_must_be_someone_with_a_future() external {
        vm.startPrank(owner);
        vm.expectRevert(abi.encodeWithSelector(IVault.AddressInvalid.selector, address(0)));
        vault.setOperator(address(0), uint64(START + 1));
        vm.expectRevert(abi.encodeWithSelector(IVault.OperatorExpiryInPast.selector, START, START));
        vault.setOperator(operator, uint64(START));
        vm.expectRevert(
            abi.encodeWithSelector(IVault.OperatorExpiryTooFar.selector, type(uint64).max, type(uint48).max)
        );
        vault.setOperator(operator, type(uint64).max);
        vm.stopPrank();
    }

    function test_pause_stops_trading_until_unpaused() external {
        vm.prank(owner);
        vault.pause();
        executeExpecting(swapOf(routerV3, sellEth(), 1e18), abi.encodeWithSelector(IVault.TradingPaused.selector));
        vm.prank(owner);
        vault.unpause();
        execute(swapOf(routerV3, sellEth(), 1e18));
    }

    function testFuzz_deadline_lies_within_two_minutes(uint256 deadline) external {
        IVault.Swap memory s = swapOf(routerV3, sellEth(), 1e18);
        s.deadline = deadline;
        if (deadline >= START && deadline <= START + 120) {
            execute(s);
            return;
        }
        executeExpecting(s, abi.encodeWithSelector(IVault.DeadlineOutOfRange.selector, deadline, START, START + 120));
    }

    function test_deadline_edges_are_inside() external {
        IVault.Swap memory s = swapOf(routerV3, sellEth(), 1e18);
        s.deadline = START;
        execute(s);
        s = swapOf(routerV3, sellEth(), 1e18);
        s.deadline = START + 120;
        execute(s);
    }

    function test_cooldown_spaces_trades() external {
        vm.prank(owner);
        vault.setCooldown(60);
        execute(swapOf(routerV3, sellEth(), 1e18));
        vm.assertEq(vault.lastTradeAt(), START, "last trade");
        vm.warp(START + 59);
        executeExpecting(
            swapOf(routerV3, sellEth(), 1e18),
            abi.encodeWithSelector(IVault.CooldownActive.selector, START + 60, START + 59)
        );
        vm.warp(START + 60);
        execute(swapOf(routerV3, sellEth(), 1e18));
    }

    function test_cooldown_beyond_what_is_stored_is_refused() external {
        vm.expectRevert(abi.encodeWithSelector(IVault.CooldownTooLong.selector, 1 << 24, (1 << 24) - 1));
        vm.prank(owner);
        vault.setCooldown(1 << 24);
    }

    // ------------------------------------------------------------------ through what, between what

    function test_router_not_allowed_is_refused() external {
        allowRouter(routerV3, 0);
        executeExpecting(
            swapOf(routerV3, sellEth(), 1e18), abi.encodeWithSelector(IVault.RouterNotAllowed.selector, routerV3)
        );
    }

    function test_router_must_be_a_contract_of_a_known_kind() external {
        vm.startPrank(owner);
        vm.expectRevert(abi.encodeWithSelector(IVault.RouterKindUnknown.selector, 4, 3));
        vault.setRouter(routerV3, 4);
        vm.expectRevert(abi.encodeWithSelector(IVault.AddressInvalid.selector, stranger));
        vault.setRouter(stranger, 1);
        vm.stopPrank();
    }

    function test_token_not_allowed_is_refused_on_either_side() external {
        vm.prank(owner);
        vault.setTokenPolicy(address(usd6), false, UNCAPPED, UNCAPPED);
        bytes memory problem = abi.encodeWithSelector(IVault.TokenNotAllowed.selector, address(usd6));
        executeExpecting(swapOf(routerV3, sellEth(), 1e18), problem);
        executeExpecting(swapOf(routerV3, sellUsd(), 1e6), problem);
    }

    function test_min_out_and_amount_in_are_never_zero() external {
        IVault.Swap memory s = swapOf(routerV3, sellEth(), 1e18);
        s.minAmountOut = 0;
        executeExpecting(s, abi.encodeWithSelector(IVault.MinAmountOutZero.selector));
        executeExpecting(swapOf(routerV3, sellEth(), 0), abi.encodeWithSelector(IVault.AmountZero.selector));
    }

    // ------------------------------------------------------------------ how much

    function test_per_trade_cap_is_the_largest_trade() external {
        setEthCaps(2e18, UNCAPPED);
        execute(swapOf(routerV3, sellEth(), 2e18));
        executeExpecting(
            swapOf(routerV3, sellEth(), 2e18 + 1),
            abi.encodeWithSelector(IVault.PerTradeCapExceeded.selector, address(eth18), 2e18 + 1, 2e18)
        );
    }

    function test_per_day_cap_starts_anew_at_midnight_utc() external {
        uint256 midnight = (START / 1 days + 1) * 1 days;
        setEthCaps(UNCAPPED, 5e18);
        vm.warp(midnight - 1);
        execute(swapOf(routerV3, sellEth(), 3e18));
        executeExpecting(
            swapOf(routerV3, sellEth(), 2e18 + 1),
            abi.encodeWithSelector(IVault.PerDayCapExceeded.selector, address(eth18), 2e18 + 1, 3e18, 5e18)
        );
        execute(swapOf(routerV3, sellEth(), 2e18));
        vm.warp(midnight);
        execute(swapOf(routerV3, sellEth(), 5e18));
        (,,, uint256 spentToday) = vault.tokenPolicy(address(eth18));
        vm.assertEq(spentToday, 5e18, "today");
    }

    function test_cap_set_again_does_not_forget_what_was_spent() external {
        setEthCaps(UNCAPPED, 5e18);
        execute(swapOf(routerV3, sellEth(), 4e18));
        setEthCaps(UNCAPPED, 3e18);
        executeExpecting(
            swapOf(routerV3, sellEth(), 1),
            abi.encodeWithSelector(IVault.PerDayCapExceeded.selector, address(eth18), 1, 4e18, 3e18)
        );
    }

    function testFuzz_day_never_spends_beyond_its_cap(uint256[8] calldata amounts, uint256 cap) external {
        cap = between(cap, 1, 20e18);
        setEthCaps(UNCAPPED, cap);
        uint256 before = eth18.balanceOf(address(vault));
        for (uint256 i = 0; i < amounts.length; ++i) {
            vm.prank(operator);
            try vault.executeSwap(swapOf(routerV3, sellEth(), between(amounts[i], 1, 5e18))) {} catch {}
        }
        vm.assertLe(before - eth18.balanceOf(address(vault)), cap, "spent");
    }

    function test_caps_count_each_token_alone() external {
        setEthCaps(1e18, 1e18);
        execute(swapOf(routerV3, sellEth(), 1e18));
        execute(swapOf(routerV3, sellUsd(), 10_000e6));
        (,,, uint256 spentUsd) = vault.tokenPolicy(address(usd6));
        vm.assertEq(spentUsd, 10_000e6, "usd");
    }

    function setEthCaps(uint256 perTrade, uint256 perDay) private {
        vm.prank(owner);
        vault.setTokenPolicy(address(eth18), true, perTrade, perDay);
    }
}
