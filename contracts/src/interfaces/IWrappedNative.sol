// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

/// @title The WETH9 surface a vault needs
interface IWrappedNative {
    function deposit() external payable;
    function withdraw(uint256 amount) external;
}
