"""Flows and candles the backtest's tests share."""

from __future__ import annotations

from typing import Any

import numpy as np

from tradingflow.py_worker.backtest.candles import Candles

VAULT = "0x00000000000000000000000000000000000000aa"
POOL = "0x88e6A0c2dDD26FEEb64F039a2c41296FcB3f5640"
FIVE_MINUTES = 300_000
START_MS = 1_700_000_100_000 // FIVE_MINUTES * FIVE_MINUTES


def node(node_id: str, kind: str, config: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return {"id": node_id, "type": kind, "config": config, **settings}


def edge(source: str, source_handle: str, target: str, target_handle: str) -> dict[str, str]:
    return {"source": source, "source_handle": source_handle, "target": target, "target_handle": target_handle}


def trade_config(percent: str = "100", **more: Any) -> dict[str, Any]:
    return {"chain_id": 1, "vault": VAULT, "pool": POOL, "amount": percent, "amount_unit": "percent", **more}


def cross_flow(fast: int = 10, slow: int = 30, limit: int = 100, symbol: str = "ETHBTC") -> dict[str, Any]:
    """All in while the fast average is above the slow one, all out while it is not."""
    price = {"symbol": symbol, "interval": "5m", "limit": limit}
    return {
        "nodes": [
            node("price", "binance_price_node", price),
            node("fast", "indicator_node", {"indicator": "SMA", "params": {"timeperiod": fast}}),
            node("slow", "indicator_node", {"indicator": "SMA", "params": {"timeperiod": slow}}),
            node("cross", "condition_node", {"expression": "fast > slow"}),
            node("buy", "buy_node", trade_config()),
            node("sell", "sell_node", trade_config()),
        ],
        "edges": [
            edge("price", "price_data", "fast", "series"),
            edge("price", "price_data", "slow", "series"),
            edge("fast", "latest", "cross", "fast"),
            edge("slow", "latest", "cross", "slow"),
            edge("cross", "true", "buy", "trigger"),
            edge("cross", "false", "sell", "trigger"),
        ],
    }


def generated(count: int, seed: int = 7, symbol: str = "ETHBTC", interval_ms: int = FIVE_MINUTES) -> Candles:
    """A random walk with the digits of a real market."""
    rng = np.random.default_rng(seed)
    close = np.round(0.1 * np.exp(np.cumsum(rng.normal(0, 0.003, count))), 8)
    opened = np.round(np.concatenate([[0.1], close[:-1]]) * np.exp(rng.normal(0, 0.0005, count)), 8)
    spread = np.exp(np.abs(rng.normal(0, 0.001, count)))
    columns = {
        "open": opened,
        "high": np.round(np.maximum(opened, close) * spread, 8),
        "low": np.round(np.minimum(opened, close) / spread, 8),
        "close": close,
        "volume": np.round(rng.gamma(2.0, 500.0, count), 6),
    }
    times = START_MS + interval_ms * np.arange(count, dtype=np.int64)
    return Candles.of(symbol, times, columns, interval_ms)
