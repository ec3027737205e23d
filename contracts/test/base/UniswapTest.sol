// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {ISwapRouterV3} from "../../src/interfaces/ISwapRouters.sol";
import {TestToken} from "../../src/test/TestToken.sol";
import {VaultTest} from "./VaultTest.sol";

interface IUniswapV3Factory {
    function createPool(address a, address b, uint24 fee) external returns (address pool);
}

interface IUniswapV3Pool {
    function initialize(uint160 sqrtPriceX96) external;
    function increaseObservationCardinalityNext(uint16 next) external;
    function mint(address recipient, int24 low, int24 high, uint128 liquidity, bytes calldata data)
        external
        returns (uint256, uint256);
    function token0() external view returns (address);
    function token1() external view returns (address);
}

interface IUniswapV2Router {
    function addLiquidity(
        address a,
        address b,
        uint256 amountA,
        uint256 amountB,
        uint256 minA,
        uint256 minB,
        address to,
        uint256 deadline
    ) external returns (uint256, uint256, uint256);
}

/// @title Uniswap's published bytecode with pools of eth18 and usd6 at 2,000 usd6 an eth18
abstract contract UniswapTest is VaultTest {
    uint24 internal constant FEE = 500;
    int24 private constant TICK_SPACING = 10;
    int24 private constant FULL_RANGE = 887_270;
    uint256 internal constant USD_PER_ETH = 2_000;

    address internal factoryV3;
    address internal routerV3;
    address internal routerV2;
    address internal pool;

    function setUp() public virtual override {
        super.setUp();
        factoryV3 = deploy("v3-core/artifacts/contracts/UniswapV3Factory.sol/UniswapV3Factory", "");
        routerV3 =
            deploy("v3-periphery/artifacts/contracts/SwapRouter.sol/SwapRouter", abi.encode(factoryV3, address(weth)));
        pool = createPool(address(eth18), 1e18, address(usd6), USD_PER_ETH * 1e6, 10_000);
    }

    /// @dev Everything the operator needs to trade eth18 and usd6 through the V3 router without caps.
    function allowTrading() internal {
        allowOperator();
        allowRouter(routerV3, 1);
        allowToken(address(eth18));
        allowToken(address(usd6));
    }

    function fund(uint256 ethAmount, uint256 usdAmount) internal {
        eth18.mint(address(vault), ethAmount);
        usd6.mint(address(vault), usdAmount);
    }

    function sellEth() internal view returns (bytes memory) {
        return pathV3(address(eth18), FEE, address(usd6));
    }

    function sellUsd() internal view returns (bytes memory) {
        return pathV3(address(usd6), FEE, address(eth18));
    }

    /// @dev A full-range V3 pool in which `amountA` of a is worth `amountB` of b, with `depth` times both in it.
    function createPool(address a, uint256 amountA, address b, uint256 amountB, uint256 depth)
        internal
        returns (address made)
    {
        made = IUniswapV3Factory(factoryV3).createPool(a, b, FEE);
        (uint256 amount0, uint256 amount1) = a < b ? (amountA, amountB) : (amountB, amountA);
        IUniswapV3Pool(made).initialize(uint160(Math.sqrt(Math.mulDiv(amount1, 1 << 192, amount0))));
        IUniswapV3Pool(made).increaseObservationCardinalityNext(50);
        uint128 liquidity = uint128(Math.sqrt(amountA * depth) * Math.sqrt(amountB * depth));
        IUniswapV3Pool(made).mint(address(this), -FULL_RANGE, FULL_RANGE, liquidity, "");
    }

    function uniswapV3MintCallback(uint256 owed0, uint256 owed1, bytes calldata) external {
        provide(IUniswapV3Pool(msg.sender).token0(), msg.sender, owed0);
        provide(IUniswapV3Pool(msg.sender).token1(), msg.sender, owed1);
    }

    function provide(address token, address to, uint256 amount) internal {
        if (token != address(weth)) return TestToken(token).mint(to, amount);
        vm.deal(address(this), amount);
        weth.deposit{value: amount}();
        IERC20(token).transfer(to, amount);
    }

    /// @dev Uniswap V2 with one pair of eth18 and usd6 at the same price.
    function deployV2(uint256 depth) internal {
        address factoryV2 = deploy("v2-core/build/UniswapV2Factory", abi.encode(address(this)));
        routerV2 = deploy("v2-periphery/build/UniswapV2Router02", abi.encode(factoryV2, address(weth)));
        eth18.mint(address(this), depth * 1e18);
        usd6.mint(address(this), depth * USD_PER_ETH * 1e6);
        eth18.approve(routerV2, type(uint256).max);
        usd6.approve(routerV2, type(uint256).max);
        IUniswapV2Router(routerV2)
            .addLiquidity(
                address(eth18),
                address(usd6),
                depth * 1e18,
                depth * USD_PER_ETH * 1e6,
                0,
                0,
                address(this),
                block.timestamp
            );
    }

    /// @dev A swap straight through the V3 router by `trader`, minting what it needs.
    function swapDirect(address trader, bytes memory path, uint256 amountIn) internal returns (uint256) {
        address token = address(bytes20(path));
        provide(token, trader, amountIn);
        vm.startPrank(trader);
        IERC20(token).approve(routerV3, amountIn);
        uint256 out = ISwapRouterV3(routerV3)
            .exactInput(ISwapRouterV3.ExactInputParams(path, trader, block.timestamp, amountIn, 0));
        vm.stopPrank();
        return out;
    }

    function deploy(string memory artifact, bytes memory arguments) internal returns (address made) {
        string memory path = string.concat("node_modules/@uniswap/", artifact, ".json");
        bytes memory code = vm.parseJsonBytes(vm.readFile(path), ".bytecode");
        bytes memory initcode = bytes.concat(code, arguments);
        assembly ("memory-safe") {
            made := create(0, add(initcode, 0x20), mload(initcode))
        }
        require(made != address(0), string.concat("no deployment of ", artifact));
    }
}
