// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import {Vault} from "../src/Vault.sol";
import {VaultFactory} from "../src/VaultFactory.sol";
import {VaultTest} from "./base/VaultTest.sol";

contract FactoryTest is VaultTest {
    event VaultCreated(address indexed user, address indexed vault);

    function testFuzz_vault_is_where_it_was_predicted(address user, bytes32 salt, address payer) external {
        vm.assume(user != address(0) && (user != owner || salt != 0));
        address predicted = factory.predictVault(user, salt);
        vm.expectEmit(true, true, false, true, address(factory));
        emit VaultCreated(user, predicted);
        vm.prank(payer);
        address made = factory.createVault(user, salt);
        vm.assertEq(made, predicted, "address");
        vm.assertEq(Vault(payable(made)).owner(), user, "owner");
        vm.assertTrue(factory.isVault(made), "registered");
        vm.assertEq(factory.vaultAt(factory.vaultCount() - 1), made, "last in the registry");
    }

    function test_same_salt_gives_each_owner_an_own_vault() external view {
        vm.assertTrue(factory.predictVault(owner, "s") != factory.predictVault(stranger, "s"), "bound to the owner");
    }

    function test_second_creation_names_the_vault_that_exists() external {
        vm.expectRevert(abi.encodeWithSelector(VaultFactory.VaultExists.selector, address(vault)));
        factory.createVault(owner, bytes32(0));
        vm.assertEq(factory.vaultCount(), 1, "count");
    }

    function test_zero_owner_is_refused() external {
        vm.expectRevert(abi.encodeWithSelector(VaultFactory.OwnerInvalid.selector, address(0)));
        factory.createVault(address(0), bytes32(0));
    }

    function test_index_beyond_the_registry_is_refused() external {
        vm.expectRevert(abi.encodeWithSelector(VaultFactory.VaultIndexOutOfRange.selector, 1, 1));
        factory.vaultAt(1);
    }

    function test_vault_created_by_a_stranger_allows_nothing() external {
        vm.prank(stranger);
        Vault made = Vault(payable(factory.createVault(owner, "early")));
        vm.assertEq(made.operator(), address(0), "operator");
        vm.assertEq(made.operatorExpiresAt(), 0, "expiry");
        vm.assertTrue(!made.paused(), "paused");
        vm.assertEq(made.routerKind(stranger), 0, "router");
        (bool allowed, uint256 perTradeCap, uint256 perDayCap,) = made.tokenPolicy(address(weth));
        vm.assertTrue(!allowed && perTradeCap == 0 && perDayCap == 0, "token");
        vm.assertEq(made.owner(), owner, "owner");
    }

    function test_implementation_belongs_to_nobody() external {
        Vault implementation = Vault(payable(factory.implementation()));
        vm.assertEq(implementation.owner(), address(0), "owner");
        vm.expectRevert();
        vm.prank(stranger);
        implementation.setOperator(stranger, type(uint64).max);
    }

    function test_wrapped_native_is_the_factorys() external view {
        vm.assertEq(vault.wrappedNative(), address(weth), "wrapped native");
    }
}
