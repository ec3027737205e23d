// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import {IVault} from "../src/interfaces/IVault.sol";
import {TestToken} from "../src/test/TestToken.sol";
import {Vm} from "./base/Vm.sol";
import {UniswapTest} from "./base/UniswapTest.sol";

contract SwapTest is UniswapTest {
    function setUp() public override {
        super.setUp();
        allowTrading();
        fund(100e18, 200_000e6);
    }

    function test_v3_single_hop_moves_measured_amounts_and_says_so() external {
        IVault.Swap memory s = swapOf(routerV3, sellEth(), 1e18);
        vm.recordLogs();
        uint256 amountOut = execute(s);
        vm.assertEq(eth18.balanceOf(address(vault)), 99e18, "eth left");
        vm.assertEq(usd6.balanceOf(address(vault)), 200_000e6 + amountOut, "usd came");
        vm.assertGe(amountOut, 1_990e6, "near the price");
        vm.assertEq(eth18.allowance(address(vault), routerV3), 0, "no approval left");
        vm.assertTrue(vault.tradeUsed(s.tradeId), "used");
        assertTradeLogged(s, address(eth18), address(usd6), amountOut);
    }

    function test_v3_two_hops_go_through_an_allowed_token() external {
        TestToken third = newThirdToken();
        allowToken(address(third));
        bytes memory path = abi.encodePacked(address(usd6), FEE, address(eth18), FEE, address(third));
        uint256 amountOut = execute(swapOf(routerV3, path, 2_000e6));
        vm.assertEq(third.balanceOf(address(vault)), amountOut, "third came");
        vm.assertEq(eth18.balanceOf(address(vault)), 100e18, "the hop kept nothing");
    }

    function test_hop_through_a_token_not_allowed_is_refused() external {
        TestToken third = newThirdToken();
        bytes memory path = abi.encodePacked(address(usd6), FEE, address(third), FEE, address(eth18));
        executeExpecting(
            swapOf(routerV3, path, 2_000e6), abi.encodeWithSelector(IVault.TokenNotAllowed.selector, address(third))
        );
    }

    function test_v2_swap_goes_through_the_published_router() external {
        deployV2(10_000);
        allowRouter(routerV2, 2);
        bytes memory path = pathV2(address(usd6), address(eth18));
        uint256 amountOut = execute(swapOf(routerV2, path, 2_000e6));
        vm.assertGe(amountOut, 0.99e18, "near the price");
        vm.assertEq(eth18.balanceOf(address(vault)), 100e18 + amountOut, "eth came");
        vm.assertEq(usd6.allowance(address(vault), routerV2), 0, "no approval left");
    }

    function test_router02_takes_the_call_without_a_deadline() external {
        Router02Recorder router = new Router02Recorder(usd6);
        allowRouter(address(router), 3);
        IVault.Swap memory s = swapOf(address(router), sellEth(), 1e18);
        execute(s);
        vm.assertEq(router.recipient(), address(vault), "recipient");
        vm.assertEq(router.amountIn(), 1e18, "amount in");
        vm.assertEq(router.amountOutMinimum(), s.minAmountOut, "min out");
    }

    function test_native_is_wrapped_for_what_is_missing() external {
        createPool(address(weth), 1e18, address(usd6), USD_PER_ETH * 1e6, 1_000);
        allowToken(address(weth));
        vm.deal(address(vault), 5e18);
        execute(swapOf(routerV3, pathV3(address(weth), FEE, address(usd6)), 2e18));
        vm.assertEq(address(vault).balance, 3e18, "native used");
        vm.assertEq(weth.balanceOf(address(vault)), 0, "all of it sold");
    }

    function test_native_short_of_the_amount_is_refused() external {
        allowToken(address(weth));
        vm.deal(address(vault), 1e18);
        executeExpecting(
            swapOf(routerV3, pathV3(address(weth), FEE, address(usd6)), 2e18),
            abi.encodeWithSelector(IVault.BalanceTooLow.selector, address(weth), 2e18, 0)
        );
    }

    function test_amount_above_the_balance_is_refused_with_the_balance() external {
        executeExpecting(
            swapOf(routerV3, sellEth(), 101e18),
            abi.encodeWithSelector(IVault.BalanceTooLow.selector, address(eth18), 101e18, 100e18)
        );
    }

    function test_trade_id_is_executed_at_most_once() external {
        IVault.Swap memory s = swapOf(routerV3, sellEth(), 1e18);
        execute(s);
        executeExpecting(s, abi.encodeWithSelector(IVault.TradeIdUsed.selector, s.tradeId));
    }

    function test_trade_id_of_a_failed_trade_stays_free() external {
        IVault.Swap memory s = swapOf(routerV3, sellEth(), 1e18);
        s.minAmountOut = 3_000e6;
        executeExpecting(s, abi.encodeWithSignature("Error(string)", "Too little received"));
        vm.assertTrue(!vault.tradeUsed(s.tradeId), "free");
        s.minAmountOut = 1;
        execute(s);
    }

    function testFuzz_path_of_any_bytes_never_passes_as_something_else(bytes calldata path) external {
        vm.assume(path.length < 43 || (path.length - 20) % 23 != 0);
        executeExpecting(swapOf(routerV3, path, 1e18), abi.encodeWithSelector(IVault.PathInvalid.selector, path.length));
    }

    function test_path_back_to_its_first_token_is_refused() external {
        bytes memory path = abi.encodePacked(address(eth18), FEE, address(usd6), FEE, address(eth18));
        executeExpecting(
            swapOf(routerV3, path, 1e18), abi.encodeWithSelector(IVault.PathCircular.selector, address(eth18))
        );
    }

    function testFuzz_vault_never_pays_more_nor_takes_less_than_agreed(uint256 amountIn, uint256 minAmountOut)
        external
    {
        amountIn = between(amountIn, 1, 100e18);
        IVault.Swap memory s = swapOf(routerV3, sellEth(), amountIn);
        s.minAmountOut = between(minAmountOut, 1, 300_000e6);
        uint256 usdBefore = usd6.balanceOf(address(vault));
        vm.prank(operator);
        try vault.executeSwap(s) returns (uint256 amountOut) {
            vm.assertGe(amountOut, s.minAmountOut, "min out");
            vm.assertEq(usd6.balanceOf(address(vault)), usdBefore + amountOut, "usd");
            vm.assertEq(eth18.balanceOf(address(vault)), 100e18 - amountIn, "eth");
        } catch {
            vm.assertEq(usd6.balanceOf(address(vault)), usdBefore, "usd untouched");
            vm.assertEq(eth18.balanceOf(address(vault)), 100e18, "eth untouched");
        }
    }

    function newThirdToken() private returns (TestToken third) {
        third = new TestToken("Third", "THD", 8);
        createPool(address(eth18), 1e18, address(third), 1e8, 10_000);
        createPool(address(usd6), 2_000e6, address(third), 1e8, 10_000);
    }

    function assertTradeLogged(IVault.Swap memory s, address tokenIn, address tokenOut, uint256 amountOut) private {
        bytes memory expected = abi.encode(tokenIn, tokenOut, s.amountIn, amountOut, s.router);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        Vm.Log memory last = logs[logs.length - 1];
        vm.assertEq(last.emitter, address(vault), "emitter");
        vm.assertTrue(last.topics[0] == IVault.TradeExecuted.selector, "event");
        vm.assertTrue(last.topics[1] == s.tradeId && last.topics[2] == s.flowId, "indexed ids");
        vm.assertTrue(keccak256(last.data) == keccak256(expected), "data");
    }
}

contract Router02Recorder {
    struct ExactInputParams {
        bytes path;
        address recipient;
        uint256 amountIn;
        uint256 amountOutMinimum;
    }

    TestToken private immutable _pays;
    address public recipient;
    uint256 public amountIn;
    uint256 public amountOutMinimum;

    constructor(TestToken pays) {
        _pays = pays;
    }

    function exactInput(ExactInputParams calldata params) external returns (uint256) {
        (recipient, amountIn, amountOutMinimum) = (params.recipient, params.amountIn, params.amountOutMinimum);
        TestToken(address(bytes20(params.path))).transferFrom(msg.sender, address(this), params.amountIn);
        _pays.mint(params.recipient, params.amountOutMinimum);
        return params.amountOutMinimum;
    }
}
