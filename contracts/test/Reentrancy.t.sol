// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import {IVault} from "../src/interfaces/IVault.sol";
import {Vault} from "../src/Vault.sol";
import {VaultFactory} from "../src/VaultFactory.sol";
import {VaultTest} from "./base/VaultTest.sol";
import {FixedRateRouter} from "./doubles/FixedRateRouter.sol";
import {HookRouter, HookToken, Puppet} from "./doubles/Reentrant.sol";

/// @title From every call the vault makes, its owner and operator in one calls back into every function that moves funds
contract ReentrancyTest is VaultTest {
    uint24 private constant FEE = 500;
    uint256 private constant ATTEMPTS = 7;

    Puppet private puppet;
    HookToken private hooked;
    FixedRateRouter private router;

    function setUp() public override {
        super.setUp();
        puppet = new Puppet();
        hooked = new HookToken();
        router = new FixedRateRouter();
        vault = Vault(payable(new VaultFactory(address(hooked)).createVault(address(puppet), 0)));
        asPuppet(abi.encodeCall(vault.setOperator, (address(puppet), uint64(START + 1 days))));
        asPuppet(abi.encodeCall(vault.setTokenPolicy, (address(hooked), true, UNCAPPED, UNCAPPED)));
        asPuppet(abi.encodeCall(vault.setTokenPolicy, (address(usd6), true, UNCAPPED, UNCAPPED)));
        asPuppet(abi.encodeCall(vault.setRouter, (address(router), 1)));
        stock(address(vault), 1_000);
        stock(address(router), 2_000);
        stock(address(puppet), 1_000);
        puppet.prepare(payable(vault), attempts());
    }

    function test_from_approve_in_a_swap() external {
        hooked.hook(puppet, hooked.approve.selector);
        expectRefused(swapCall(router, address(hooked), address(usd6), 100));
    }

    function test_from_token_in_hook_in_a_swap() external {
        hooked.hook(puppet, hooked.transferFrom.selector);
        expectRefused(swapCall(router, address(hooked), address(usd6), 100));
    }

    function test_from_token_out_hook_in_a_swap() external {
        hooked.hook(puppet, hooked.transfer.selector);
        expectRefused(swapCall(router, address(usd6), address(hooked), 100));
    }

    function test_from_the_router() external {
        HookRouter malicious = new HookRouter(puppet);
        stock(address(malicious), 1_000);
        asPuppet(abi.encodeCall(vault.setRouter, (address(malicious), 1)));
        expectRefused(swapCall(malicious, address(usd6), address(hooked), 100));
    }

    function test_from_wrapping_in_a_swap() external {
        hooked.hook(puppet, hooked.deposit.selector);
        expectRefused(swapCall(router, address(hooked), address(usd6), 1_100));
    }

    function test_from_deposit() external {
        puppet.act(address(hooked), abi.encodeCall(hooked.approve, (address(vault), 1_000)));
        hooked.hook(puppet, hooked.transferFrom.selector);
        expectRefused(abi.encodeCall(vault.deposit, (address(hooked), 1_000)));
    }

    function test_from_withdraw() external {
        hooked.hook(puppet, hooked.transfer.selector);
        expectRefused(abi.encodeCall(vault.withdraw, (address(hooked), 1, stranger)));
        expectRefused(abi.encodeCall(vault.withdrawAll, (address(hooked), stranger)));
    }

    function test_from_withdraw_unchecked() external {
        hooked.hook(puppet, hooked.transfer.selector);
        expectRefused(abi.encodeCall(vault.withdrawUnchecked, (address(hooked), 1, stranger)));
    }

    function test_from_a_native_withdrawal() external {
        expectRefused(abi.encodeCall(vault.withdraw, (address(0), 1, address(puppet))));
    }

    function test_from_wrapping_and_unwrapping() external {
        hooked.hook(puppet, hooked.deposit.selector);
        expectRefused(abi.encodeCall(vault.wrapNative, (1)));
        hooked.hook(puppet, hooked.withdraw.selector);
        expectRefused(abi.encodeCall(vault.unwrapNative, (1)));
    }

    function expectRefused(bytes memory entry) private {
        uint256 before = puppet.refused();
        puppet.act(address(vault), entry);
        vm.assertEq(puppet.refused() - before, ATTEMPTS, "refused from inside");
        (bool allowedAfterwards,) = address(puppet)
            .call(
                abi.encodeCall(puppet.act, (address(vault), abi.encodeCall(vault.withdraw, (address(usd6), 1, owner))))
            );
        vm.assertTrue(allowedAfterwards, "and open again afterwards");
    }

    function asPuppet(bytes memory call_) private {
        puppet.act(address(vault), call_);
    }

    function stock(address holder, uint256 amount) private {
        hooked.mint(holder, amount);
        usd6.mint(holder, amount);
        vm.deal(holder, amount);
    }

    function swapCall(FixedRateRouter through, address tokenIn, address tokenOut, uint256 amountIn)
        private
        returns (bytes memory)
    {
        return abi.encodeCall(vault.executeSwap, (swapOf(address(through), pathV3(tokenIn, FEE, tokenOut), amountIn)));
    }

    function attempts() private returns (bytes[] memory calls) {
        calls = new bytes[](ATTEMPTS);
        calls[0] = abi.encodeCall(vault.deposit, (address(usd6), 1));
        calls[1] = abi.encodeCall(vault.withdraw, (address(usd6), 1, stranger));
        calls[2] = abi.encodeCall(vault.withdrawAll, (address(usd6), stranger));
        calls[3] = abi.encodeCall(vault.withdrawUnchecked, (address(usd6), 1, stranger));
        calls[4] = abi.encodeCall(vault.wrapNative, (1));
        calls[5] = abi.encodeCall(vault.unwrapNative, (1));
        calls[6] = swapCall(router, address(usd6), address(hooked), 1);
    }
}
