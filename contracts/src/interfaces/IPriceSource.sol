// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

/// @title Values any token in one common unit, so that the loss of a swap can be measured
interface IPriceSource {
    /// @notice Value of `amount` base units of `token`, in the source's own unit, rounded down. Reverts when it has no fresh price.
    function valueOf(address token, uint256 amount) external view returns (uint256 value);
}
