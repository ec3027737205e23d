"""Candles and the price of a symbol on Binance, or on any exchange ccxt knows."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from tradingflow.core.errors import TradingFlowError
from tradingflow.py_worker.kit import Json, Node, NodeContext, NodeInputs, NodeOutputs, NodeParams
from tradingflow.py_worker.kit.exchanges import as_ours, know_market, open_exchange
from tradingflow.py_worker.kit.providers import malformed

HEADER = ["open_time", "open", "high", "low", "close", "volume"]


class Params(NodeParams):
    symbol: str = Field(pattern=r"^[A-Za-z0-9/:._-]{2,40}$", description="ETHUSDT, or ETH/USDT as ccxt writes it")
    interval: str = Field(default="1m", pattern=r"^\d{1,2}[smhdwM]$", description="Length of a candle: 1m, 5m, 1h, 1d")
    limit: int = Field(default=100, ge=1, le=1000, description="How many candles, the newest last")
    exchange: str = Field(default="binance", pattern=r"^[a-z0-9]{2,30}$", description="ccxt's name of the exchange")
    base_url: str | None = Field(default=None, description="Another address of the exchange's API")


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
        rows = await _candles(ctx, params)
        return Outputs(
            price_data=PriceData(
                symbol=params.symbol,
                interval=params.interval,
                limit=params.limit,
                header=HEADER,
                kline_data=rows,
                current_price=rows[-1][4] if rows else None,
            )
        )


async def _candles(ctx: NodeContext, params: Params) -> list[list[float]]:
    exchange = open_exchange(params.exchange, ctx.http, params.base_url)
    try:
        symbol = await _symbol(exchange, params)
        rows = await exchange.fetch_ohlcv(symbol, params.interval, limit=params.limit)
        return [_row(row) for row in rows]
    except TradingFlowError:
        raise
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise malformed(params.exchange, f"an unexpected answer ({type(error).__name__})") from error
    except Exception as error:
        raise as_ours(error, params.exchange) from error
    finally:
        await exchange.close()


def _row(row: list[Any]) -> list[float]:
    """Raises ValueError for a candle that lacks a number."""
    numbers = [float(value) for value in row[: len(HEADER)]]
    if len(numbers) < len(HEADER):
        raise ValueError("a candle has six numbers")
    return numbers


async def _symbol(exchange: Any, params: Params) -> str:
    """The exchange's own id is used as it is; a ccxt symbol needs the exchange's list of markets, save on Binance."""
    if "/" not in params.symbol:
        return know_market(exchange, params.symbol.upper())
    if params.exchange == "binance" and ":" not in params.symbol:
        return know_market(exchange, params.symbol.replace("/", "").upper())
    await exchange.load_markets()
    return params.symbol
