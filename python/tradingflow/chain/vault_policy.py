"""The rules of a vault as `contracts/src/TradePolicy.sol` and `Vault.sol` have them. Pure, integers only.

Every refusal carries the code and the words that the contract's own revert is given, and the rules are asked in the
contract's order, so that whatever it would refuse is refused here for the same reason. Times are Unix seconds,
amounts base units.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

from tradingflow.chain.reverts import explain_error
from tradingflow.core.errors import Refused
from tradingflow.core.evm import ZERO_ADDRESS, address_from_bytes
from tradingflow.core.money import MAX_UINT256

KIND_UNISWAP_V3 = 1
KIND_UNISWAP_V2 = 2
KIND_UNISWAP_V3_ROUTER02 = 3
NO_CAP = MAX_UINT256
# The contract's MAX_DEADLINE_S: a trade that waits longer was priced on another market.
LONGEST_DEADLINE_S = 120
SHORTEST_LOSS_WINDOW_S = 60
LONGEST_LOSS_WINDOW_S = 365 * 86_400
OPERATOR_FOR_EVER = 2**48 - 1
DAY_S = 86_400
TOKEN_BYTES = 20
FEE_BYTES = 3


def refuse(error: str, **arguments: object) -> NoReturn:
    """Raise Refused as a revert with this custom error of the contract is explained."""
    raise Refused(*explain_error(error, **arguments))


class PriceSource(Protocol):
    """What a loss cap measures by (`IPriceSource`)."""

    def value_of(self, token: str, amount: int) -> int:
        """Value of `amount` base units in the source's own unit, rounded down. Raises Refused without a fresh price."""
        ...


@dataclass(frozen=True, slots=True)
class TokenRule:
    """An allowed token, and how much of it a trade and a UTC day may sell."""

    per_trade_cap: int = NO_CAP
    per_day_cap: int = NO_CAP


@dataclass(frozen=True, slots=True)
class LossCap:
    """What trades may lose in any `window_s`, by the valuation of the price source at this address."""

    price_source: str
    cap: int
    window_s: int


@dataclass(frozen=True, slots=True)
class VaultPolicy:
    """The owner's settings. Routers map to the kind of calls they understand; a token not listed is not allowed.

    `has_operator` says whether the owner named the operator that would trade for this platform.
    """

    routers: Mapping[str, int]
    tokens: Mapping[str, TokenRule]
    has_operator: bool = True
    operator_expires_at: int = OPERATOR_FOR_EVER
    paused: bool = False
    cooldown_s: int = 0
    loss_cap: LossCap | None = None
    wrapped_native: str | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """The swap asked for, as `executeSwap` takes it. `path` as its router reads it."""

    trade_id: str
    router: str
    path: bytes
    amount_in: int
    min_amount_out: int
    deadline: int


@dataclass(slots=True)
class PolicyLedger:
    """What a vault counts. `spent` maps a token to (UTC day, sold on it); losses are kept by period of the window."""

    used: set[str] = field(default_factory=set)
    spent: dict[str, tuple[int, int]] = field(default_factory=dict)
    last_trade_at: int = 0
    loss_period: int = 0
    loss_this_period: int = 0
    loss_last_period: int = 0


def check_order(policy: VaultPolicy, ledger: PolicyLedger, order: Order, now: int) -> tuple[str, str]:
    """Everything the contract asks before it moves funds; the tokens sold and bought. Raises Refused."""
    _require_operator(policy, now)
    if order.trade_id in ledger.used:
        refuse("TradeIdUsed", tradeId=order.trade_id)
    _require_terms(order, now)
    token_in, token_out = _require_path(policy, order)
    _require_caps(policy.tokens[token_in], ledger, token_in, order.amount_in, now)
    ready_at = ledger.last_trade_at + policy.cooldown_s
    if policy.cooldown_s and now < ready_at:
        refuse("CooldownActive", readyAt=ready_at, nowAt=now)
    return token_in, token_out


def check_fill(order: Order, token_out: str, spent: int, received: int) -> None:
    """What a vault asks of the balances after its router was called. Raises Refused."""
    if spent > order.amount_in:
        refuse("AmountInExceeded", spent=spent, amountIn=order.amount_in)
    if received < order.min_amount_out:
        refuse("AmountOutTooLow", amountOut=received, minAmountOut=order.min_amount_out)


