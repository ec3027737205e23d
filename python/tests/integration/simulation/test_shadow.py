"""Live cycles also run on paper: equal to the last unit while nobody interferes, an alarm when somebody does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from web3 import AsyncWeb3

from devstack.anvil import Anvil
from devstack.executor_world import ONE_QUOTE
from devstack.vaults import LocalVaults
from tests.integration.simulation.live import executing, executor_settings
from tests.integration.simulation.world import REPOSITORY, World
from tests.integration.worker.conftest import tasks_by_node, until
from tests.integration.worker.nodes import TEST_TYPES
from tradingflow.chain.client import ChainClient
from tradingflow.chain.vault_settings import read_vault
from tradingflow.core.clock import SystemClock
from tradingflow.core.config import ChainSettings, ExecutorSettings
from tradingflow.core.evm import ZERO_ADDRESS
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import Cycle, Flow, FlowVersion, JournalEntry, NodeTask, PaperTrade, Trade, User
from tradingflow.py_worker.paper.shadow import Shadow, compare_fills
from tradingflow.py_worker.simulation.gateway import NodeIdentity, SimulatedTrade
from tradingflow.py_worker.simulation.venue import Fill
from tradingflow.py_worker.specs import node_specs

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


async def test_a_token_that_does_not_tell_its_balance_is_left_out_of_the_vault(world: World) -> None:
    reverts, answers_nothing = ("0x" + byte * 20 for byte in ("e7", "e8"))
    world.anvil.rpc("anvil_setCode", reverts, "0x60006000fd")
    world.anvil.rpc("anvil_setCode", answers_nothing, "0x00")
    async with LocalVaults(world.anvil.url, REPOSITORY) as vaults:
        vault = vaults.deployer.at("Vault", world.vault)
        for token in (reverts, answers_nothing):
            allow = vault.functions.setTokenPolicy(AsyncWeb3.to_checksum_address(token), True, 1, 1)
            await vaults.deployer.send(allow)
    held = (await read_vault(world.chain, world.vault, 0)).balances
    assert set(held) == {ZERO_ADDRESS, world.market.quote_token, world.market.base_token}
    await run_live(world, amount="500")
    await shadowed(world)
    assert await divergences(world) == []
    (paper,) = (await world.client.ok("GET", "/paper/trades?is_shadow=true"))["items"]
    assert paper["status"] == "completed"


NOWHERE, AT_HOME = 99, 31337
EMIT = {"nodes": [{"id": "a", "type": "emit"}], "edges": []}
BROKEN_ENTRY = {"nonsense": True}


class Recorded:
    """Ended live cycles of one owner as a worker leaves them, each later one ended later, and a shadow of its own."""

    def __init__(self, sessions: SessionFactory, clients: dict[int, ChainClient]) -> None:
        self.sessions = sessions
        self.shadow = Shadow(sessions, clients, SystemClock(), TEST_TYPES, node_specs(TEST_TYPES), None)
        self.user_id = uuid4()
        self.ended_at = datetime.now(UTC) - timedelta(minutes=5)

    async def add(self, name: str, *, graph: Any = EMIT, entry: Any = None, traded_on: int | None = None) -> None:
        flow_pk = uuid4()
        self.ended_at += timedelta(seconds=1)
        flow = {"flow_id": name, "status": "stopped", "shadow_bound_bps": 0, "current_version": 1}
        of_cycle = {"flow_pk": flow_pk, "cycle": 0}
        async with self.sessions.begin() as session:
            await session.execute(insert(User).values(id=self.user_id).on_conflict_do_nothing())
            await session.execute(insert(Flow).values(id=flow_pk, user_id=self.user_id, **flow))
            await session.execute(insert(FlowVersion).values(flow_pk=flow_pk, version=1, graph=graph))
            times = {"fire_time": self.ended_at, "finished_at": self.ended_at}
            await session.execute(insert(Cycle).values(**of_cycle, version=1, status="completed", **times))
            if entry is not None:
                await session.execute(insert(NodeTask).values(**of_cycle, node_id="a", status="completed"))
                await session.execute(insert(JournalEntry).values(**of_cycle, node_id="a", entries=[entry]))
            if traded_on is not None:
                await session.execute(insert(Trade).values(**of_cycle, **self._trade(traded_on)))

    def _trade(self, chain_id: int) -> dict[str, Any]:
        addresses = dict.fromkeys(("vault_address", "router", "token_in", "token_out"), "0x" + "11" * 20)
        identity = {"id": "0x" + uuid4().hex * 2, "user_id": self.user_id, "version": 1, "node_id": "buy"}
        terms = {"chain_id": chain_id, "path": b"", "amount_in": 1, "slippage_bps": 50}
        return {**identity, **addresses, **terms, "status": "failed", "failure_code": "trading_paused"}

    async def shadowed(self) -> set[str]:
        async with self.sessions() as session:
            done = select(Flow.flow_id).join(Cycle, Cycle.flow_pk == Flow.id).where(Cycle.shadowed_at.is_not(None))
            return set(await session.scalars(done))


def chain(chain_id: int, url: str) -> ChainClient:
    return ChainClient(ChainSettings(chain_id=chain_id, name="a chain", rpc_urls=(url,)))


async def test_a_cycle_that_cannot_be_shadowed_is_done_with_and_the_next_ones_go_on(sessions: SessionFactory) -> None:
    recorded = Recorded(sessions, {})
    before = REGISTRY.get_sample_value("worker_unshadowable_cycles_total") or 0.0
    await recorded.add("broken", entry=BROKEN_ENTRY)
    await recorded.add("of-a-type-that-is-gone", graph={"nodes": [{"id": "a", "type": "gone"}], "edges": []})
    await recorded.add("sound")
    await recorded.shadow.round()
    assert await recorded.shadowed() == {"broken", "of-a-type-that-is-gone", "sound"}
    assert REGISTRY.get_sample_value("worker_unshadowable_cycles_total") == before + 1


async def test_a_chain_that_is_away_keeps_only_the_cycles_that_traded_there(sessions: SessionFactory) -> None:
    nowhere = chain(NOWHERE, "http://127.0.0.1:9")
    recorded = Recorded(sessions, {NOWHERE: nowhere})
    for name in ("away", "away-too"):
        await recorded.add(name, traded_on=NOWHERE)
    await recorded.add("sound")
    late = await recorded.shadow.round()
    assert await recorded.shadowed() == {"sound"}
    assert len(late) == 1, "once a chain is known to be away, no other cycle asks it"
    await recorded.add("newer")
    await recorded.shadow.round(late)
    assert await recorded.shadowed() == {"sound", "newer"}
    await nowhere.close()


async def test_a_cycle_its_chain_cannot_answer_for_keeps_no_other_of_that_chain(
    sessions: SessionFactory, anvil: Anvil
) -> None:
    """The chain is there, yet no vault stands at the address: what is asked of it has no answer."""
    home = chain(AT_HOME, anvil.url)
    recorded = Recorded(sessions, {AT_HOME: home})
    for name in ("unanswered", "unanswered-too"):
        await recorded.add(name, traded_on=AT_HOME)
    await recorded.add("sound")
    late = await recorded.shadow.round()
    assert await recorded.shadowed() == {"sound"}
    assert len(late) == 2, "each was tried"
    await home.close()


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
