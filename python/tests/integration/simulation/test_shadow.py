"""Live cycles also run on paper: equal to the last unit while nobody interferes, an alarm when somebody does."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import select, update

from devstack.executor_world import ONE_QUOTE
from tests.integration.simulation.live import executing, executor_settings
from tests.integration.simulation.world import World
from tests.integration.worker.conftest import tasks_by_node, until
from tradingflow.core.config import ExecutorSettings
from tradingflow.db.models import Cycle, PaperTrade, Trade
from tradingflow.py_worker.paper.shadow import compare_fills
from tradingflow.py_worker.simulation.gateway import NodeIdentity, SimulatedTrade
from tradingflow.py_worker.simulation.venue import Fill

NAME = "shadowed"


async def run_live(world: World, executor: ExecutorSettings | None = None, **config: Any) -> Any:
    nodes, edges = world.flow(**config)
    async with executing(world, executor or executor_settings(world)):
        # Stored and started by hand: executing it would ask the vault first, and not start what it refuses.
        flow = {"flow_id": NAME, "cycle_interval": 0, "flow_json": {"nodes": nodes, "edges": edges}}
        await world.client.ok("PUT", f"/flows/{NAME}", {**flow, "mode": "live", "shadow_bound_bps": 0})
        await world.client.ok("POST", f"/flows/{NAME}/cycles")
        return await world.client.cycle_end(NAME)


async def shadowed(world: World) -> None:
    async def done() -> Any:
        async with world.sessions() as session:
            return await session.scalar(select(Cycle.shadowed_at))

    await until(done)


async def divergences(world: World) -> list[Any]:
    found: list[Any] = (await world.client.ok("GET", f"/flows/{NAME}/divergences"))["items"]
    return found


def counted(kind: str) -> float:
    return REGISTRY.get_sample_value("worker_shadow_divergences_total", {"kind": kind}) or 0.0


async def test_a_trade_refused_for_its_price_is_refused_on_paper_too(careful: World) -> None:
    await careful.market_says("2045")
    held = executor_settings(careful).model_copy(update={"trade_price_check": "required"})
    cycle = await run_live(careful, held, amount="500")
    assert tasks_by_node(cycle)["buy"]["error"]["error"] == "price_sources_differ"
    await shadowed(careful)
    assert await divergences(careful) == []


async def test_a_live_fill_and_its_shadow_are_equal_to_the_last_unit(world: World) -> None:
    cycle = await run_live(world, amount="500")
    assert cycle["status"] == "completed", cycle
    await shadowed(world)
    assert await divergences(world) == []
    (paper,) = (await world.client.ok("GET", "/paper/trades?is_shadow=true"))["items"]
    receipt = tasks_by_node(cycle)["buy"]["outputs"]["trade_receipt"]
    assert (paper["trade_id"], paper["amount_out"]) == (receipt["trade_id"], receipt["amount_out"])
    assert (await world.client.ok("GET", "/paper/trades?is_shadow=false"))["items"] == []
    assert (await world.stranger.get(f"/flows/{NAME}/divergences")).status_code == 404


async def test_a_refusal_live_is_the_same_refusal_in_the_shadow(world: World) -> None:
    cycle = await run_live(world, amount="1001")
    assert tasks_by_node(cycle)["buy"]["error"]["error"] == "per_trade_cap_exceeded"
    await shadowed(world)
    assert await divergences(world) == []
    (paper,) = (await world.client.ok("GET", "/paper/trades"))["items"]
    assert paper["failure_code"] == "per_trade_cap_exceeded"


async def test_a_live_fill_that_differs_is_an_alarm_that_is_kept(world: World) -> None:
    before = counted("fill")
    cycle = await run_live(world, amount="500")
    async with world.sessions.begin() as session:
        # As if somebody had traded in between: the fill recorded is a hundredth worse than the market's.
        trade = (await session.scalars(select(Trade))).one()
        assert trade.amount_out is not None
        await session.execute(update(Trade).values(amount_out=trade.amount_out * 99 // 100))
        await session.execute(update(Cycle).values(shadowed_at=None))
        await session.execute(PaperTrade.__table__.delete())  # type: ignore[attr-defined]
    found = await until(lambda: divergences(world))
    assert (found[0]["kind"], found[0]["node_id"], found[0]["deviation_bps"]) == ("fill", "buy", 102)
    assert found[0]["cycle"] == cycle["cycle"]
    assert counted("fill") == before + 1


IDENTITY = NodeIdentity(UUID(int=1), 1, 0, "buy")


@pytest.mark.parametrize(
    ("live", "paper", "bound", "kind"),
    [
        ((1_000, None), (1_000, None), 0, None),
        ((10**18, None), (10**18 - 1, None), 0, "fill"),
        ((10_000, None), (9_999, None), 1, None),
        ((10_000, None), (9_998, None), 1, "fill"),
        ((None, "trading_paused"), (None, "trading_paused"), 0, None),
        ((None, "trading_paused"), (None, "cooldown_active"), 0, "refusal"),
        ((1_000, None), (None, "trading_paused"), 10_000, "refusal"),
        ((None, "not_mined_in_time"), (1_000, None), 10_000, "refusal"),
    ],
)
def test_the_bound_decides_what_is_an_alarm(live: Any, paper: Any, bound: int, kind: str | None) -> None:
    row = Trade(node_id="buy", status="x", amount_out=live[0], failure_code=live[1])
    fill = None if paper[0] is None else Fill(ONE_QUOTE, paper[0])
    made = SimulatedTrade("0x1", IDENTITY, None, 0, 0, fill=fill, failure_code=paper[1])  # type: ignore[arg-type]
    found = compare_fills(row, made, bound)
    assert (found.kind if found else None) == kind