def loss_of(
    policy: VaultPolicy, ledger: PolicyLedger, sold: tuple[str, int], bought: tuple[str, int], now: int,
    prices: PriceSource | None,
) -> int:  # fmt: skip
    """What a swap of `sold` for `bought` (token, amount) loses by the policy's price source; 0 without a loss cap.

    Raises Refused when the window's cap would be exceeded, or there is no price to measure by.
    """
    cap = policy.loss_cap
    if cap is None:
        return 0
    if prices is None:
        raise Refused("price_source_missing", f"the loss cap measures by {cap.price_source}, which is not available")
    # The contract counts one unit more for what left: sources round down.
    loss = prices.value_of(*sold) + 1 - prices.value_of(*bought)
    if loss <= 0:
        return 0
    counted = losses_in_window(cap, ledger, now)
    if counted > cap.cap or loss > cap.cap - counted:
        refuse("LossCapExceeded", loss=loss, lossInWindow=counted, cap=cap.cap)
    return loss


def record(policy: VaultPolicy, ledger: PolicyLedger, order: Order, token_in: str, loss: int, now: int) -> None:
    """Count an executed order, as the contract does in the same call."""
    ledger.used.add(order.trade_id)
    ledger.spent[token_in] = (now // DAY_S, spent_today(ledger, token_in, now) + order.amount_in)
    if policy.cooldown_s:
        ledger.last_trade_at = now
    if policy.loss_cap is not None and loss:
        this_period, last_period = _counted(policy.loss_cap, ledger, now)
        ledger.loss_period = now // policy.loss_cap.window_s
        ledger.loss_this_period, ledger.loss_last_period = this_period + loss, last_period


def spent_today(ledger: PolicyLedger, token: str, now: int) -> int:
    """Base units of the token sold since 00:00 UTC."""
    day, amount = ledger.spent.get(token, (0, 0))
    return amount if day == now // DAY_S else 0


def losses_in_window(cap: LossCap, ledger: PolicyLedger, now: int) -> int:
    """What counts against the cap now: the losses of this period and the one before it."""
    return sum(_counted(cap, ledger, now))


def _counted(cap: LossCap, ledger: PolicyLedger, now: int) -> tuple[int, int]:
    period = now // cap.window_s
    if ledger.loss_period == period:
        return ledger.loss_this_period, ledger.loss_last_period
    return (0, ledger.loss_this_period) if ledger.loss_period + 1 == period else (0, 0)


def _require_operator(policy: VaultPolicy, now: int) -> None:
    if not policy.has_operator:
        raise Refused("operator_not_ours", "the vault's owner has named nobody, or somebody else, as its operator")
    if now >= policy.operator_expires_at:
        refuse("OperatorExpired", expiresAt=policy.operator_expires_at, nowAt=now)
    if policy.paused:
        refuse("TradingPaused")


def _require_terms(order: Order, now: int) -> None:
    if not now <= order.deadline <= now + LONGEST_DEADLINE_S:
        refuse("DeadlineOutOfRange", deadline=order.deadline, earliest=now, latest=now + LONGEST_DEADLINE_S)
    if order.min_amount_out == 0:
        refuse("MinAmountOutZero")
    if order.amount_in == 0:
        refuse("AmountZero")


def _require_path(policy: VaultPolicy, order: Order) -> tuple[str, str]:
    kind = policy.routers.get(order.router, 0)
    if not kind:
        refuse("RouterNotAllowed", router=order.router.lower())
    stride = TOKEN_BYTES if kind == KIND_UNISWAP_V2 else TOKEN_BYTES + FEE_BYTES
    length = len(order.path)
    if length < stride + TOKEN_BYTES or (length - TOKEN_BYTES) % stride:
        refuse("PathInvalid", length=length)
    tokens = [address_from_bytes(order.path[at : at + TOKEN_BYTES]) for at in range(0, length, stride)]
    for token in tokens:
        if token not in policy.tokens:
            refuse("TokenNotAllowed", token=token.lower())
    if tokens[0] == tokens[-1]:
        refuse("PathCircular", token=tokens[0].lower())
    return tokens[0], tokens[-1]


def _require_caps(rule: TokenRule, ledger: PolicyLedger, token: str, amount: int, now: int) -> None:
    if amount > rule.per_trade_cap:
        refuse("PerTradeCapExceeded", token=token.lower(), amount=amount, cap=rule.per_trade_cap)
    spent = spent_today(ledger, token, now)
    if spent > rule.per_day_cap or amount > rule.per_day_cap - spent:
        refuse("PerDayCapExceeded", token=token.lower(), amount=amount, spentToday=spent, cap=rule.per_day_cap)


def provide(policy: VaultPolicy, balances: Mapping[str, int], token: str, amount: int) -> int:
    """Native currency to wrap so that the vault holds `amount` of the token. Raises Refused when it cannot."""
    balance = balances.get(token, 0)
    missing = max(amount - balance, 0)
    if missing and (token != policy.wrapped_native or balances.get(ZERO_ADDRESS, 0) < missing):
        refuse("BalanceTooLow", token=token.lower(), amount=amount, balance=balance)
    return missing
