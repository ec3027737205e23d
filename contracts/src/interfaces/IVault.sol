// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

/// @title What a vault offers, emits and refuses
/// @notice A vault holds one owner's funds. The owner moves them freely; the operator may only swap them inside the
/// owner's policy. Amounts are integers in the token's base units, times are Unix seconds, and `address(0)` as a token
/// means the chain's native currency.
interface IVault {
    /// @notice One intent to swap. Every field is checked against the owner's policy.
    /// @param tradeId names the trade for ever: a vault executes it at most once
    /// @param flowId names the flow that decided the trade; recorded, not checked
    /// @param router the contract that swaps; its kind decides how `path` is read
    /// @param path V3 kinds: token (20 bytes), then fee (3) and token (20) once per hop. V2 kind: tokens of 20 bytes each
    /// @param amountIn exact amount of the first token to sell
    /// @param minAmountOut least amount of the last token to receive; never zero
    /// @param deadline last second at which the trade may be mined; at most MAX_DEADLINE_S ahead
    struct Swap {
        bytes32 tradeId;
        bytes32 flowId;
        address router;
        bytes path;
        uint256 amountIn;
        uint256 minAmountOut;
        uint256 deadline;
    }

    event UserDeposit(address indexed user, address indexed token, uint256 amount);
    event UserWithdraw(address indexed user, address indexed token, uint256 amount, address to);
    /// @dev No third index: the pair is only found by both of its tokens, and the vault is the emitter.
    event TradeExecuted(
        bytes32 indexed tradeId,
        bytes32 indexed flowId,
        address tokenIn,
        address tokenOut,
        uint256 amountIn,
        uint256 amountOut,
        address router
    );
    event OperatorSet(address indexed operator, uint64 expiresAt);
    event OperatorRevoked(address indexed operator);
    event Paused();
    event Unpaused();
    event RouterSet(address indexed router, uint8 kind);
    event TokenPolicySet(address indexed token, bool allowed, uint256 perTradeCap, uint256 perDayCap);
    event CooldownSet(uint64 cooldownSeconds);
    event LossCapSet(address indexed priceSource, uint256 cap, uint64 windowSeconds);
    event LossRecorded(bytes32 indexed tradeId, uint256 loss, uint256 lossInWindow);

    error NotOwner(address caller, address owner);
    error NotOperator(address caller, address operator);
    error OperatorExpired(uint64 expiresAt, uint256 nowAt);
    error OperatorExpiryInPast(uint64 expiresAt, uint256 nowAt);
    error OperatorExpiryTooFar(uint64 expiresAt, uint64 latest);
    error TradingPaused();
    error TradeIdUsed(bytes32 tradeId);
    error DeadlineOutOfRange(uint256 deadline, uint256 earliest, uint256 latest);
    error MinAmountOutZero();
    error AmountZero();
    error RouterNotAllowed(address router);
    error RouterKindUnknown(uint8 kind, uint8 highest);
    error TokenNotAllowed(address token);
    error PathInvalid(uint256 length);
    error PathCircular(address token);
    error PerTradeCapExceeded(address token, uint256 amount, uint256 cap);
    error PerDayCapExceeded(address token, uint256 amount, uint256 spentToday, uint256 cap);
    error CooldownActive(uint256 readyAt, uint256 nowAt);
    error CooldownTooLong(uint64 cooldownSeconds, uint64 longest);
    error LossWindowOutOfRange(uint64 windowSeconds, uint64 shortest, uint64 longest);
    error LossCapExceeded(uint256 loss, uint256 lossInWindow, uint256 cap);
    error BalanceTooLow(address token, uint256 amount, uint256 balance);
    error AmountInExceeded(uint256 spent, uint256 amountIn);
    error AmountOutTooLow(uint256 amountOut, uint256 minAmountOut);
    error NothingReceived(address token);
    error NothingMoved(address token);
    error AddressInvalid(address given);

    function owner() external view returns (address);
    function deposit(address token, uint256 amount) external returns (uint256 received);
    function depositNative() external payable;
    function withdraw(address token, uint256 amount, address to) external;
    function withdrawAll(address token, address to) external returns (uint256 amount);
    function withdrawUnchecked(address token, uint256 amount, address to) external returns (uint256 moved);
    function wrapNative(uint256 amount) external;
    function unwrapNative(uint256 amount) external;

    function setOperator(address operator_, uint64 expiresAt) external;
    function revokeOperator() external;
    function pause() external;
    function unpause() external;
    function setRouter(address router, uint8 kind) external;
    function setTokenPolicy(address token, bool allowed, uint256 perTradeCap, uint256 perDayCap) external;
    function setCooldown(uint64 cooldownSeconds) external;
    function setLossCap(address priceSource, uint256 cap, uint64 windowSeconds) external;

    function operator() external view returns (address);
    function operatorExpiresAt() external view returns (uint64);
    function paused() external view returns (bool);
    function routerKind(address router) external view returns (uint8);
    function tokenPolicy(address token)
        external
        view
        returns (bool allowed, uint256 perTradeCap, uint256 perDayCap, uint256 spentToday);
    function cooldown() external view returns (uint64);
    function lastTradeAt() external view returns (uint64);
    function lossPolicy()
        external
        view
        returns (address priceSource, uint256 cap, uint64 windowSeconds, uint256 lossInWindow);
    function tradeUsed(bytes32 tradeId) external view returns (bool);

    function executeSwap(Swap calldata s) external returns (uint256 amountOut);
}
