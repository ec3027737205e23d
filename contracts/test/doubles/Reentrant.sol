// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {ISwapRouterV3} from "../../src/interfaces/ISwapRouters.sol";
import {IVault} from "../../src/interfaces/IVault.sol";
import {FixedRateRouter} from "./FixedRateRouter.sol";
import {OddToken} from "./OddTokens.sol";

/// @title Owner and operator in one, who calls back into the vault with every right it has
contract Puppet {
    address payable private _vault;
    bytes[] private _attempts;
    uint256 public refused;

    /// @dev A native payment from the vault is a chance too.
    receive() external payable {
        strike();
    }

    function prepare(address payable vault, bytes[] calldata attempts) external {
        _vault = vault;
        for (uint256 i = 0; i < attempts.length; ++i) {
            _attempts.push(attempts[i]);
        }
    }

    function act(address target, bytes calldata data) external returns (bytes memory) {
        (bool done, bytes memory answer) = target.call(data);
        if (done) return answer;
        assembly ("memory-safe") {
            revert(add(answer, 0x20), mload(answer))
        }
    }

    function strike() public {
        bytes memory guarded = abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
        for (uint256 i = 0; i < _attempts.length; ++i) {
            (bool done, bytes memory problem) = _vault.call(_attempts[i]);
            require(!done, "entered the vault again");
            require(keccak256(problem) == keccak256(guarded), "refused for another reason");
            ++refused;
        }
    }
}

/// @title A token that hands control to the puppet in one chosen function
contract HookToken is OddToken {
    Puppet private _puppet;
    bytes4 private _point;

    function hook(Puppet puppet, bytes4 point) external {
        (_puppet, _point) = (puppet, point);
    }

    function approve(address spender, uint256 amount) external override returns (bool) {
        allowance[msg.sender][spender] = amount;
        _strike();
        return true;
    }

    function deposit() external payable {
        _balances[msg.sender] += msg.value;
        _strike();
    }

    function withdraw(uint256 amount) external {
        _balances[msg.sender] -= amount;
        _strike();
    }

    function _move(address from, address to, uint256 amount) internal override {
        super._move(from, to, amount);
        _strike();
    }

    function _strike() private {
        if (msg.sig == _point) _puppet.strike();
    }
}

/// @title A router that hands control to the puppet before it swaps
contract HookRouter is FixedRateRouter {
    Puppet private immutable _puppet;

    constructor(Puppet puppet) {
        _puppet = puppet;
    }

    function exactInput(ISwapRouterV3.ExactInputParams calldata params) public override returns (uint256) {
        _puppet.strike();
        return super.exactInput(params);
    }
}
