// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";

import {Vault} from "./Vault.sol";

/// @title VaultFactory
/// @notice Creates vaults at predictable addresses and keeps the one registry of them. It has no admin, and no power
/// over a vault once made. Anyone may pay for anyone's vault: a new vault allows no trading, so that creating it ahead
/// of its owner gains nothing.
contract VaultFactory {
    /// @notice The code every vault of this factory runs.
    address public immutable implementation;

    /// @notice Whether this factory created the vault.
    mapping(address vault => bool) public isVault;
    address[] private _vaults;

    event VaultCreated(address indexed user, address indexed vault);

    error VaultExists(address vault);
    error VaultIndexOutOfRange(uint256 index, uint256 count);
    error OwnerInvalid(address owner);

    /// @param wrappedNative the chain's WETH9-style token, or `address(0)` where there is none
    // slither-disable-next-line missing-zero-check // zero is allowed and means: none
    constructor(address wrappedNative) {
        implementation = address(new Vault(wrappedNative));
    }

    /// @notice Creates the vault of `owner` and `salt`. Its address follows from these two and this factory alone.
    function createVault(address owner, bytes32 salt) external returns (address vault) {
        if (owner == address(0)) revert OwnerInvalid(owner);
        vault = predictVault(owner, salt);
        if (isVault[vault]) revert VaultExists(vault);
        vault = Clones.cloneDeterministicWithImmutableArgs(implementation, abi.encode(owner), salt);
        isVault[vault] = true;
        _vaults.push(vault);
        emit VaultCreated(owner, vault);
    }

    /// @notice Where the vault of `owner` and `salt` is, or will be.
    function predictVault(address owner, bytes32 salt) public view returns (address) {
        return Clones.predictDeterministicAddressWithImmutableArgs(implementation, abi.encode(owner), salt);
    }

    /// @notice How many vaults were created.
    function vaultCount() external view returns (uint256) {
        return _vaults.length;
    }

    /// @notice The vault that was created as number `index`, counted from 0.
    function vaultAt(uint256 index) external view returns (address) {
        if (index >= _vaults.length) revert VaultIndexOutOfRange(index, _vaults.length);
        return _vaults[index];
    }
}
