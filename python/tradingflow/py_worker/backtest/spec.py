"""What a backtest is asked for, besides the flow and the candles."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from tradingflow.core.money import parse_base_units
from tradingflow.py_worker.kit.fields import Address, ChainId, CycleInterval, PoolFee


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a time needs a zone: 2026-01-31T00:00:00Z")
    return moment


UtcTime = Annotated[datetime, AfterValidator(_utc)]
# Amounts of 18 decimals soon pass the 64 bits of JSON writers.
BaseUnitAmount = Annotated[int, BeforeValidator(parse_base_units), PlainSerializer(str, when_used="json")]
Bps = Annotated[Decimal, Field(ge=0, lt=10_000, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MarketSpec(_Strict):
    """Which candles price which pool. What is left out is read off the flow's nodes, or made up."""

    symbol: str = Field(description="As in the data, e.g. ETHUSDT")
    pool: Address | None = Field(default=None, description="The pool the flow trades in")
    base_token: Address | None = Field(default=None, description="The token the symbol's price is of")
    quote_token: Address | None = Field(default=None, description="The token the price is expressed in")
    base_decimals: int = Field(default=18, ge=0, le=36)
    quote_decimals: int = Field(default=18, ge=0, le=36)
    pool_fee: PoolFee = Field(default=3000, description="Fee tier as paths name it; what a trade costs is `fee_bps`")
    chain_id: ChainId | None = None


class FillModel(_Strict):
    """How a trade fills against candles. Basis points are hundredths of a percent.

    `next_open`: at the open of the first candle that opens after the decision; `close`: at the close it was made on.
    """

    price: Literal["next_open", "close"] = "next_open"
    fee_bps: Bps = Field(default=Decimal(30), description="Taken from what is sold, as a pool does")
    slippage_bps: Bps = Field(default=Decimal(0), description="How much worse than the quote every fill is")
    volume_limit: Decimal | None = Field(
        default=None, gt=0, le=1, description="A trade of more than this share of its candle's volume is refused"
    )
    gas_cost: Decimal = Field(
        default=Decimal(0), ge=0, allow_inf_nan=False, description="What one trade costs in gas, in whole quote tokens"
    )


class TokenCaps(_Strict):
    """How much of a token one trade and one UTC day may sell, in base units; left out: any amount."""

    per_trade_cap: BaseUnitAmount | None = None
    per_day_cap: BaseUnitAmount | None = None


class LossLimit(_Strict):
    """What trades may lose in any `window_s`, in base units of the quote token, measured at the candles' closes."""

    cap: BaseUnitAmount
    window_s: int = Field(gt=0, le=31_536_000)


class PolicySpec(_Strict):
    """The vault's policy, which refuses as the contract would. Left out, every token of the markets may be traded."""

    tokens: dict[Address, TokenCaps] | None = Field(default=None, max_length=50)
    cooldown_s: int = Field(default=0, ge=0, le=31_536_000)
    paused: bool = False
    loss_cap: LossLimit | None = None


class BacktestSpec(_Strict):
    """`from` and `to` bound the cycles; candles before `from` are known to them. Balances are base units by token."""

    markets: tuple[MarketSpec, ...] = Field(default=(), max_length=50)
    initial_balances: dict[Address, BaseUnitAmount] = Field(default_factory=dict, max_length=50)
    cash: Decimal = Field(
        default=Decimal(10_000),
        ge=0,
        allow_inf_nan=False,
        description="Whole quote tokens held where no balance is given",
    )
    fill_model: FillModel = FillModel()
    policy: PolicySpec = PolicySpec()
    cycle_interval: CycleInterval | None = Field(
        default=None, description="As a flow's; left out: one cycle a candle, when it closes"
    )
    start: UtcTime | None = Field(default=None, alias="from")
    end: UtcTime | None = Field(default=None, alias="to")

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> Self:
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ValueError("`from` lies before `to`")
        return self

    def canonical(self) -> dict[str, Any]:
        """The same for equal specs."""
        return self.model_dump(mode="json", by_alias=True)
