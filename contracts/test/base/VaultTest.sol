// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import {IVault} from "../../src/interfaces/IVault.sol";
import {SwapRouters} from "../../src/SwapRouters.sol";
import {Vault} from "../../src/Vault.sol";
import {VaultFactory} from "../../src/VaultFactory.sol";
import {TestToken} from "../../src/test/TestToken.sol";
import {TestWrappedNative} from "../../src/test/TestWrappedNative.sol";
import {Vm} from "./Vm.sol";

/// @title A factory, one owner's vault, an operator, and two tokens of 18 and 6 decimals
abstract contract VaultTest {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    uint256 internal constant UNCAPPED = type(uint256).max;
    uint256 internal constant START = 1_800_000_000;

    address internal owner = vm.addr(1);
    address internal operator = vm.addr(2);
    address internal stranger = vm.addr(3);

    TestWrappedNative internal weth;
    TestToken internal eth18;
    TestToken internal usd6;
    VaultFactory internal factory;
    Vault internal vault;
    uint256 private _lastTrade;

    function setUp() public virtual {
        vm.warp(START);
        weth = new TestWrappedNative();
        eth18 = new TestToken("Test Ether", "TETH", 18);
        usd6 = new TestToken("Test Dollar", "TUSD", 6);
        factory = new VaultFactory(address(weth));
        vault = Vault(payable(factory.createVault(owner, bytes32(0))));
    }

    function allowToken(address token) internal {
        vm.prank(owner);
        vault.setTokenPolicy(token, true, UNCAPPED, UNCAPPED);
    }

    function allowRouter(address router, uint8 kind) internal {
        vm.prank(owner);
        vault.setRouter(router, kind);
    }

    function allowOperator() internal {
        vm.prank(owner);
        vault.setOperator(operator, uint64(block.timestamp + 365 days));
    }

    function swapOf(address router, bytes memory path, uint256 amountIn) internal returns (IVault.Swap memory) {
        return IVault.Swap({
            tradeId: keccak256(abi.encode("trade", ++_lastTrade)),
            flowId: keccak256("flow"),
            router: router,
            path: path,
            amountIn: amountIn,
            minAmountOut: 1,
            deadline: block.timestamp + 120
        });
    }

    function execute(IVault.Swap memory s) internal returns (uint256) {
        vm.prank(operator);
        return vault.executeSwap(s);
    }

    function executeExpecting(IVault.Swap memory s, bytes memory problem) internal {
        vm.expectRevert(problem);
        execute(s);
    }

    function pathV3(address a, uint24 fee, address b) internal pure returns (bytes memory) {
        return abi.encodePacked(a, fee, b);
    }

    function pathV2(address a, address b) internal pure returns (bytes memory) {
        return abi.encodePacked(a, b);
    }

    function between(uint256 value, uint256 low, uint256 high) internal pure returns (uint256) {
        return low + value % (high - low + 1);
    }
}
