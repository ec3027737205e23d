"""Prices and candles from CoinGecko and GeckoTerminal."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tradingflow.py_worker.kit import Json, Node, NodeContext, NodeInputs, NodeOutputs, NodeParams, Secret
from tradingflow.py_worker.kit.providers import ask_json, join_url, malformed

_SLUG = r"^[A-Za-z0-9_.-]{1,100}$"
HEADER = ["open_time", "open", "high", "low", "close", "volume"]


class Params(NodeParams):
    source: Literal["coingecko", "geckoterminal"] = Field(default="coingecko", description="Where to ask")
    kind: Literal["price", "candles"] = Field(default="price", description="The price now, or candles")
    coin_id: str | None = Field(default=None, pattern=_SLUG, description="CoinGecko's id of the coin, e.g. ethereum")
    currency: str = Field(default="usd", pattern=r"^[a-z]{2,10}$", description="What the price is in")
    days: Literal[1, 7, 14, 30, 90, 180, 365] = Field(default=1, description="CoinGecko: days of candles")
    network: str | None = Field(default=None, pattern=_SLUG, description="GeckoTerminal's network, e.g. eth")
    pool: str | None = Field(default=None, pattern=_SLUG, description="GeckoTerminal: address of the pool")
    timeframe: Literal["minute", "hour", "day"] = Field(default="hour", description="GeckoTerminal: length of a candle")
    limit: int = Field(default=100, ge=1, le=1000, description="GeckoTerminal: how many candles")
    api_key: Secret | None = Field(default=None, description='CoinGecko demo API key, as {"$secret": "name"}')
    base_url: str | None = Field(default=None, description="Another address of the same API")

    @model_validator(mode="after")
    def _names_its_market(self) -> Self:
        if self.source == "coingecko" and self.coin_id is None:
            raise ValueError("coingecko needs coin_id")
        if self.source == "geckoterminal" and (self.network is None or self.pool is None):
            raise ValueError("geckoterminal needs network and pool")
        return self


class Inputs(NodeInputs):
    trigger: Json = Field(default=None, description="Anything; the price is asked for when it arrives")


class Outputs(NodeOutputs):
    data: dict[str, Json] = Field(description="{price} as text, or {header, kline_data} with the oldest candle first")


class PriceNode(Node[Params, Inputs, Outputs]):
    type = "price_node"
    title = "Market price"
    description = "Asks CoinGecko or GeckoTerminal for a price or for candles."
    category = "market data"
    example: ClassVar[dict[str, Any]] = {"coin_id": "ethereum", "currency": "usd"}

    async def run(self, ctx: NodeContext, params: Params, inputs: Inputs) -> Outputs:
        source = _coingecko if params.source == "coingecko" else _geckoterminal
        try:
            return Outputs(data=await source(ctx, params))
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise malformed(params.source, f"an unexpected answer ({type(error).__name__})") from error


async def _coingecko(ctx: NodeContext, params: Params) -> dict[str, Json]:
    base, coin = params.base_url or "https://api.coingecko.com/api/v3", str(params.coin_id)
    headers = {"x-cg-demo-api-key": await ctx.secrets.reveal(params.api_key)} if params.api_key else None
    if params.kind == "candles":
        query = {"vs_currency": params.currency, "days": params.days}
        rows = await ask_json(ctx, "CoinGecko", join_url(base, "coins", coin, "ohlc", query=query), headers=headers)
        return {"header": HEADER[:5], "kline_data": [[float(value) for value in row[:5]] for row in rows]}
    query = {"ids": coin, "vs_currencies": params.currency, "precision": "full"}
    answer = await ask_json(ctx, "CoinGecko", join_url(base, "simple", "price", query=query), headers=headers)
    return {"price": str(answer[coin][params.currency])}


async def _geckoterminal(ctx: NodeContext, params: Params) -> dict[str, Json]:
    base = params.base_url or "https://api.geckoterminal.com/api/v2"
    path = ("networks", str(params.network), "pools", str(params.pool))
    if params.kind == "price":
        answer = await ask_json(ctx, "GeckoTerminal", join_url(base, *path))
        return {"price": str(answer["data"]["attributes"]["base_token_price_usd"])}
    url = join_url(base, *path, "ohlcv", params.timeframe, query={"limit": params.limit, "currency": "usd"})
    rows = (await ask_json(ctx, "GeckoTerminal", url))["data"]["attributes"]["ohlcv_list"]
    newest_first = [[int(row[0]) * 1000, *(float(value) for value in row[1:6])] for row in rows]
    return {"header": HEADER, "kline_data": newest_first[::-1]}
