// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {IPriceSource} from "../interfaces/IPriceSource.sol";

/// @title What a time-weighted price needs of a Uniswap V3 pool
interface IUniswapV3Oracle {
    function token0() external view returns (address);
    function token1() external view returns (address);
    function observe(uint32[] calldata secondsAgos)
        external
        view
        returns (int56[] memory tickCumulatives, uint160[] memory secondsPerLiquidityCumulativeX128s);
}

/// @title Values tokens in base units of one quote token, by the mean price of Uniswap V3 pools over a period
/// @notice A trade cannot move its own measure: the mean ends before the block's own swaps can weigh in. It has no
/// admin; what it measures is fixed when it is made. The pools must keep enough observations to cover the period. The
/// mean is in whole ticks: right to one basis point.
contract TwapPriceSource is IPriceSource {
    /// @dev 1.0001 as a fixed-point number with 96 binary places: Uniswap V3's price step per tick.
    uint256 private constant TICK_BASE_X96 = (uint256(10_001) << 96) / 10_000;
    uint256 private constant ONE_X96 = 1 << 96;

    /// @notice The token whose base units values are counted in.
    address public immutable quote;
    /// @notice How many seconds the mean covers.
    uint32 public immutable periodSeconds;
    /// @notice The pool of a token and the quote; `address(0)` for a token without a price.
    mapping(address token => address pool) public poolOf;

    error PriceUnknown(address token);
    error PoolMismatch(address pool, address token, address quote);
    error LengthMismatch(uint256 tokens, uint256 pools);
    error PeriodZero();

    // slither-disable-next-line missing-zero-check // no pool holds address(0), so it would be refused below
    constructor(address quote_, uint32 periodSeconds_, address[] memory tokens, address[] memory pools) {
        if (periodSeconds_ == 0) revert PeriodZero();
        if (tokens.length != pools.length) revert LengthMismatch(tokens.length, pools.length);
        quote = quote_;
        periodSeconds = periodSeconds_;
        for (uint256 i = 0; i < tokens.length; ++i) {
            _requirePool(pools[i], tokens[i], quote_);
            poolOf[tokens[i]] = pools[i];
        }
    }

    /// @inheritdoc IPriceSource
    function valueOf(address token, uint256 amount) external view returns (uint256 value) {
        if (token == quote) return amount;
        address pool = poolOf[token];
        if (pool == address(0)) revert PriceUnknown(token);
        int24 tick = _meanTick(pool);
        if (token > quote) tick = -tick;
        return tick < 0
            ? Math.mulDiv(amount, ONE_X96, _powerX96(uint24(-tick)))
            : Math.mulDiv(amount, _powerX96(uint24(tick)), ONE_X96);
    }

    function _meanTick(address pool) private view returns (int24) {
        uint32[] memory ago = new uint32[](2);
        ago[0] = periodSeconds;
        // slither-disable-next-line unused-return // liquidity plays no part in the mean
        (int56[] memory cumulatives,) = IUniswapV3Oracle(pool).observe(ago);
        return int24((cumulatives[1] - cumulatives[0]) / int56(uint56(periodSeconds)));
    }

    /// @dev 1.0001 ** exponent by repeated squaring. Exponents stay below 2**20 (Uniswap's MAX_TICK is 887272), so the
    /// result stays below 2**225 and the rounding error below one part in 2**70.
    function _powerX96(uint24 exponent) private pure returns (uint256 power) {
        power = ONE_X96;
        uint256 square = TICK_BASE_X96;
        while (true) {
            if (exponent & 1 != 0) power = Math.mulDiv(power, square, ONE_X96);
            exponent >>= 1;
            if (exponent == 0) return power;
            square = Math.mulDiv(square, square, ONE_X96);
        }
    }

    function _requirePool(address pool, address token, address quote_) private view {
        (address low, address high) = token < quote_ ? (token, quote_) : (quote_, token);
        // slither-disable-next-line calls-loop // of the deployer's own list, once
        if (IUniswapV3Oracle(pool).token0() != low || IUniswapV3Oracle(pool).token1() != high) {
            revert PoolMismatch(pool, token, quote_);
        }
    }
}
