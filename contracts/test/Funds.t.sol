// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";

import {IVault} from "../src/interfaces/IVault.sol";
import {Vault} from "../src/Vault.sol";
import {VaultFactory} from "../src/VaultFactory.sol";
import {VaultTest} from "./base/VaultTest.sol";

contract FundsTest is VaultTest {
    address private constant NATIVE = address(0);

    function testFuzz_deposit_counts_and_withdraw_gives_back(uint128 amount, uint128 part, address to) external {
        vm.assume(amount > 0 && to != address(0) && to != address(vault));
        part = uint128(between(part, 1, amount));
        depositEth18(amount);
        uint256 before = eth18.balanceOf(to);
        vm.expectEmit(true, true, false, true, address(vault));
        emit IVault.UserWithdraw(owner, address(eth18), part, to);
        vm.prank(owner);
        vault.withdraw(address(eth18), part, to);
        vm.assertEq(eth18.balanceOf(to), before + part, "received");
        vm.assertEq(eth18.balanceOf(address(vault)), amount - part, "left");
    }

    function test_deposit_says_who_and_how_much() external {
        eth18.mint(owner, 5);
        vm.startPrank(owner);
        eth18.approve(address(vault), 5);
        vm.expectEmit(true, true, false, true, address(vault));
        emit IVault.UserDeposit(owner, address(eth18), 5);
        vault.deposit(address(eth18), 5);
        vm.stopPrank();
    }

    function test_deposit_of_nothing_is_refused() external {
        vm.expectRevert(abi.encodeWithSelector(IVault.NothingReceived.selector, address(eth18)));
        vault.deposit(address(eth18), 0);
        vm.expectRevert(abi.encodeWithSelector(IVault.NothingReceived.selector, NATIVE));
        vault.depositNative();
    }

    function test_native_is_deposited_by_call_or_transfer_and_withdrawn() external {
        vm.deal(owner, 3e18);
        vm.startPrank(owner);
        vm.expectEmit(true, true, false, true, address(vault));
        emit IVault.UserDeposit(owner, NATIVE, 1e18);
        vault.depositNative{value: 1e18}();
        vm.expectEmit(true, true, false, true, address(vault));
        emit IVault.UserDeposit(owner, NATIVE, 2e18);
        (bool sent,) = address(vault).call{value: 2e18}("");
        vm.assertTrue(sent, "sent");
        vault.withdraw(NATIVE, 1e18, stranger);
        vm.assertEq(vault.withdrawAll(NATIVE, owner), 2e18, "all");
        vm.stopPrank();
        vm.assertEq(stranger.balance, 1e18, "part");
        vm.assertEq(owner.balance, 2e18, "rest");
    }

    function test_native_is_wrapped_and_unwrapped_by_the_owner_without_counting_as_a_deposit() external {
        vm.deal(address(vault), 2e18);
        vm.startPrank(owner);
        vault.wrapNative(2e18);
        vm.assertEq(weth.balanceOf(address(vault)), 2e18, "wrapped");
        vm.recordLogs();
        vault.unwrapNative(2e18);
        vm.stopPrank();
        vm.assertEq(vm.getRecordedLogs().length, 1, "only the token's own event");
        vm.assertEq(address(vault).balance, 2e18, "unwrapped");
    }

    function test_wrapping_is_refused_where_there_is_no_wrapped_native() external {
        Vault plain = Vault(payable(new VaultFactory(NATIVE).createVault(owner, 0)));
        vm.deal(address(plain), 1);
        vm.startPrank(owner);
        vm.expectRevert(abi.encodeWithSelector(IVault.AddressInvalid.selector, NATIVE));
        plain.wrapNative(1);
        vm.expectRevert(abi.encodeWithSelector(IVault.AddressInvalid.selector, NATIVE));
        plain.unwrapNative(1);
        vm.stopPrank();
    }

    function test_owner_withdraws_while_paused_and_expired() external {
        depositEth18(10);
        vm.startPrank(owner);
        vault.pause();
        vm.assertEq(vault.withdrawAll(address(eth18), owner), 10, "all");
        vm.stopPrank();
    }

    function testFuzz_nobody_else_moves_or_configures_anything(address caller) external {
        vm.assume(caller != owner);
        depositEth18(10);
        allowOperator();
        bytes[] memory calls = ownersCalls();
        for (uint256 i = 0; i < calls.length; ++i) {
            vm.prank(caller);
            (bool done, bytes memory problem) = address(vault).call(calls[i]);
            vm.assertTrue(!done, "refused");
            bytes memory expected = abi.encodeWithSelector(IVault.NotOwner.selector, caller, owner);
            vm.assertTrue(keccak256(problem) == keccak256(expected), "by name");
        }
    }

    function test_withdraw_to_nobody_or_to_itself_is_refused() external {
        depositEth18(10);
        vm.startPrank(owner);
        vm.expectRevert(abi.encodeWithSelector(IVault.AddressInvalid.selector, address(0)));
        vault.withdraw(address(eth18), 1, address(0));
        vm.expectRevert(abi.encodeWithSelector(IVault.AddressInvalid.selector, address(vault)));
        vault.withdrawAll(address(eth18), address(vault));
        vm.expectRevert(abi.encodeWithSelector(IVault.AddressInvalid.selector, address(0)));
        vault.withdrawUnchecked(address(eth18), 1, address(0));
        vm.stopPrank();
    }

    function test_withdraw_of_nothing_or_too_much_is_refused() external {
        depositEth18(10);
        vm.startPrank(owner);
        vm.expectRevert(IVault.AmountZero.selector);
        vault.withdraw(address(eth18), 0, owner);
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InsufficientBalance.selector, address(vault), 10, 11));
        vault.withdraw(address(eth18), 11, owner);
        vm.expectRevert(abi.encodeWithSelector(IVault.NothingMoved.selector, address(eth18)));
        vault.withdrawUnchecked(address(eth18), 0, owner);
        vm.stopPrank();
    }

    function test_multicall_configures_all_or_nothing() external {
        bytes[] memory calls = new bytes[](3);
        calls[0] = abi.encodeCall(vault.setOperator, (operator, uint64(START + 1)));
        calls[1] = abi.encodeCall(vault.setTokenPolicy, (address(eth18), true, 1, 2));
        calls[2] = abi.encodeCall(vault.setTokenPolicy, (stranger, true, 1, 2));
        vm.startPrank(owner);
        vm.expectRevert(abi.encodeWithSelector(IVault.AddressInvalid.selector, stranger));
        vault.multicall(calls);
        vm.assertEq(vault.operator(), address(0), "nothing");
        calls[2] = abi.encodeCall(vault.setCooldown, (60));
        vault.multicall(calls);
        vm.stopPrank();
        vm.assertEq(vault.operator(), operator, "operator");
        vm.assertEq(vault.cooldown(), 60, "cooldown");
    }

    function depositEth18(uint256 amount) private {
        eth18.mint(owner, amount);
        vm.startPrank(owner);
        eth18.approve(address(vault), amount);
        vm.assertEq(vault.deposit(address(eth18), amount), amount, "deposit");
        vm.stopPrank();
    }

    function ownersCalls() private view returns (bytes[] memory calls) {
        calls = new bytes[](14);
        calls[0] = abi.encodeCall(vault.withdraw, (address(eth18), 1, stranger));
        calls[1] = abi.encodeCall(vault.withdrawAll, (address(eth18), stranger));
        calls[2] = abi.encodeCall(vault.withdrawUnchecked, (address(eth18), 1, stranger));
        calls[3] = abi.encodeCall(vault.wrapNative, (1));
        calls[4] = abi.encodeCall(vault.unwrapNative, (1));
        calls[5] = abi.encodeCall(vault.setOperator, (stranger, type(uint48).max));
        calls[6] = abi.encodeCall(vault.revokeOperator, ());
        calls[7] = abi.encodeCall(vault.pause, ());
        calls[8] = abi.encodeCall(vault.unpause, ());
        calls[9] = abi.encodeCall(vault.setRouter, (address(eth18), 1));
        calls[10] = abi.encodeCall(vault.setTokenPolicy, (address(eth18), true, 1, 1));
        calls[11] = abi.encodeCall(vault.setCooldown, (1));
        calls[12] = abi.encodeCall(vault.setLossCap, (address(0), 0, 0));
        calls[13] = abi.encodeCall(vault.multicall, (new bytes[](0)));
    }
}
