"""Nodes for measuring: they do as little as a node can."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from typing import Annotated, Any

import asyncpg

from tradingflow.py_worker.kit import Handle, Node, NodeContext, NodeInputs, NodeOutputs, NodeParams


class NoParams(NodeParams):
    pass


class AnyInput(NodeInputs):
    value: Any = None
    many: Annotated[list[Any], Handle(many=True)] = []  # noqa: RUF012


class AnyOutput(NodeOutputs):
    value: Any = None


class NoOp(Node[NoParams, AnyInput, AnyOutput]):
    """Passes its input on."""

    type, title, description, category = "noop", "No-op", "Passes its input on.", "bench"

    async def run(self, ctx: NodeContext, params: NoParams, inputs: AnyInput) -> AnyOutput:
        return AnyOutput(value=inputs.value)


class WaitParams(NodeParams):
    seconds: float = 0.05


class Wait(Node[WaitParams, AnyInput, AnyOutput]):
    """Waits as a node does that asks a server."""

    type, title, description, category = "wait", "Wait", "Waits.", "bench"
    default_timeout = timedelta(seconds=300)

    async def run(self, ctx: NodeContext, params: WaitParams, inputs: AnyInput) -> AnyOutput:
        await asyncio.sleep(params.seconds)
        return AnyOutput(value=inputs.value)


class Sink(Node[NoParams, AnyInput, AnyOutput]):
    """Writes its idempotency key to a table without any constraint, and says whether it was there before.

    The effect is what a provider with idempotency keys does: a second call with a known key does nothing.
    """

    type, title, description, category = "sink", "Sink", "Counts effects.", "bench"

    def __init__(self) -> None:
        self._provider: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()

    async def run(self, ctx: NodeContext, params: NoParams, inputs: AnyInput) -> AnyOutput:
        provider = await self._connections()
        async with provider.acquire() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", ctx.idempotency_key)
            known = await connection.fetchval("SELECT 1 FROM sink_effects WHERE key = $1", ctx.idempotency_key)
            if known is None:
                await connection.execute("INSERT INTO sink_effects (key) VALUES ($1)", ctx.idempotency_key)
        return AnyOutput(value=inputs.value)

    async def _connections(self) -> asyncpg.Pool:
        """Kept open: a connection an effect costs a backend process each, which would be all that is measured."""
        async with self._opening:
            if self._provider is None:
                self._provider = await asyncpg.create_pool(os.environ["SINK_DSN"], min_size=0, max_size=4)
            return self._provider


_NODES = (NoOp(), Wait(), Sink())
BENCH_TYPES = {node.type: node for node in _NODES}


def chain(length: int, kind: str = "noop") -> dict[str, Any]:
    """Nodes in a row."""
    nodes = [{"id": f"n{i}", "type": kind, "config": {}} for i in range(length)]
    return {"nodes": nodes, "edges": [_edge(f"n{i}", f"n{i + 1}", "value") for i in range(length - 1)]}


def fan(width: int) -> dict[str, Any]:
    """1 → width → 1."""
    nodes = [{"id": name, "type": "noop", "config": {}} for name in ("first", "last", *(f"m{i}" for i in range(width)))]
    out = [_edge("first", f"m{i}", "value") for i in range(width)]
    back = [_edge(f"m{i}", "last", "many") for i in range(width)]
    return {"nodes": nodes, "edges": out + back}


def _edge(source: str, target: str, handle: str) -> dict[str, str]:
    return {"source": source, "source_handle": "value", "target": target, "target_handle": handle}
