"""The dataset nodes over a context in memory."""

from typing import Any

import pytest

from tradingflow.core.errors import InvalidInput, Refused
from tradingflow.py_worker.kit import node_types
from tradingflow.py_worker.kit.testing import MemoryContext, MemoryDatasets


@pytest.fixture
def ctx() -> MemoryContext:
    return MemoryContext(datasets=MemoryDatasets({"prices": [{"close": n} for n in range(5)]}))


async def run(ctx: MemoryContext, kind: str, config: dict[str, Any], data: Any = None) -> dict[str, Any]:
    inputs = {} if data is None else {"data": data}
    return (await node_types()[kind].execute(ctx, config, inputs)).signals()


@pytest.mark.parametrize(("kind", "more"), [("dataset_input_node", {}), ("dataset_node", {"mode": "read"})])
async def test_the_newest_rows_come_oldest_first(ctx: MemoryContext, kind: str, more: dict[str, Any]) -> None:
    assert await run(ctx, kind, {"name": "prices", "limit": 2, **more}) == {"data": [{"close": 3}, {"close": 4}]}


async def test_a_dataset_that_is_not_there_is_an_error_unless_the_flow_says_it_is_none(ctx: MemoryContext) -> None:
    with pytest.raises(Refused, match="dataset_unknown"):
        await run(ctx, "dataset_input_node", {"name": "nope"})
    assert await run(ctx, "dataset_input_node", {"name": "nope", "missing_ok": True}) == {"data": []}


async def test_rows_are_appended_once_a_cycle(ctx: MemoryContext) -> None:
    sent: dict[str, Any] = {}
    for cycle in (0, 0, 1):
        ctx.cycle = cycle
        sent = await run(ctx, "dataset_output_node", {"name": "log"}, {"side": "buy"})
    assert sent == {"data": [{"side": "buy"}], "rows": 2}


async def test_the_oldest_rows_go_when_only_some_are_kept(ctx: MemoryContext) -> None:
    config = {"name": "prices", "keep_rows": 3}
    assert (await run(ctx, "dataset_output_node", config, [{"close": 9}]))["rows"] == 3
    assert (await ctx.datasets.read("prices", 9))[0] == {"close": 3}


async def test_rows_are_written_over_those_that_were_there(ctx: MemoryContext) -> None:
    await run(ctx, "dataset_node", {"name": "prices", "mode": "write"}, [{"close": 1}])
    assert await ctx.datasets.read("prices", 9) == [{"close": 1}]


async def test_the_older_node_needs_data_to_write(ctx: MemoryContext) -> None:
    with pytest.raises(InvalidInput, match="data_missing"):
        await run(ctx, "dataset_node", {"name": "prices", "mode": "append"})


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "needs name"),
        ({"storage": "csv"}, "needs url"),
        ({"storage": "google_sheets", "spreadsheet": "x" * 44}, "needs credentials"),
        ({"storage": "csv", "url": "https://e.com/x.csv"}, "only written whole"),
        ({"storage": "json", "url": "https://e.com/x", "mode": "write", "keep_rows": 5}, "keep_rows is for"),
        ({"name": "x", "keep_rows": True}, "keep_rows is how many"),
        ({"name": "../x"}, "pattern"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_with_the_flow(config: dict[str, Any], said: str) -> None:
    problems = node_types()["dataset_output_node"].validate_params(config)
    assert said in "; ".join(problem.message for problem in problems)
