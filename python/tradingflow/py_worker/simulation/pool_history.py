"""The recorded history of a pool: its state at one moment, and what others did in it block by block since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tradingflow.chain.amm.concentrated import ConcentratedPool, TickLiquidity
from tradingflow.chain.amm.constant_product import ConstantProductPool
from tradingflow.py_worker.simulation.venue import PoolKey


@dataclass(frozen=True, slots=True)
class PoolEvent:
    """One event of one pool, by name, with arguments as the Monitor stores them.

    Of a V2 pair the reserves that its `Sync` told are among the arguments of the event it came with.
    """

    pool: str
    name: str
    args: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PoolBlock:
    """What happened in one block; `timestamp` in Unix seconds."""

    number: int
    timestamp: int
    events: Sequence[PoolEvent]


@dataclass(frozen=True)
class PoolHistory:
    """`pool` is as it was at `start_ms`; `blocks` follow, up to `end_ms`, both Unix milliseconds.

    `base_token` is the one a price is of where nobody says which.
    """

    chain_id: int
    address: str
    decimals0: int
    decimals1: int
    base_token: str
    pool: ConcentratedPool | ConstantProductPool
    start_ms: int
    end_ms: int
    blocks: Sequence[PoolBlock]

    @property
    def key(self) -> PoolKey:
        """How venues and paths name the pool."""
        fee = self.pool.fee if isinstance(self.pool, ConcentratedPool) else None
        return self.pool.token0, self.pool.token1, fee

    def decimals(self, token: str) -> int:
        return self.decimals0 if token == self.pool.token0 else self.decimals1


class _Told(msgspec.Struct):
    """A history as JSON. Integers beyond 64 bits are decimal strings."""

    chain_id: int
    address: str
    decimals: tuple[int, int]
    base_token: str
    tokens: tuple[str, str]
    fee: int
    state: dict[str, Any]
    start_ms: int
    end_ms: int
    blocks: list[tuple[int, int, list[tuple[str, dict[str, Any]]]]]


def write_history(history: PoolHistory) -> bytes:
    """As JSON that `read_history` reads."""
    pool = history.pool
    told = _Told(
        history.chain_id,
        history.address,
        (history.decimals0, history.decimals1),
        history.base_token,
        (pool.token0, pool.token1),
        pool.fee,
        _state_of(pool),
        history.start_ms,
        history.end_ms,
        [(b.number, b.timestamp, [(e.name, dict(e.args)) for e in b.events]) for b in history.blocks],
    )
    return msgspec.json.encode(told)


def read_history(text: bytes | str) -> PoolHistory:
    """What `write_history` wrote."""
    told = msgspec.json.decode(text, type=_Told)
    blocks = [
        PoolBlock(number, timestamp, [PoolEvent(told.address, name, args) for name, args in events])
        for number, timestamp, events in told.blocks
    ]
    pool = _pool_of(told.tokens, told.fee, told.state)
    return PoolHistory(
        told.chain_id, told.address, *told.decimals, told.base_token, pool, told.start_ms, told.end_ms, blocks
    )


def _state_of(pool: ConcentratedPool | ConstantProductPool) -> dict[str, Any]:
    if isinstance(pool, ConstantProductPool):
        return {"reserve0": str(pool.reserve0), "reserve1": str(pool.reserve1)}
    return {
        "spacing": pool.spacing,
        "sqrt_price": str(pool.sqrt_price),
        "tick": pool.tick,
        "liquidity": str(pool.liquidity),
        "ticks": [[tick, str(told.gross), str(told.net)] for tick, told in sorted(pool.ticks.items())],
    }


def _pool_of(tokens: tuple[str, str], fee: int, state: Mapping[str, Any]) -> ConcentratedPool | ConstantProductPool:
    if "reserve0" in state:
        return ConstantProductPool(*tokens, int(state["reserve0"]), int(state["reserve1"]), fee)
    return ConcentratedPool(
        *tokens,
        fee,
        state["spacing"],
        int(state["sqrt_price"]),
        state["tick"],
        int(state["liquidity"]),
        {tick: TickLiquidity(int(gross), int(net)) for tick, gross, net in state["ticks"]},
    )
