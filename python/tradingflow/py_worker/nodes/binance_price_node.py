"""Candles and the price of a symbol on Binance, or on any exchange ccxt knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tradingflow.py_worker.kit import (
    BatchRun,
    CandleQuery,
    Column,
    Json,
    Node,
    NodeContext,
    NodeInputs,
    NodeOutputs,
    NodeParams,
)
from tradingflow.py_worker.kit.batch import CandleWindows
from tradingflow.py_worker.kit.intervals import interval_ms

# Exchanges send no more; of these the newest is the one still forming.
MAX_CANDLES = 1000
HEADER = ["open_time", "open", "high", "low", "close", "volume"]


class Params(NodeParams):
    symbol: str = Field(pattern=r"^[A-Za-z0-9/:._-]{2,40}$", description="ETHUSDT, or ETH/USDT as ccxt writes it")
    interval: str = Field(default="1m", pattern=r"^\d{1,2}[smhdwM]$", description="Length of a candle: 1m, 5m, 1h, 1d")
    limit: int = Field(default=100, ge=1, le=MAX_CANDLES, description="How many candles, the newest last")
    exchange: str = Field(default="binance", pattern=r"^[a-z0-9]{2,30}$", description="ccxt's name of the exchange")
    base_url: str | None = Field(default=None, description="Another address of the exchange's API")
    closed_candles_only: bool = Field(
        default=False, description="Leave out the candle still forming, as a backtest does; then at most 999 candles"
    )

    @model_validator(mode="after")
    def _closing_is_known(self) -> Self:
        if self.closed_candles_only and self.interval.endswith("M"):
            raise ValueError("closed_candles_only knows when candles of seconds to weeks close, not months")
        if self.closed_candles_only and self.limit == MAX_CANDLES:
            raise ValueError(f"with closed_candles_only, limit is below {MAX_CANDLES}: the newest candle is left out")
        return self

    def query(self) -> CandleQuery:
        return CandleQuery(self.exchange, self.symbol, self.interval, self.limit, self.base_url)

    def live_query(self) -> CandleQuery:
        """One more where one may be left out."""
        query = self.query()
        return replace(query, limit=query.limit + 1) if self.closed_candles_only else query

    def kept(self, rows: list[list[float]], now: datetime) -> list[list[float]]:
        """The rows of `live_query` that are sent on."""
        if not self.closed_candles_only:
            return rows
        length = interval_ms(self.interval)
        now_ms = round(now.timestamp() * 1000)
        return [row for row in rows if row[0] + length <= now_ms][-self.limit :]


class Inputs(NodeInputs):
    trigger: Json = Field(default=None, description="Anything; the candles are asked for when it arrives")


class PriceData(BaseModel):
    """Numbers are doubles as the exchange sends them: for decisions, not for amounts. Times are Unix milliseconds."""

    model_config = ConfigDict(frozen=True)

    symbol: str
    interval: str
    limit: int
    header: list[str]
    kline_data: list[list[float]]
    current_price: float | None


class Outputs(NodeOutputs):
    price_data: PriceData = Field(description="{symbol, interval, limit, header, kline_data, current_price}")


class BinancePriceNode(Node[Params, Inputs, Outputs]):
    type = "binance_price_node"
    title = "Exchange candles"
    description = "Asks Binance, or another exchange, for candles and the current price of a symbol."
    category = "market data"
    example: ClassVar[dict[str, Any]] = {"symbol": "ETHUSDT", "interval": "1m", "limit": 100}

    async def run(self, ctx: NodeContext, params: Params, inputs: Inputs) -> Outputs:
        rows = await ctx.candles.candles(params.live_query())
        return Outputs(price_data=_price_data(params, params.kept(rows, ctx.clock.now())))

    def batch(self, run: BatchRun, params: Params) -> Mapping[str, Column]:
        columns, starts, ends = run.tape.candle_windows(params.query())

        def value(cycle: int) -> Json:
            window = [column[starts[cycle] : ends[cycle]].tolist() for column in columns.values()]
            rows = [list(row) for row in zip(*window, strict=True)]
            return _price_data(params, rows).model_dump(mode="json")

        return {"price_data": CandleWindows(run.ran, value, None, columns, starts, ends)}


def _price_data(params: Params, rows: list[list[float]]) -> PriceData:
    return PriceData(
        symbol=params.symbol,
        interval=params.interval,
        limit=params.limit,
        header=HEADER,
        kline_data=rows,
        current_price=rows[-1][4] if rows else None,
    )
