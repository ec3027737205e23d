// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IVault} from "./interfaces/IVault.sol";
import {IWrappedNative} from "./interfaces/IWrappedNative.sol";
import {SwapRouters} from "./SwapRouters.sol";
import {TradePolicy} from "./TradePolicy.sol";

/// @title Vault
/// @notice Runs behind an EIP-1167 clone whose code carries the owner's address, so ownership can neither be
/// initialised twice nor moved, and there is no upgrade path. The reentrancy guard lives in transient storage
/// (EIP-1153): a clone needs no initialisation for it.
contract Vault is TradePolicy, Multicall, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    address private constant NATIVE = address(0);

    /// @notice The chain's wrapped native token (WETH9 style); `address(0)` when the chain has none.
    address public immutable wrappedNative;
    address private immutable _implementation = address(this);

    mapping(bytes32 tradeId => bool) private _tradeUsed;

    // slither-disable-next-line missing-zero-check // zero is allowed and means: none
    constructor(address wrappedNative_) {
        wrappedNative = wrappedNative_;
    }

    /// @notice Plain transfers are deposits, except what the wrapped token pays back.
    receive() external payable {
        if (msg.sender != wrappedNative) emit UserDeposit(msg.sender, NATIVE, msg.value);
    }

    /// @inheritdoc IVault
    /// @dev The implementation itself belongs to nobody.
    function owner() public view override returns (address) {
        if (address(this) == _implementation) return address(0);
        return abi.decode(Clones.fetchCloneArgs(address(this)), (address));
    }

    // ------------------------------------------------------------------ funds in and out

    /// @notice Pulls `amount` of `token` from the caller, who must have approved it. What counts, and is emitted and
    /// returned, is what arrived.
    function deposit(address token, uint256 amount) external nonReentrant returns (uint256 received) {
        uint256 before = IERC20(token).balanceOf(address(this));
        IERC20(token).safeTransferFrom(msg.sender, address(this), amount);
        received = IERC20(token).balanceOf(address(this)) - before;
        if (received == 0) revert NothingReceived(token);
        emit UserDeposit(msg.sender, token, received);
    }

    /// @notice Deposits the native currency sent along.
    function depositNative() external payable {
        if (msg.value == 0) revert NothingReceived(NATIVE);
        emit UserDeposit(msg.sender, NATIVE, msg.value);
    }

    /// @notice Sends `amount` of `token` to `to`. Asks the token for nothing but the transfer, so that a token whose
    /// other functions fail can still be withdrawn.
    function withdraw(address token, uint256 amount, address to) external onlyOwner nonReentrant {
        _withdraw(token, amount, to);
    }

    /// @notice Sends the whole balance of `token` to `to`.
    function withdrawAll(address token, address to) external onlyOwner nonReentrant returns (uint256 amount) {
        amount = token == NATIVE ? address(this).balance : IERC20(token).balanceOf(address(this));
        _withdraw(token, amount, to);
    }

    /// @notice For tokens that answer a good transfer with `false`: ignores the answer and measures the balance.
    function withdrawUnchecked(address token, uint256 amount, address to)
        external
        onlyOwner
        nonReentrant
        returns (uint256 moved)
    {
        _requireRecipient(to);
        uint256 before = IERC20(token).balanceOf(address(this));
        // slither-disable-next-line unused-return // not believed: the balance is measured
        Address.functionCall(token, abi.encodeCall(IERC20.transfer, (to, amount)));
        uint256 left = IERC20(token).balanceOf(address(this));
        if (left >= before) revert NothingMoved(token);
        moved = before - left;
        emit UserWithdraw(msg.sender, token, moved, to);
    }

    /// @notice Turns native currency into {wrappedNative}.
    function wrapNative(uint256 amount) external onlyOwner nonReentrant {
        if (wrappedNative == address(0)) revert AddressInvalid(wrappedNative);
        IWrappedNative(wrappedNative).deposit{value: amount}();
    }

    /// @notice Turns {wrappedNative} into native currency.
    function unwrapNative(uint256 amount) external onlyOwner nonReentrant {
        if (wrappedNative == address(0)) revert AddressInvalid(wrappedNative);
        IWrappedNative(wrappedNative).withdraw(amount);
    }

    /// @notice Several of the owner's calls in one transaction, all or none.
    function multicall(bytes[] calldata data) public override onlyOwner returns (bytes[] memory results) {
        return super.multicall(data);
    }

    // ------------------------------------------------------------------ trading

    /// @notice Whether the trade was executed. Never becomes false again.
    function tradeUsed(bytes32 tradeId) external view returns (bool) {
        return _tradeUsed[tradeId];
    }

    /// @notice Sells `s.amountIn` of the path's first token for its last one through `s.router`, into this vault.
    /// When the first token is {wrappedNative}, native currency is wrapped for what is missing.
    /// @return amountOut what the vault's balance of the last token rose by
    function executeSwap(Swap calldata s) external nonReentrant returns (uint256 amountOut) {
        _requireOperator();
        if (_tradeUsed[s.tradeId]) revert TradeIdUsed(s.tradeId);
        _tradeUsed[s.tradeId] = true;
        _requireTerms(s);
        uint8 kind = _requireRouter(s.router);
        (address tokenIn, address tokenOut) = _requirePath(s.path, kind);
        _spendCaps(tokenIn, s.amountIn);
        _takeTurn();
        uint256 spent;
        (spent, amountOut) = _swap(s, kind, tokenIn, tokenOut);
        _recordLoss(s.tradeId, tokenIn, spent, tokenOut, amountOut);
        emit TradeExecuted(s.tradeId, s.flowId, tokenIn, tokenOut, spent, amountOut, s.router);
    }

    /// @dev Trusts no figure from the router: both amounts are differences of the vault's balances.
    function _swap(Swap calldata s, uint8 kind, address tokenIn, address tokenOut)
        private
        returns (uint256 spent, uint256 received)
    {
        uint256 inBefore = _provide(tokenIn, s.amountIn);
        uint256 outBefore = IERC20(tokenOut).balanceOf(address(this));
        _callRouter(s, kind, tokenIn);
        uint256 inAfter = IERC20(tokenIn).balanceOf(address(this));
        uint256 outAfter = IERC20(tokenOut).balanceOf(address(this));
        spent = inBefore > inAfter ? inBefore - inAfter : 0;
        received = outAfter > outBefore ? outAfter - outBefore : 0;
        if (spent > s.amountIn) revert AmountInExceeded(spent, s.amountIn);
        if (received < s.minAmountOut) revert AmountOutTooLow(received, s.minAmountOut);
    }

    /// @dev Approves exactly the amount in, and leaves no approval behind. The allowance is read first because some
    /// tokens refuse to approve zero.
    function _callRouter(Swap calldata s, uint8 kind, address tokenIn) private {
        IERC20(tokenIn).forceApprove(s.router, s.amountIn);
        // slither-disable-next-line unused-return // not believed: the balances are measured
        Address.functionCall(s.router, SwapRouters.encodeSwap(s, kind));
        if (IERC20(tokenIn).allowance(address(this), s.router) != 0) IERC20(tokenIn).forceApprove(s.router, 0);
    }

    function _provide(address token, uint256 amount) private returns (uint256 balance) {
        balance = IERC20(token).balanceOf(address(this));
        if (balance >= amount) return balance;
        uint256 missing = amount - balance;
        if (token != wrappedNative || address(this).balance < missing) revert BalanceTooLow(token, amount, balance);
        // slither-disable-next-line arbitrary-send-eth // token is wrappedNative here, which gives as much back
        IWrappedNative(token).deposit{value: missing}();
        return IERC20(token).balanceOf(address(this));
    }

    // ------------------------------------------------------------------ transfers

    function _withdraw(address token, uint256 amount, address to) private {
        _requireRecipient(to);
        if (amount == 0) revert AmountZero();
        emit UserWithdraw(msg.sender, token, amount, to);
        if (token == NATIVE) {
            Address.sendValue(payable(to), amount);
        } else {
            IERC20(token).safeTransfer(to, amount);
        }
    }

    function _requireRecipient(address to) private view {
        if (to == address(0) || to == address(this)) revert AddressInvalid(to);
    }
}
