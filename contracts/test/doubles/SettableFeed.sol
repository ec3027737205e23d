// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

/// @title A price feed that says what it is told
contract SettableFeed {
    uint8 public immutable decimals;
    int256 private _answer;
    uint256 private _updatedAt;

    constructor(uint8 decimals_, int256 answer) {
        decimals = decimals_;
        set(answer, block.timestamp);
    }

    function set(int256 answer, uint256 updatedAt) public {
        (_answer, _updatedAt) = (answer, updatedAt);
    }

    function latestRoundData() external view returns (uint80, int256, uint256, uint256, uint80) {
        return (1, _answer, _updatedAt, _updatedAt, 1);
    }
}

/// @title Values every token at one unit a base unit
contract ParSource {
    function valueOf(address, uint256 amount) external pure returns (uint256) {
        return amount;
    }
}
