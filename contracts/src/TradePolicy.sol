// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IPriceSource} from "./interfaces/IPriceSource.sol";
import {IVault} from "./interfaces/IVault.sol";
import {SwapPath} from "./SwapPath.sol";
import {SwapRouters} from "./SwapRouters.sol";

/// @title The owner's policy: who may trade, through what, between what, how much, how often, at what loss
/// @notice A new vault allows nothing. Every rule here binds the operator only; none stands between the owner and a
/// withdrawal.
abstract contract TradePolicy is IVault {
    using SafeCast for uint256;

    struct TokenPolicy {
        uint256 perTradeCap;
        uint256 perDayCap;
        uint224 spent;
        uint24 spentOnDay;
        bool allowed;
    }

    /// @dev A trade that waits longer than this was priced on another market.
    uint256 public constant MAX_DEADLINE_S = 120;
    uint64 internal constant LONGEST_COOLDOWN_S = type(uint24).max;
    uint64 internal constant SHORTEST_LOSS_WINDOW_S = 1 minutes;
    uint64 internal constant LONGEST_LOSS_WINDOW_S = 365 days;

    // One slot, read by every trade: who may trade now, and whether the next slot matters.
    address private _operator;
    uint48 private _operatorExpiresAt;
    uint24 private _cooldown;
    bool private _paused;
    bool private _lossCapped;

    // One slot, read under a cool-down or a loss cap.
    address private _priceSource;
    uint32 private _lossWindow;
    uint48 private _lastTradeAt;

    // One slot: losses of this period and the one before it.
    uint32 private _lossPeriod;
    uint112 private _lossThisPeriod;
    uint112 private _lossLastPeriod;

    uint256 private _lossCap;
    mapping(address router => uint8 kind) private _routerKinds;
    mapping(address token => TokenPolicy) private _tokenPolicies;

    modifier onlyOwner() {
        address owner_ = owner();
        if (msg.sender != owner_) revert NotOwner(msg.sender, owner_);
        _;
    }

    /// @inheritdoc IVault
    function owner() public view virtual returns (address);

    // ------------------------------------------------------------------ the owner's settings

    /// @notice Lets `operator_` trade inside the policy until `expiresAt`, in place of any operator before it.
    function setOperator(address operator_, uint64 expiresAt) external onlyOwner {
        if (operator_ == address(0)) revert AddressInvalid(operator_);
        if (expiresAt <= block.timestamp) revert OperatorExpiryInPast(expiresAt, block.timestamp);
        if (expiresAt > type(uint48).max) revert OperatorExpiryTooFar(expiresAt, type(uint48).max);
        _operator = operator_;
        _operatorExpiresAt = uint48(expiresAt);
        emit OperatorSet(operator_, expiresAt);
    }

    /// @notice Ends the operator's power at once.
    function revokeOperator() external onlyOwner {
        emit OperatorRevoked(_operator);
        _operator = address(0);
        _operatorExpiresAt = 0;
    }

    /// @notice Stops all trading. Deposits and withdrawals go on.
    function pause() external onlyOwner {
        _paused = true;
        emit Paused();
    }

    /// @notice Lets trading go on.
    function unpause() external onlyOwner {
        _paused = false;
        emit Unpaused();
    }

    /// @notice Allows `router` and says which calls it understands: 1 Uniswap V3 SwapRouter, 2 Uniswap V2 style,
    /// 3 Uniswap SwapRouter02, 0 forbids it.
    function setRouter(address router, uint8 kind) external onlyOwner {
        if (kind > SwapRouters.KIND_HIGHEST) revert RouterKindUnknown(kind, SwapRouters.KIND_HIGHEST);
        if (kind != SwapRouters.KIND_NONE && router.code.length == 0) revert AddressInvalid(router);
        _routerKinds[router] = kind;
        emit RouterSet(router, kind);
    }

    /// @notice Allows `token` in paths, and caps how much of it a trade and a UTC day may sell. `type(uint256).max`
    /// means no cap. What was already sold today stays counted.
    function setTokenPolicy(address token, bool allowed, uint256 perTradeCap, uint256 perDayCap) external onlyOwner {
        if (allowed && token.code.length == 0) revert AddressInvalid(token);
        TokenPolicy storage policy = _tokenPolicies[token];
        policy.allowed = allowed;
        policy.perTradeCap = perTradeCap;
        policy.perDayCap = perDayCap;
        emit TokenPolicySet(token, allowed, perTradeCap, perDayCap);
    }

    /// @notice Least time between two trades; 0 for none.
    function setCooldown(uint64 cooldownSeconds) external onlyOwner {
        if (cooldownSeconds > LONGEST_COOLDOWN_S) revert CooldownTooLong(cooldownSeconds, LONGEST_COOLDOWN_S);
        _cooldown = uint24(cooldownSeconds);
        emit CooldownSet(cooldownSeconds);
    }

    /// @notice Caps the sum of what trades lose, by `priceSource`'s valuation and in its unit, over any
    /// `windowSeconds`. `address(0)` as source lifts the cap. Losses counted so far are forgotten.
    function setLossCap(address priceSource, uint256 cap, uint64 windowSeconds) external onlyOwner {
        if (priceSource == address(0)) {
            (cap, windowSeconds) = (0, 0);
        } else {
            if (priceSource.code.length == 0) revert AddressInvalid(priceSource);
            if (windowSeconds < SHORTEST_LOSS_WINDOW_S || windowSeconds > LONGEST_LOSS_WINDOW_S) {
                revert LossWindowOutOfRange(windowSeconds, SHORTEST_LOSS_WINDOW_S, LONGEST_LOSS_WINDOW_S);
            }
        }
        _lossCapped = priceSource != address(0);
        _priceSource = priceSource;
        _lossWindow = uint32(windowSeconds);
        _lossCap = cap;
        (_lossPeriod, _lossThisPeriod, _lossLastPeriod) = (0, 0, 0);
        emit LossCapSet(priceSource, cap, windowSeconds);
    }

    // ------------------------------------------------------------------ what anyone may read

    /// @notice Who may trade; `address(0)` when nobody was set. Says nothing about expiry.
    function operator() external view returns (address) {
        return _operator;
    }

    /// @notice First second at which the operator may no longer trade.
    function operatorExpiresAt() external view returns (uint64) {
        return _operatorExpiresAt;
    }

    /// @notice Whether the owner has stopped trading.
    function paused() external view returns (bool) {
        return _paused;
    }

    /// @notice The calls `router` understands, see {setRouter}; 0 when it is not allowed.
    function routerKind(address router) external view returns (uint8) {
        return _routerKinds[router];
    }

    /// @notice The caps on selling `token`, and what was sold of it since 00:00 UTC.
    function tokenPolicy(address token)
        external
        view
        returns (bool allowed, uint256 perTradeCap, uint256 perDayCap, uint256 spentToday)
    {
        TokenPolicy storage policy = _tokenPolicies[token];
        return (policy.allowed, policy.perTradeCap, policy.perDayCap, _spentToday(policy));
    }

    /// @notice Least seconds between two trades.
    function cooldown() external view returns (uint64) {
        return _cooldown;
    }

    /// @notice When the last trade under a cool-down was mined; 0 when there was none.
    function lastTradeAt() external view returns (uint64) {
        return _lastTradeAt;
    }

    /// @notice The loss cap, see {setLossCap}, and the losses that count against it now.
    function lossPolicy()
        external
        view
        returns (address priceSource, uint256 cap, uint64 windowSeconds, uint256 lossInWindow)
    {
        if (_lossWindow != 0) {
            (uint256 thisPeriod, uint256 lastPeriod) = _countedLosses(_currentLossPeriod());
            lossInWindow = thisPeriod + lastPeriod;
        }
        return (_priceSource, _lossCap, _lossWindow, lossInWindow);
    }

    // ------------------------------------------------------------------ the checks of one trade

    function _requireOperator() internal view {
        if (msg.sender != _operator) revert NotOperator(msg.sender, _operator);
        if (block.timestamp >= _operatorExpiresAt) revert OperatorExpired(_operatorExpiresAt, block.timestamp);
        if (_paused) revert TradingPaused();
    }

    function _requireTerms(Swap calldata s) internal view {
        if (s.deadline < block.timestamp || s.deadline > block.timestamp + MAX_DEADLINE_S) {
            revert DeadlineOutOfRange(s.deadline, block.timestamp, block.timestamp + MAX_DEADLINE_S);
        }
        if (s.minAmountOut == 0) revert MinAmountOutZero();
        if (s.amountIn == 0) revert AmountZero();
    }

    function _requireRouter(address router) internal view returns (uint8 kind) {
        kind = _routerKinds[router];
        if (kind == SwapRouters.KIND_NONE) revert RouterNotAllowed(router);
    }

    /// @dev Every token of the path must be allowed: a hop through an unknown token is a price nobody vouches for.
    function _requirePath(bytes calldata path, uint8 kind) internal view returns (address tokenIn, address tokenOut) {
        uint256 stride = SwapRouters.pathStride(kind);
        uint256 count = SwapPath.countTokens(path, stride);
        for (uint256 i = 0; i < count; ++i) {
            tokenOut = SwapPath.tokenAt(path, stride, i);
            if (!_tokenPolicies[tokenOut].allowed) revert TokenNotAllowed(tokenOut);
        }
        tokenIn = SwapPath.tokenAt(path, stride, 0);
        if (tokenIn == tokenOut) revert PathCircular(tokenIn);
    }

    function _spendCaps(address token, uint256 amount) internal {
        TokenPolicy storage policy = _tokenPolicies[token];
        if (amount > policy.perTradeCap) revert PerTradeCapExceeded(token, amount, policy.perTradeCap);
        uint256 spent = _spentToday(policy);
        uint256 cap = policy.perDayCap;
        if (spent > cap || amount > cap - spent) revert PerDayCapExceeded(token, amount, spent, cap);
        policy.spent = (spent + amount).toUint224();
        policy.spentOnDay = _today();
    }

    function _takeTurn() internal {
        uint256 wait = _cooldown;
        if (wait == 0) return;
        uint256 readyAt = _lastTradeAt + wait;
        if (block.timestamp < readyAt) revert CooldownActive(readyAt, block.timestamp);
        _lastTradeAt = uint48(block.timestamp);
    }

    /// @dev Called after the swap with measured amounts. Gains do not make up for losses. Sources round down, so what
    /// left may have been worth almost one unit more: that unit is counted, or many tiny trades would lose for free.
    function _recordLoss(bytes32 tradeId, address tokenIn, uint256 spent, address tokenOut, uint256 received) internal {
        if (!_lossCapped) return;
        address source = _priceSource;
        uint256 valueIn = IPriceSource(source).valueOf(tokenIn, spent) + 1;
        uint256 valueOut = IPriceSource(source).valueOf(tokenOut, received);
        if (valueOut >= valueIn) return;
        uint256 loss = valueIn - valueOut;
        uint32 period = _currentLossPeriod();
        (uint256 thisPeriod, uint256 lastPeriod) = _countedLosses(period);
        uint256 counted = thisPeriod + lastPeriod;
        uint256 cap = _lossCap;
        if (counted > cap || loss > cap - counted) revert LossCapExceeded(loss, counted, cap);
        _lossPeriod = period;
        _lossThisPeriod = (thisPeriod + loss).toUint112();
        _lossLastPeriod = uint112(lastPeriod);
        emit LossRecorded(tradeId, loss, counted + loss);
    }

    // ------------------------------------------------------------------ counting

    function _today() private view returns (uint24) {
        return uint24(block.timestamp / 1 days);
    }

    function _spentToday(TokenPolicy storage policy) private view returns (uint256) {
        return policy.spentOnDay == _today() ? policy.spent : 0;
    }

    function _currentLossPeriod() private view returns (uint32) {
        return uint32(block.timestamp / _lossWindow);
    }

    /// @dev Periods are as long as the window and lie end to end, so any window is covered by two of them: their sum is
    /// never less than what was lost in the window. A loss counts for one to two windows.
    function _countedLosses(uint32 period) private view returns (uint256 thisPeriod, uint256 lastPeriod) {
        if (_lossPeriod == period) return (_lossThisPeriod, _lossLastPeriod);
        if (_lossPeriod + 1 == period) return (0, _lossThisPeriod);
    }
}
