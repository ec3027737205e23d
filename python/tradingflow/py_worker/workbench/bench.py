"""Runs one node with given inputs: real HTTP through the guarded client, the real sandbox, memory for the rest."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from tradingflow.core.clock import SystemClock
from tradingflow.core.errors import InvalidInput, NotFound
from tradingflow.outbound.client import GuardedHttp
from tradingflow.py_worker.kit import NodeLogger, node_types
from tradingflow.py_worker.kit.registry import AnyNode, nodes_in
from tradingflow.py_worker.kit.testing import (
    MemoryContext,
    MemoryDatasets,
    MemoryLogger,
    MemorySecrets,
    NobodyThere,
)
from tradingflow.py_worker.sandbox.runner import Sandbox, SandboxPlan

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


@dataclass(frozen=True)
class Ran:
    """One cycle of the node."""

    cycle: int
    outputs: dict[str, Any]
    not_taken: list[str]
    log: list[str]
    took_ms: float


def find_node(what: str) -> AnyNode:
    """By type name, or by the file that holds it. Raises NotFound or InvalidInput."""
    if not what.endswith(".py"):
        if what not in node_types():
            raise NotFound("node type", what)
        return node_types()[what]
    found = list(nodes_in(_load(Path(what))))
    if len(found) != 1:
        raise InvalidInput("not_one_node", f"{what} holds {len(found)} nodes; needed is exactly one")
    return found[0]


def _load(path: Path) -> ModuleType:
    if not path.is_file():
        raise NotFound("file", path)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise InvalidInput("not_a_module", f"{path} is no Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


async def run_node(
    node: AnyNode,
    config: Mapping[str, Any],
    inputs: Mapping[str, Any],
    *,
    secrets: Mapping[str, str] | None = None,
    allow_loopback: bool = False,
    cycles: int = 1,
) -> list[Ran]:
    """Raises TradingFlowError as the node does. What a node remembers stays from cycle to cycle."""
    async with _context(dict(secrets or {}), allow_loopback=allow_loopback) as ctx:
        return [await _cycle(node, ctx, config, inputs, number) for number in range(cycles)]


async def _cycle(
    node: AnyNode, ctx: MemoryContext, config: Mapping[str, Any], inputs: Mapping[str, Any], number: int
) -> Ran:
    log = MemoryLogger()
    ctx.cycle, ctx.log = number, cast("NodeLogger", log)
    began = time.perf_counter()
    outputs = await node.execute(ctx, config, inputs)
    took_ms = (time.perf_counter() - began) * 1000
    lines = [f"{level} {text}" for level, text in log.lines]
    return Ran(number, outputs.signals(), sorted(outputs.not_taken()), lines, round(took_ms, 3))


@asynccontextmanager
async def _context(secrets: dict[str, str], *, allow_loopback: bool) -> AsyncIterator[MemoryContext]:
    http = GuardedHttp(allowed=LOOPBACK if allow_loopback else ())
    sandbox = Sandbox(SandboxPlan(processes=1))
    await sandbox.start()
    try:
        yield MemoryContext(
            clock=SystemClock(),
            http=http,
            secrets=MemorySecrets(secrets),
            code=sandbox.for_owner("bench"),
            datasets=MemoryDatasets(),
            approvals=NobodyThere(),
        )
    finally:
        await sandbox.close()
        await http.close()
