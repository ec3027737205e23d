"""The strategy of the main job: follow the trend of the pool's price around its own moving average."""

from typing import Any

from devstack.anvil import CHAIN_ID
from devstack.uniswap import LocalMarket

CYCLE_INTERVAL = "2s"
AVERAGE_CYCLES = 3
TRADE_PERCENT = "5"
SLIPPAGE_BPS = 100


def flow_document(flow_id: str, market: LocalMarket, vault: str) -> dict[str, Any]:
    """The body of `POST /flows/execute`: price → average → condition → buy or sell → balance of the vault."""
    trade = {
        "chain_id": CHAIN_ID,
        "vault": vault,
        "pool": market.pool,
        "amount": TRADE_PERCENT,
        "amount_unit": "percent",
        "slippage_bps": SLIPPAGE_BPS,
    }
    return {
        "flow_id": flow_id,
        "cycle_interval": CYCLE_INTERVAL,
        "mode": "live",
        "flow_json": {
            "nodes": [
                _node("price", "dex_price_node", {"chain_id": CHAIN_ID, "pool": market.pool}),
                _node("average", "indicator_node", {"indicator": "SMA", "params": {"timeperiod": AVERAGE_CYCLES}}),
                _node("rising", "condition_node", {"expression": "price > average"}),
                _node("buy", "buy_node", trade),
                _node("sell", "sell_node", trade),
                _node("balance", "vault_node", {"chain_id": CHAIN_ID, "vault": vault}) | {"join": "any"},
            ],
            "edges": [
                _edge("price", "price", "average", "value"),
                _edge("price", "price", "rising", "price"),
                _edge("average", "latest", "rising", "average"),
                _edge("rising", "true", "buy", "trigger"),
                _edge("rising", "false", "sell", "trigger"),
                _edge("buy", "trade_receipt", "balance", "trigger"),
                _edge("sell", "trade_receipt", "balance", "trigger"),
            ],
        },
    }


def _node(node_id: str, kind: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"id": node_id, "type": kind, "config": config}


def _edge(source: str, source_handle: str, target: str, target_handle: str) -> dict[str, Any]:
    return {"source": source, "source_handle": source_handle, "target": target, "target_handle": target_handle}
