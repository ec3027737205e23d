// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IPriceSource} from "../interfaces/IPriceSource.sol";

/// @title The Chainlink aggregator surface
interface IPriceFeed {
    function decimals() external view returns (uint8);
    function latestRoundData()
        external
        view
        returns (uint80 roundId, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound);
}

/// @title Values tokens by price feeds that share one currency, in that currency with 18 decimals
/// @notice It has no admin; what it measures is fixed when it is made. A price older than its limit is no price.
contract FeedPriceSource is IPriceSource {
    using SafeCast for int256;

    struct Feed {
        address feed;
        uint8 feedDecimals;
        uint8 tokenDecimals;
    }

    uint256 private constant VALUE_SCALE = 1e18;

    /// @notice Age in seconds from which on a price counts for nothing.
    uint256 public immutable maxAgeSeconds;
    /// @notice The feed of a token, with the decimals of both; all zero for a token without a price.
    mapping(address token => Feed) public feedOf;

    error PriceUnknown(address token);
    error PriceStale(address token, uint256 updatedAt, uint256 nowAt, uint256 maxAgeSeconds);
    error PriceNotPositive(address token, int256 answer);
    error LengthMismatch(uint256 tokens, uint256 feeds);

    constructor(uint256 maxAgeSeconds_, address[] memory tokens, address[] memory feeds) {
        if (tokens.length != feeds.length) revert LengthMismatch(tokens.length, feeds.length);
        maxAgeSeconds = maxAgeSeconds_;
        for (uint256 i = 0; i < tokens.length; ++i) {
            // slither-disable-next-line calls-loop // of the deployer's own list, once
            feedOf[tokens[i]] = Feed(feeds[i], IPriceFeed(feeds[i]).decimals(), IERC20Metadata(tokens[i]).decimals());
        }
    }

    /// @inheritdoc IPriceSource
    function valueOf(address token, uint256 amount) external view returns (uint256 value) {
        Feed memory entry = feedOf[token];
        if (entry.feed == address(0)) revert PriceUnknown(token);
        uint256 price = _freshPrice(token, entry.feed) * VALUE_SCALE;
        return Math.mulDiv(amount, price, 10 ** (uint256(entry.feedDecimals) + entry.tokenDecimals));
    }

    function _freshPrice(address token, address feed) private view returns (uint256) {
        // slither-disable-next-line unused-return // the rounds' numbers say nothing about the price
        (, int256 answer,, uint256 updatedAt,) = IPriceFeed(feed).latestRoundData();
        if (answer <= 0) revert PriceNotPositive(token, answer);
        if (updatedAt + maxAgeSeconds <= block.timestamp) {
            revert PriceStale(token, updatedAt, block.timestamp, maxAgeSeconds);
        }
        return answer.toUint256();
    }
}
