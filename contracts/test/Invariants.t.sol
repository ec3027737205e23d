// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import {IPriceSource} from "../src/interfaces/IPriceSource.sol";
import {UniswapTest} from "./base/UniswapTest.sol";
import {VaultHandler} from "./base/VaultHandler.sol";
import {ThiefRouter} from "./doubles/Thief.sol";

/// @dev One eth18 is worth 2,000 usd6 for ever, in units of 18 decimals: whatever the pool says.
contract FairSource is IPriceSource {
    address private immutable _eth18;

    constructor(address eth18) {
        _eth18 = eth18;
    }

    function valueOf(address token, uint256 amount) external view returns (uint256) {
        return token == _eth18 ? amount * 2_000 : amount * 1e12;
    }
}

/// @title What holds after any sequence of what owner, operator, strangers and time may do
contract InvariantsTest is UniswapTest {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    uint256 private constant LOSS_CAP = 3_000e18;
    uint64 private constant WINDOW = 1 days;
    uint256 private constant ETH_PER_DAY = 20e18;
    uint256 private constant USD_PER_DAY = 40_000e6;

    VaultHandler private handler;
    ThiefRouter private thief;

    function setUp() public override {
        super.setUp();
        thief = new ThiefRouter();
        FairSource fair = new FairSource(address(eth18));
        allowTrading();
        allowRouter(address(thief), 1);
        vm.startPrank(owner);
        vault.setTokenPolicy(address(eth18), true, 4e18, ETH_PER_DAY);
        vault.setTokenPolicy(address(usd6), true, 8_000e6, USD_PER_DAY);
        vault.setLossCap(address(fair), LOSS_CAP, WINDOW);
        vm.stopPrank();
        handler =
            new VaultHandler(VaultHandler.Parts(vault, eth18, usd6, owner, operator, routerV3, address(thief), fair));
        handler.ownerDeposits(true, 50e18);
        handler.ownerDeposits(false, 100_000e6);
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    /// @notice Whatever the operator does, a window takes no more than the loss cap from the owner.
    function invariant_operator_takes_the_loss_cap_at_most() external view {
        vm.assertLe(handler.droppedWithin(WINDOW), LOSS_CAP, "value taken within the window");
    }

    /// @notice Whatever happened, the owner gets out all there is, now.
    function invariant_owner_can_withdraw_everything() external {
        withdrawsAll(address(eth18));
        withdrawsAll(address(usd6));
    }

    /// @notice No trade id was executed twice, and nobody did what only the owner may.
    function invariant_trade_ids_execute_once() external view {
        vm.assertEq(handler.breaches(), 0, "breaches");
        vm.assertEq(handler.executions(handler.lastTradeId()) > 1 ? 1 : 0, 0, "executed twice");
    }

    /// @notice Between transactions no router may take anything.
    function invariant_approvals_are_zero() external view {
        vm.assertEq(eth18.allowance(address(vault), routerV3), 0, "eth router");
        vm.assertEq(usd6.allowance(address(vault), routerV3), 0, "usd router");
        vm.assertEq(eth18.allowance(address(vault), address(thief)), 0, "eth thief");
        vm.assertEq(usd6.allowance(address(vault), address(thief)), 0, "usd thief");
    }

    /// @notice The vault holds what came in less what went out, and a day sells no more than its cap.
    function invariant_books_balance_and_day_caps_hold() external view {
        vm.assertEq(eth18.balanceOf(address(vault)), handler.held(address(eth18)), "eth held");
        vm.assertEq(usd6.balanceOf(address(vault)), handler.held(address(usd6)), "usd held");
        uint256 today = block.timestamp / 1 days;
        vm.assertLe(handler.soldOn(address(eth18), today), ETH_PER_DAY, "eth sold today");
        vm.assertLe(handler.soldOn(address(usd6), today), USD_PER_DAY, "usd sold today");
    }

    /// @dev Guards the invariants against a handler whose trades never go through.
    function test_each_of_the_operators_ways_executes_a_trade() external {
        handler.operatorTrades(1, true, 1e18, 60);
        handler.operatorSandwiches(2, false, 1_000e6, 10);
        handler.operatorSteals(3, true, 1e17, 0);
        vm.assertEq(handler.trades(), 3, "trades");
        vm.assertGe(handler.droppedWithin(WINDOW), 20e18, "and takes something");
    }

    function withdrawsAll(address token) private {
        uint256 balance = eth18.balanceOf(address(vault));
        if (token != address(eth18)) balance = usd6.balanceOf(address(vault));
        if (balance == 0) return;
        vm.prank(owner);
        vm.assertEq(vault.withdrawAll(token, owner), balance, "withdrawn");
    }
}
