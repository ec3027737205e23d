"""Candles and the price of a symbol on Binance, or on any exchange ccxt knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

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

HEADER = ["open_time", "open", "high", "low", "close", "volume"]


class Params(NodeParams):
    symbol: str = Field(pattern=r"^[A-Za-z0-9/:._-]{2,40}$", description="ETHUSDT, or ETH/USDT as ccxt writes it")
    interval: str = Field(default="1m", pattern=r"^\d{1,2}[smhdwM]$", description="Length of a candle: 1m, 5m, 1h, 1d")
    limit: int = Field(default=100, ge=1, le=1000, description="How many candles, the newest last")
    exchange: str = Field(default="binance", pattern=r"^[a-z0-9]{2,30}$", description="ccxt's name of the exchange")
    base_url: str | None = Field(default=None, description="Another address of the exchange's API")

    def query(self) -> CandleQuery:
        return CandleQuery(self.exchange, self.symbol, self.interval, self.limit, self.base_url)


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
        return Outputs(price_data=_price_data(params, await ctx.candles.candles(params.query())))

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
