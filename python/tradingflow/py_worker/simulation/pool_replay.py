"""What others did in pools, done again in pools that our trades have moved.

While our trades have not moved a pool it is what the record says. From then on what others sold is sold again in the
pool as it now is, and their liquidity moves as it did: they do what they did, and do not answer us.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tradingflow.chain.amm.constant_product import ConstantProductPool
from tradingflow.chain.amm.pool import Pool
from tradingflow.core.errors import Refused
from tradingflow.core.evm import parse_address
from tradingflow.py_worker.simulation.gateway import SimulatedChain
from tradingflow.py_worker.simulation.pool_history import PoolBlock, PoolEvent
from tradingflow.py_worker.simulation.venue import PoolKey, PoolVenue


class PoolReplay:
    """Moves the pools of a venue from block to block. `keys` finds a pool by its address."""

    def __init__(self, chain: SimulatedChain, venue: PoolVenue, keys: Mapping[str, PoolKey]) -> None:
        self._chain = chain
        self._venue = venue
        self._keys = keys
        self._recorded: dict[PoolKey, Pool] = dict(venue.pools)

    def follow(self, block: PoolBlock) -> None:
        """Let a block happen."""
        for event in block.events:
            key = self._keys[parse_address(event.pool)]
            before = self._recorded[key]
            self._recorded[key] = recorded(before, event)
            self._venue.set_pool(key, happened(self._venue.pool(key), before, event))
        self._chain.block_number = block.number


def recorded(pool: Pool, event: PoolEvent) -> Pool:
    """The pool after an event, as the chain had it."""
    name = "Sync" if "reserve0" in event.args else event.name
    return pool.after(name, event.args)


def happened(pool: Pool, before: Pool, event: PoolEvent) -> Pool:
    """Our pool after an event of others; `before` is what the chain had before it.

    A swap is made again with what was sold then; one that is now refused is left out.
    """
    if pool == before:
        return recorded(pool, event)
    if event.name == "Swap":
        token_in, amount = sold_by(pool, event.args)
        try:
            return pool.swap(token_in, amount).pool
        except Refused:
            return pool
    if isinstance(pool, ConstantProductPool) and isinstance(before, ConstantProductPool):
        return _scaled(pool, before, event)
    return pool.after(event.name, event.args)


def _scaled(pool: ConstantProductPool, before: ConstantProductPool, event: PoolEvent) -> Pool:
    """Liquidity moves the reserves in the proportion it moved them on the chain: our price stays."""
    after = recorded(before, event)
    if not isinstance(after, ConstantProductPool) or not (before.reserve0 and before.reserve1):
        return after
    reserve0 = pool.reserve0 * after.reserve0 // before.reserve0
    reserve1 = pool.reserve1 * after.reserve1 // before.reserve1
    return replace(pool, reserve0=reserve0, reserve1=reserve1)


def sold_by(pool: Pool, args: Mapping[str, Any]) -> tuple[str, int]:
    """The token and the amount a recorded swap sold, of a V3 pool or a V2 pair."""
    into0 = int(args["amount0"] if "amount0" in args else args["amount0In"])
    into1 = int(args["amount1"] if "amount1" in args else args["amount1In"])
    return (pool.token0, into0) if into0 > 0 else (pool.token1, into1)
