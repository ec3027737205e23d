// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {IPriceSource} from "../../src/interfaces/IPriceSource.sol";
import {ISwapRouterV3} from "../../src/interfaces/ISwapRouters.sol";
import {IVault} from "../../src/interfaces/IVault.sol";
import {Vault} from "../../src/Vault.sol";
import {TestToken} from "../../src/test/TestToken.sol";
import {Vm} from "./Vm.sol";

/// @title Plays owner, operator and strangers against one vault, and keeps its own books
/// @dev What the books say is what the vault must have done; nothing here reads the vault's own counters.
contract VaultHandler {
    struct Parts {
        Vault vault;
        TestToken eth18;
        TestToken usd6;
        address owner;
        address operator;
        address routerV3;
        address thief;
        IPriceSource fair;
    }

    struct Drop {
        uint256 at;
        uint256 value;
    }

    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    uint24 private constant FEE = 500;
    uint256 private constant TRADE_IDS = 4_096;

    Parts private _parts;
    Drop[] private _drops;
    mapping(bytes32 tradeId => uint256) public executions;
    mapping(address token => uint256) public held;
    mapping(address token => mapping(uint256 day => uint256)) public soldOn;
    bytes32 public lastTradeId;
    uint256 public trades;
    uint256 public breaches;

    constructor(Parts memory parts) {
        _parts = parts;
    }

    // ------------------------------------------------------------------ the operator

    /// @notice Swaps at the market through the real router.
    function operatorTrades(uint256 id, bool sellEth, uint256 amount, uint256 deadline) external {
        _attack(_parts.routerV3, id, sellEth, amount, 1, deadline);
    }

    /// @notice Pushes the pool, swaps the vault's funds at the worst price, and pulls it back.
    function operatorSandwiches(uint256 id, bool sellEth, uint256 amount, uint256 push) external {
        uint256 worth = sellEth ? 1e18 : 2_000e6;
        uint256 got = _swapDirect(sellEth, worth * (1 + push % 5_000));
        _attack(_parts.routerV3, id, sellEth, amount, 1, 60);
        _swapDirect(!sellEth, got);
    }

    /// @notice Swaps below the fair price through a router of its own that the owner was talked into allowing.
    function operatorSteals(uint256 id, bool sellEth, uint256 amount, uint256 pay) external {
        (, uint256 fairOut) = _terms(sellEth, amount);
        _attack(_parts.thief, id, sellEth, amount, 1 + fairOut * (9_000 + pay % 1_001) / 10_000, 60);
    }

    /// @notice Repeats the last trade with the same id.
    function operatorRepeats(bool sellEth, uint256 amount) external {
        _execute(_swap(_parts.thief, lastTradeId, sellEth, amount % 1e18 + 1, 1, 60));
    }

    /// @notice Tries what only the owner may.
    function operatorUsurps(uint256 choice, uint256 amount) external {
        Vault vault = _parts.vault;
        address thief = _parts.operator;
        bytes[6] memory calls = [
            abi.encodeCall(vault.withdraw, (address(_parts.eth18), amount, thief)),
            abi.encodeCall(vault.withdrawAll, (address(_parts.usd6), thief)),
            abi.encodeCall(vault.setRouter, (_parts.thief, 2)),
            abi.encodeCall(vault.setTokenPolicy, (address(_parts.eth18), true, amount, amount)),
            abi.encodeCall(vault.setLossCap, (address(0), 0, 0)),
            abi.encodeCall(vault.setOperator, (thief, type(uint48).max))
        ];
        vm.prank(thief);
        (bool done,) = address(vault).call(calls[choice % calls.length]);
        if (done) ++breaches;
    }

    // ------------------------------------------------------------------ the owner

    function ownerDeposits(bool eth, uint256 amount) external {
        TestToken token = eth ? _parts.eth18 : _parts.usd6;
        amount = 1 + amount % (eth ? 100e18 : 200_000e6);
        token.mint(_parts.owner, amount);
        vm.startPrank(_parts.owner);
        token.approve(address(_parts.vault), amount);
        held[address(token)] += _parts.vault.deposit(address(token), amount);
        vm.stopPrank();
    }

    function ownerWithdraws(bool eth, uint256 amount) external {
        TestToken token = eth ? _parts.eth18 : _parts.usd6;
        uint256 balance = token.balanceOf(address(_parts.vault));
        if (balance == 0) return;
        amount = 1 + amount % (1 + balance / 2);
        vm.prank(_parts.owner);
        _parts.vault.withdraw(address(token), amount, _parts.owner);
        held[address(token)] -= amount;
    }

    function ownerPausesOrNot(uint256 dice) external {
        vm.prank(_parts.owner);
        if (dice % 8 == 0) _parts.vault.pause();
        else _parts.vault.unpause();
    }

    function ownerRenewsOperator(uint256 lifetime) external {
        vm.prank(_parts.owner);
        _parts.vault.setOperator(_parts.operator, uint64(block.timestamp + 1 hours + lifetime % 30 days));
    }

    // ------------------------------------------------------------------ the world

    function timePasses(uint256 wait) external {
        vm.warp(block.timestamp + wait % 20 hours);
    }

    // ------------------------------------------------------------------ the books

    /// @notice What the operator's trades of the last `window` seconds took from the owner, gains not counted.
    function droppedWithin(uint256 window) external view returns (uint256 sum) {
        for (uint256 i = _drops.length; i > 0 && _drops[i - 1].at + window > block.timestamp; --i) {
            sum += _drops[i - 1].value;
        }
    }

    function _attack(address router, uint256 id, bool sellEth, uint256 amount, uint256 minOut, uint256 deadline)
        private
    {
        (amount,) = _terms(sellEth, amount);
        bytes32 tradeId = bytes32(id % TRADE_IDS);
        _execute(_swap(router, tradeId, sellEth, amount, minOut, deadline % 130));
    }

    function _execute(IVault.Swap memory s) private {
        uint256 before = _value();
        vm.prank(_parts.operator);
        try _parts.vault.executeSwap(s) returns (uint256 amountOut) {
            _book(s, amountOut);
        } catch {}
        uint256 afterwards = _value();
        if (afterwards < before) _drops.push(Drop(block.timestamp, before - afterwards));
    }

    function _book(IVault.Swap memory s, uint256 amountOut) private {
        bool sellEth = bytes20(s.path) == bytes20(address(_parts.eth18));
        (address tokenIn, address tokenOut) = _pair(sellEth);
        held[tokenIn] -= s.amountIn;
        held[tokenOut] += amountOut;
        soldOn[tokenIn][block.timestamp / 1 days] += s.amountIn;
        ++executions[s.tradeId];
        if (executions[s.tradeId] > 1) ++breaches;
        lastTradeId = s.tradeId;
        ++trades;
    }

    /// @dev An amount in the range of one trade, and what it is worth of the other token at 2,000.
    function _terms(bool sellEth, uint256 amount) private pure returns (uint256 amountIn, uint256 fairOut) {
        amountIn = 1 + amount % (sellEth ? 5e18 : 10_000e6);
        fairOut = sellEth ? amountIn * 2_000e6 / 1e18 : amountIn * 1e18 / 2_000e6;
    }

    function _swap(address router, bytes32 tradeId, bool sellEth, uint256 amount, uint256 minOut, uint256 deadline)
        private
        view
        returns (IVault.Swap memory)
    {
        (address tokenIn, address tokenOut) = _pair(sellEth);
        bytes memory path = abi.encodePacked(tokenIn, FEE, tokenOut);
        return IVault.Swap(tradeId, "flow", router, path, amount, minOut, block.timestamp + deadline);
    }

    function _swapDirect(bool sellEth, uint256 amount) private returns (uint256) {
        (address tokenIn, address tokenOut) = _pair(sellEth);
        TestToken(tokenIn).mint(address(this), amount);
        IERC20(tokenIn).approve(_parts.routerV3, amount);
        bytes memory path = abi.encodePacked(tokenIn, FEE, tokenOut);
        return ISwapRouterV3(_parts.routerV3)
            .exactInput(ISwapRouterV3.ExactInputParams(path, address(this), block.timestamp, amount, 0));
    }

    function _pair(bool sellEth) private view returns (address tokenIn, address tokenOut) {
        (tokenIn, tokenOut) = (address(_parts.eth18), address(_parts.usd6));
        if (!sellEth) (tokenIn, tokenOut) = (tokenOut, tokenIn);
    }

    /// @dev The owner's wealth in the vault at fair prices.
    function _value() private view returns (uint256) {
        address vault = address(_parts.vault);
        return _parts.fair.valueOf(address(_parts.eth18), _parts.eth18.balanceOf(vault))
            + _parts.fair.valueOf(address(_parts.usd6), _parts.usd6.balanceOf(vault));
    }
}
