"""A value that left by many edges is told for each of them, and is in memory once."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

from tests.unit.engine.conftest import edge, graph_of, node
from tests.unit.worker.memory import MB, grows_by_at_most
from tradingflow.db.models import Flow, NodeTask
from tradingflow.py_worker.flows.cycle_endpoints import SignalView, _list_text
from tradingflow.py_worker.flows.stream import _signals, _text
from tradingflow.py_worker.parts import Parts

FOLLOWERS = [f"n{number}" for number in range(50)]
LARGE = "x" * MB


def test_the_signals_of_a_cycle_are_a_list_in_json() -> None:
    for count in (0, 1, 3):
        views = [_view(f"n{number}", number) for number in range(count)]
        assert json.loads("".join(_list_text(views))) == [view.model_dump() for view in views]


def test_the_signals_of_a_cycle_are_written_one_by_one() -> None:
    with grows_by_at_most(10 * MB):
        sizes = [len(part) for part in _list_text(_view(name, LARGE) for name in FOLLOWERS)]
    assert sum(sizes) > len(FOLLOWERS) * MB


async def test_the_signals_of_a_stream_are_written_one_by_one() -> None:
    graph = graph_of([node("a", "start"), *map(node, FOLLOWERS)], [edge("a", name) for name in FOLLOWERS])

    async def loaded(*_: Any) -> Any:
        return graph

    parts = cast("Parts", SimpleNamespace(worker=SimpleNamespace(loader=SimpleNamespace(graph=loaded))))
    task = NodeTask(cycle=0, node_id="a", outputs={"out": LARGE})
    with grows_by_at_most(10 * MB):
        sizes = [len(_text(event)) for event in await _signals(parts, Flow(id=uuid4()), 1, task)]
    assert len(sizes) == len(FOLLOWERS)
    assert min(sizes) > MB


def _view(target: str, value: Any) -> SignalView:
    return SignalView(
        source_node="a", source_handle="out", target_node=target, target_handle="in", value=value, sent_at=None
    )
