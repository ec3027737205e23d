// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {IVault} from "../src/interfaces/IVault.sol";
import {VaultTest} from "./base/VaultTest.sol";
import {Vm} from "./base/Vm.sol";
import {FixedRateRouter} from "./doubles/FixedRateRouter.sol";
import "./doubles/OddTokens.sol";

/// @title Every odd kind of token: no wrong balance, no approval left, and the owner gets out what is there
contract OddTokensTest is VaultTest {
    uint256 private constant STOCK = 1_000_000;
    uint24 private constant FEE = 500;
    FixedRateRouter private router;

    function setUp() public override {
        super.setUp();
        router = new FixedRateRouter();
        allowOperator();
        allowRouter(address(router), 1);
        allowToken(address(usd6));
        usd6.mint(address(router), STOCK);
    }

    function test_no_return_value() external {
        roundTrip(address(new NoReturnToken()));
    }

    function test_fee_on_transfer() external {
        roundTrip(address(new FeeToken()));
    }

    function test_approval_race_protection() external {
        roundTrip(address(new ApprovalRaceToken()));
    }

    function test_zero_approvals_and_transfers_revert() external {
        roundTrip(address(new NoZeroToken()));
    }

    function test_96_bit_amounts() external {
        roundTrip(address(new Uint96Token()));
    }

    function test_max_means_whole_balance() external {
        roundTrip(address(new MaxMeansAllToken()));
    }

    function test_own_transfer_needs_no_allowance() external {
        roundTrip(address(new SelfSpenderToken()));
    }

    function test_allowance_that_is_not_used_up_is_taken_back() external {
        roundTrip(address(new StickyAllowanceToken()));
    }

    function test_no_decimals() external {
        roundTrip(address(new NoDecimalsToken()));
    }

    function test_36_decimals() external {
        roundTrip(address(new ManyDecimalsToken()));
    }

    function test_name_is_no_string() external {
        roundTrip(address(new OddNameToken()));
    }

    function test_blocklist_without_a_hit() external {
        roundTrip(address(new BlocklistToken()));
    }

    function test_failure_answered_by_false() external {
        FalseOnFailureToken token = new FalseOnFailureToken();
        roundTrip(address(token));
        vm.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(token)));
        vault.deposit(address(token), 1);
        vm.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(token)));
        vm.prank(owner);
        vault.withdraw(address(token), 1, owner);
    }

    function test_fee_on_top_cannot_make_a_swap_cost_more_than_its_amount() external {
        SenderFeeToken token = new SenderFeeToken();
        allowToken(address(token));
        token.mint(address(vault), 1_000);
        executeExpecting(
            swapOf(address(router), pathV3(address(token), FEE, address(usd6)), 500),
            abi.encodeWithSelector(IVault.AmountInExceeded.selector, 505, 500)
        );
        vm.assertEq(withdrawUpTo(address(token), 900), 900, "owner gets it out");
    }

    function test_success_answered_by_false_is_withdrawn_unchecked() external {
        FalseOnSuccessToken token = new FalseOnSuccessToken();
        token.mint(address(vault), 1_000);
        vm.startPrank(owner);
        vm.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(token)));
        vault.withdrawAll(address(token), owner);
        vm.assertEq(vault.withdrawUnchecked(address(token), 1_000, owner), 1_000, "moved");
        vm.stopPrank();
        vm.assertEq(token.balanceOf(owner), 1_000, "received");
    }

    function test_rebase_between_deposit_and_withdrawal() external {
        RebasingToken token = new RebasingToken();
        roundTrip(address(token));
        for (uint256 percent = 50; percent <= 200; percent += 150) {
            token.rebase(100);
            token.mint(address(vault), 1_000);
            token.rebase(percent);
            uint256 held = token.balanceOf(address(vault));
            vm.prank(owner);
            vm.assertEq(vault.withdrawAll(address(token), owner), held, "all there is");
            vm.assertEq(token.balanceOf(address(vault)), 0, "nothing left");
        }
    }

    function test_blocked_owner_withdraws_to_another_address_and_other_tokens_go_on() external {
        BlocklistToken token = new BlocklistToken();
        token.mint(address(vault), 1_000);
        usd6.mint(address(vault), 7);
        token.setBlocked(owner, true);
        vm.startPrank(owner);
        vm.expectRevert("blocked");
        vault.withdrawAll(address(token), owner);
        vm.assertEq(vault.withdrawAll(address(usd6), owner), 7, "other token");
        vm.assertEq(vault.withdrawAll(address(token), stranger), 1_000, "other address");
        vm.stopPrank();
    }

    function test_stopped_token_blocks_no_other_and_comes_out_when_it_moves_again() external {
        PausableToken token = new PausableToken();
        allowToken(address(token));
        token.mint(address(vault), 1_000);
        usd6.mint(address(vault), 7);
        token.setStopped(true);
        executeExpecting(
            swapOf(address(router), pathV3(address(token), FEE, address(usd6)), 500),
            abi.encodeWithSignature("Error(string)", "stopped")
        );
        vm.assertEq(withdrawUpTo(address(usd6), 7), 7, "other token");
        token.setStopped(false);
        vm.assertEq(withdrawUpTo(address(token), 1_000), 1_000, "comes out");
    }

    function test_broken_token_blocks_no_other() external {
        RevertingToken token = new RevertingToken();
        token.mint(address(vault), 1_000);
        usd6.mint(address(vault), 7);
        vm.expectRevert("broken");
        vm.prank(owner);
        vault.withdrawAll(address(token), owner);
        vm.assertEq(withdrawUpTo(address(usd6), 7), 7, "other token");
    }

    function test_token_that_hides_its_balance_is_withdrawn_by_amount() external {
        BlindToken token = new BlindToken();
        token.mint(address(vault), 1_000);
        vm.prank(owner);
        vault.withdraw(address(token), 1_000, owner);
        vm.expectRevert();
        vm.prank(owner);
        vault.withdraw(address(token), 1, owner);
    }

    function test_two_addresses_of_one_token_never_pass_as_a_gain() external {
        OddTwinToken token = new OddTwinToken();
        address second = address(token.second());
        allowToken(address(token));
        allowToken(second);
        token.mint(address(vault), 1_000);
        token.mint(address(router), 1_000);
        IVault.Swap memory s = swapOf(address(router), pathV3(address(token), FEE, second), 500);
        executeExpecting(s, abi.encodeWithSelector(IVault.AmountOutTooLow.selector, 0, 1));
        vm.assertEq(withdrawUpTo(second, 1_000), 1_000, "owner gets it out");
    }

    /// @dev Deposit, sell half, buy back, withdraw all; each figure against the balances themselves.
    function roundTrip(address token) private {
        allowToken(token);
        OddToken(token).mint(owner, 10_000);
        OddToken(token).mint(address(router), STOCK);
        deposit(token, 10_000);
        swapMeasured(token, address(usd6), 4_000);
        swapMeasured(address(usd6), token, 2_000);
        uint256 held = OddToken(token).balanceOf(address(vault));
        uint256 before = OddToken(token).balanceOf(owner);
        vm.assertEq(withdrawUpTo(token, held), held, "all of it");
        vm.assertEq(OddToken(token).balanceOf(address(vault)), 0, "nothing left");
        vm.assertGe(OddToken(token).balanceOf(owner), before + held * 99 / 100, "received, less the token's own fee");
    }

    function deposit(address token, uint256 amount) private {
        vm.startPrank(owner);
        (bool approved,) = token.call(abi.encodeCall(OddToken.approve, (address(vault), amount)));
        vm.assertTrue(approved, "approved");
        uint256 received = vault.deposit(token, amount);
        vm.stopPrank();
        vm.assertEq(received, OddToken(token).balanceOf(address(vault)), "what counts is what arrived");
    }

    function swapMeasured(address tokenIn, address tokenOut, uint256 amountIn) private {
        uint256 inBefore = OddToken(tokenIn).balanceOf(address(vault));
        uint256 outBefore = OddToken(tokenOut).balanceOf(address(vault));
        IVault.Swap memory s = swapOf(address(router), pathV3(tokenIn, FEE, tokenOut), amountIn);
        vm.recordLogs();
        uint256 amountOut = execute(s);
        uint256 spent = inBefore - OddToken(tokenIn).balanceOf(address(vault));
        vm.assertEq(amountOut, OddToken(tokenOut).balanceOf(address(vault)) - outBefore, "measured out");
        vm.assertLe(spent, amountIn, "no more than agreed");
        vm.assertEq(OddToken(tokenIn).allowance(address(vault), address(router)), 0, "no approval left");
        assertLogged(abi.encode(tokenIn, tokenOut, spent, amountOut, address(router)));
    }

    function assertLogged(bytes memory expected) private {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        bytes memory last = logs[logs.length - 1].data;
        vm.assertTrue(keccak256(last) == keccak256(expected), "the event tells the measured amounts");
    }

    function withdrawUpTo(address token, uint256 amount) private returns (uint256) {
        vm.prank(owner);
        vault.withdraw(token, amount, owner);
        return amount;
    }
}
