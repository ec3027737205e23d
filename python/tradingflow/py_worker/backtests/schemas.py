"""What the backtest routes take and give."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tradingflow.py_worker.backtest.spec import BacktestSpec, UtcTime
from tradingflow.py_worker.flows.schemas import ID_PATTERN, StorableJson, storable
from tradingflow.py_worker.kit.fields import Address, ChainId, CycleInterval
from tradingflow.py_worker.kit.rows import DATASET_NAME

MAX_SERIES = 10
MAX_POOLS = 3
Interval = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,2}[smhdw]$", description="Left out: read off the candles")]


class SeriesRequest(BaseModel):
    """Candles of one symbol: `csv` as text, a `dataset` of yours with the same columns, or those of an `exchange`.

    Or a `pool` the Monitor follows: the flow trades in it as it stood, moved by its own trades and those of others.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    symbol: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9/:._-]{0,49}$", examples=["ETHUSDT"])
    interval: Interval | None = None
    csv: str | None = Field(None, description="A header with a time column and open, high, low, close[, volume]")
    dataset: Annotated[str, Field(pattern=DATASET_NAME)] | None = None
    exchange: Annotated[str, Field(pattern=r"^[a-z0-9]{2,30}$")] | None = Field(
        None, description="ccxt's name; candles are downloaded once and kept. Needs `interval`, in s, m, h or d"
    )
    base_url: str | None = Field(
        None,
        max_length=500,
        description="Another address of the exchange's API; what it sends is not kept for the next backtest",
    )
    since: UtcTime | None = Field(
        None, description="Beginning of the candles of an exchange or a pool; left out: the backtest's `from`"
    )
    pool: Address | None = Field(None, description="Its price goes by `symbol`, in candles of `interval`")
    chain_id: ChainId | None = Field(None, description="The pool's chain; left out: the only one there is")

    @property
    def is_fetched(self) -> bool:
        """Whether the data come from elsewhere, for the time of the backtest."""
        return self.exchange is not None or self.pool is not None

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if sum(source is not None for source in (self.csv, self.dataset, self.exchange, self.pool)) != 1:
            raise ValueError("give `csv`, `dataset`, `exchange` or `pool`, one of them")
        if self.exchange is None and self.base_url is not None:
            raise ValueError("`base_url` goes with `exchange`")
        if self.pool is None and self.chain_id is not None:
            raise ValueError("`chain_id` goes with `pool`")
        if not self.is_fetched and self.since is not None:
            raise ValueError("`since` goes with `exchange` and `pool`")
        if self.is_fetched and (self.interval is None or self.interval.endswith("w")):
            raise ValueError("`exchange` and `pool` need an `interval` in s, m, h or d")
        storable(self.base_url)
        return self


class BacktestRequest(BacktestSpec):
    """A flow of yours (`flow_id`, of which `version` or the newest) or a graph (`flow_json`), and candles."""

    flow_id: Annotated[str, Field(pattern=ID_PATTERN)] | None = None
    version: int | None = Field(None, ge=1, le=2**31 - 1)
    flow_json: StorableJson | None = None
    data: tuple[SeriesRequest, ...] = Field(min_length=1, max_length=MAX_SERIES)
    cycle_interval: CycleInterval | None = Field(
        None, description="As a flow's; `candle`: when each candle closes; left out: the stored flow's, else `candle`"
    )

    @model_validator(mode="after")
    def _has_one_flow(self) -> Self:
        storable([market.symbol for market in self.markets])
        if (self.flow_id is None) == (self.flow_json is None):
            raise ValueError("give `flow_id` or `flow_json`, one of them")
        if sum(series.pool is not None for series in self.data) > MAX_POOLS:
            raise ValueError(f"at most {MAX_POOLS} series are pools")
        if any(series.is_fetched for series in self.data) and (self.start is None or self.end is None):
            raise ValueError("`exchange` and `pool` need `from` and `to`")
        if self.version is not None and self.flow_id is None:
            raise ValueError("`version` is one of the flow `flow_id` names")
        return self

    def spec_fields(self) -> dict[str, Any]:
        """The part a `BacktestSpec` is made of, as JSON."""
        own = {"flow_id", "version", "flow_json", "data"}
        return self.model_dump(mode="json", by_alias=True, exclude=own)


class Progress(BaseModel):
    """With one cycle a candle, cycles are bars."""

    cycles_done: int
    cycles_total: int
    cycles_per_second: float | None = Field(description="Since the run began; null before")


class Failure(BaseModel):
    error: str
    detail: str


class BacktestView(BaseModel):
    """`figures` once completed: shares are fractions, money is whole quote tokens; null where one has no meaning."""

    id: UUID
    flow_id: str | None
    version: int | None
    status: Literal["queued", "running", "completed", "failed", "cancelled"]
    attempt: int = Field(description="Above 1 where a worker died over it and another began again")
    progress: Progress
    figures: dict[str, Any] | None
    failure: Failure | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
