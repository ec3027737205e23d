"""What a failed node task tells."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, cast
from uuid import uuid4

from sqlalchemy import exc

from tests.unit.engine.conftest import edge, graph_of, node
from tradingflow.core.clock import SystemClock
from tradingflow.core.errors import InvalidInput
from tradingflow.py_worker.kit import MarketData
from tradingflow.py_worker.kit.registry import AnyNode
from tradingflow.py_worker.runtime.context import Surroundings
from tradingflow.py_worker.runtime.live import LiveCycle
from tradingflow.py_worker.runtime.records import StoredCycle
from tradingflow.py_worker.runtime.runner import MAX_DETAIL_CHARS, Ended, NodeRunner
from tradingflow.py_worker.runtime.store import CycleStore


class Wordy:
    """Says of each of many list entries what is wrong with it."""

    async def execute(self, *_: Any) -> Any:
        raise InvalidInput("invalid_input", "values.0: Input should be a valid number; " * 200_000)


class Hindered:
    """Reads from PostgreSQL while every connection is in use."""

    async def execute(self, *_: Any) -> Any:
        raise exc.TimeoutError("QueuePool limit reached")


async def ending_of(node_type: Any) -> Ended:
    graph = graph_of([node("a", "start", on_error="route"), node("b")], [edge("a", "b", "error")])
    live = LiveCycle(StoredCycle((uuid4(), 0), "flow", uuid4(), "running", "live", 1, "running", {}), graph, 4)
    around = Surroundings(SystemClock(), cast("MarketData", None))
    runner = NodeRunner({"start": cast("AnyNode", node_type)}, around, cast("CycleStore", None))
    return await runner.run(live, 0, datetime.now(UTC), asyncio.sleep)


async def test_a_database_that_is_busy_is_no_defect_of_the_node() -> None:
    error = (await ending_of(Hindered())).outcome.error
    assert error is not None
    assert error["error"] == "database_busy"


async def test_a_failure_is_told_in_so_many_words_that_its_signals_stay_small() -> None:
    ended = await ending_of(Wordy())
    error = ended.outcome.error
    assert error is not None
    assert (error["error"], len(error["detail"])) == ("invalid_input", MAX_DETAIL_CHARS)
    assert len(ended.outputs) < 2 * MAX_DETAIL_CHARS
