// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IVault} from "../src/interfaces/IVault.sol";
import {VaultTest} from "./base/VaultTest.sol";
import {MaliciousRouter} from "./doubles/MaliciousRouter.sol";

/// @title Even a malicious router that the owner allowed gets the amount in at most, and pays the minimum at least
contract MaliciousRouterTest is VaultTest {
    MaliciousRouter private router;

    function setUp() public override {
        super.setUp();
        router = new MaliciousRouter();
        allowOperator();
        allowRouter(address(router), 1);
        allowToken(address(eth18));
        allowToken(address(usd6));
        eth18.mint(address(vault), 1_000);
        usd6.mint(address(router), 1_000);
    }

    function test_paying_nothing_is_refused() external {
        refuses(MaliciousRouter.Trick.PAY_NOTHING, abi.encodeWithSelector(IVault.AmountOutTooLow.selector, 0, 90));
    }

    function test_paying_someone_else_is_refused() external {
        refuses(MaliciousRouter.Trick.PAY_SOMEONE_ELSE, abi.encodeWithSelector(IVault.AmountOutTooLow.selector, 0, 90));
    }

    function test_pulling_more_than_the_amount_is_refused() external {
        bytes memory problem =
            abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, address(router), 100, 101);
        refuses(MaliciousRouter.Trick.PULL_MORE, problem);
    }

    function test_paying_by_a_deposit_of_the_vault_is_refused() external {
        refuses(
            MaliciousRouter.Trick.PAY_BY_DEPOSIT,
            abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector)
        );
    }

    function test_lying_about_the_amount_changes_nothing() external {
        router.plan(MaliciousRouter.Trick.LIE);
        vm.assertEq(execute(trade()), 90, "measured");
        assertNoApproval();
    }

    function test_garbage_as_answer_changes_nothing() external {
        router.plan(MaliciousRouter.Trick.RETURN_A_BOMB);
        vm.assertEq(execute(trade()), 90, "measured");
    }

    function test_approval_not_taken_is_gone_afterwards() external {
        router.plan(MaliciousRouter.Trick.TAKE_NOTHING);
        execute(trade());
        assertNoApproval();
        router.plan(MaliciousRouter.Trick.TAKE_HALF);
        execute(trade());
        assertNoApproval();
        vm.assertEq(eth18.balanceOf(address(vault)), 950, "half of one trade");
    }

    function test_it_costs_the_amount_in_less_the_minimum_at_worst() external {
        router.plan(MaliciousRouter.Trick.PAY_THE_MINIMUM);
        execute(trade());
        vm.assertEq(eth18.balanceOf(address(vault)), 900, "amount in");
        vm.assertEq(usd6.balanceOf(address(vault)), 90, "minimum");
        assertNoApproval();
    }

    function refuses(MaliciousRouter.Trick trick, bytes memory problem) private {
        router.plan(trick);
        executeExpecting(trade(), problem);
        vm.assertEq(eth18.balanceOf(address(vault)), 1_000, "nothing left the vault");
    }

    function trade() private returns (IVault.Swap memory s) {
        s = swapOf(address(router), pathV3(address(eth18), 500, address(usd6)), 100);
        s.minAmountOut = 90;
    }

    function assertNoApproval() private {
        vm.assertEq(eth18.allowance(address(vault), address(router)), 0, "no approval left");
        vm.expectRevert();
        router.takeLater(eth18, address(vault));
    }
}
