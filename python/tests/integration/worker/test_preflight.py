"""A flow is looked at before it goes live, on a real vault, and not started when its trades would revert."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web
from sqlalchemy import text

from devstack.anvil import CHAIN_ID, Anvil
from devstack.executor_world import ONE_QUOTE, World, deploy_world, executor_world
from devstack.lying_rpc import LyingRpc
from devstack.vaults import LocalVaults
from tests.deployed_chain import with_contracts
from tests.integration.moving_market import rise_after_quotes
from tests.integration.worker.conftest import Client, UserIsToken
from tradingflow.core.config import WorkerSettings
from tradingflow.db.models import Signer
from tradingflow.py_worker.flows.service import FlowService
from tradingflow.py_worker.kit.registry import node_types
from tradingflow.py_worker.server import create_app

REPOSITORY = Path(__file__).resolve().parents[4]


@pytest.fixture
async def world(anvil: Anvil, database_url: str) -> AsyncIterator[World]:
    contracts = await with_contracts(anvil, "world", lambda: deploy_world(anvil, REPOSITORY))
    async with executor_world(anvil, database_url, REPOSITORY, contracts) as world:
        async with world.sessions() as session, session.begin():
            session.add(Signer(chain_id=CHAIN_ID, address=world.signer.address))
        yield world


class HeldRpc(LyingRpc):
    """A node that can be kept from answering."""

    def __init__(self, upstream: str, seed: int) -> None:
        super().__init__(upstream, seed)
        self.asked = asyncio.Event()
        self._answers = asyncio.Event()
        self._answers.set()

    @contextmanager
    def held(self) -> Iterator[None]:
        """While inside, it answers nothing; `asked` is set by the first request."""
        self.asked.clear()
        self._answers.clear()
        try:
            yield
        finally:
            self._answers.set()

    async def _serve(self, request: web.Request) -> web.Response:
        self.asked.set()
        await self._answers.wait()
        return await super()._serve(request)


@pytest.fixture
async def rpc(anvil: Anvil) -> AsyncIterator[HeldRpc]:
    async with HeldRpc(anvil.url, seed=1) as rpc:
        yield rpc


@pytest.fixture
async def owner(world: World, settings: WorkerSettings, rpc: HeldRpc) -> AsyncIterator[Client]:
    """The vault's owner at a worker with all node types."""
    chain = world.client.settings.model_copy(update={"rpc_urls": (rpc.url,)})
    changed = settings.model_copy(update={"chains": (chain,)})
    app = create_app(changed, types=node_types(), authenticator=UserIsToken())
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://worker") as http:
            yield Client(http, world.user_id)


def swap(world: World, **changes: Any) -> dict[str, Any]:
    market = world.market
    config = {
        "chain_id": CHAIN_ID,
        "vault": world.vault,
        "token_in": market.quote_token,
        "token_out": market.base_token,
        "fee": market.fee,
        "amount": "10",
    }
    return {"id": "swap", "type": "swap_node", "config": config | changes}


async def stored(owner: Client, *nodes: dict[str, Any], cycle_interval: str = "1h", edges: Any = ()) -> Any:
    """Stores the flow `armed` without starting it; returns its preflight."""
    body = {"flow_id": "armed", "cycle_interval": cycle_interval, "flow_json": {"nodes": nodes, "edges": list(edges)}}
    await owner.ok("PUT", "/flows/armed", body)
    return await owner.ok("POST", "/flows/armed/preflight")


async def as_owner(world: World, function: str, *arguments: object) -> None:
    async with LocalVaults(world.anvil.url, REPOSITORY) as vaults:
        vault = vaults.deployer.at("Vault", world.vault)
        await vaults.deployer.send(vault.functions[function](*arguments))


def codes(report: Any, *, blocking: bool) -> set[str]:
    return {finding["code"] for finding in report["findings"] if finding["blocks"] == blocking}


async def test_a_good_flow_is_ready_and_its_day_is_reckoned(owner: Client, world: World) -> None:
    await as_owner(world, "setTokenPolicy", world.market.quote_token, True, 20 * ONE_QUOTE, 100 * ONE_QUOTE)
    report = await stored(owner, swap(world))
    assert report["ready"], report["findings"]
    assert report["cycles_a_day"] == 24
    (trade,) = report["trades"]
    assert trade["amount_in"] == str(10 * ONE_QUOTE)
    assert int(trade["amount_out"]) > 0
    assert 100_000 < trade["gas"] < 400_000
    (spend,) = report["spend"]
    assert (spend["worst_case_a_day"], spend["per_day_cap"]) == (str(240 * ONE_QUOTE), str(100 * ONE_QUOTE))
    assert report["gas"][0]["gas_a_day"] == 24 * trade["gas"]
    assert codes(report, blocking=False) == {"day_cap_binds", "trades_every_cycle", "unsimulated_nodes"}
    assert report["unsimulated_nodes"] == ["swap"]
    assert await world.all_executions() == []


async def test_a_vault_that_bounds_no_loss_is_told_until_its_owner_caps_losses(owner: Client, world: World) -> None:
    report = await stored(owner, swap(world))
    assert report["ready"], report["findings"]
    assert "losses_unbounded" in codes(report, blocking=False)
    async with LocalVaults(world.anvil.url, REPOSITORY) as vaults:
        source = await vaults.deployer.deploy("TwapPriceSource", world.market.quote_token, 1, [], [])
    await as_owner(world, "setLossCap", source.address, ONE_QUOTE, 3600)
    capped = await owner.ok("POST", "/flows/armed/preflight")
    assert "losses_unbounded" not in codes(capped, blocking=False)


@pytest.mark.parametrize(
    ("function", "arguments", "code"),
    [
        ("pause", (), "trading_paused"),
        ("revokeOperator", (), "operator_not_ours"),
        ("setRouter", ("router", 0), "router_not_allowed"),
        ("setTokenPolicy", ("base", False, 0, 0), "token_not_allowed"),
        ("setTokenPolicy", ("quote", True, ONE_QUOTE, 100 * ONE_QUOTE), "per_trade_cap_exceeded"),
    ],
)
async def test_a_flow_whose_trade_would_revert_is_not_started(
    owner: Client, world: World, function: str, arguments: tuple[Any, ...], code: str
) -> None:
    market = world.market
    named = {"router": market.swap_router, "base": market.base_token, "quote": market.quote_token}
    await as_owner(world, function, *(named.get(a, a) if isinstance(a, str) else a for a in arguments))
    report = await stored(owner, swap(world))
    assert not report["ready"]
    assert codes(report, blocking=True) == {code}
    refused = await owner.post("/flows/armed/start")
    assert (refused.status_code, refused.json()["error"]) == (409, "preflight_failed")
    assert code in refused.json()["detail"]
    assert (await owner.ok("GET", "/flows/armed"))["status"] == "stopped"


async def test_a_price_that_moves_between_quote_and_simulation_keeps_no_flow_from_starting(
    owner: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    rise_after_quotes(world, monkeypatch)
    report = await stored(owner, swap(world))
    assert report["ready"], report["findings"]
    assert int(report["trades"][0]["amount_out"]) > 0


async def test_executing_a_flow_that_would_revert_stores_nothing(owner: Client, world: World) -> None:
    flow = {"nodes": [swap(world, amount="20000")], "edges": []}
    refused = await owner.post("/flows/execute", {"flow_id": "armed", "cycle_interval": "1h", "flow_json": flow})
    assert (refused.status_code, refused.json()["error"]) == (409, "preflight_failed")
    assert "balance_too_low" in refused.json()["detail"]
    assert (await owner.get("/flows/armed")).status_code == 404


@pytest.mark.parametrize("mode", ["paper", "live"])
async def test_a_flow_that_runs_is_given_no_version_that_would_revert_live(
    owner: Client, world: World, mode: str
) -> None:
    def body(mode: str, **changes: Any) -> dict[str, Any]:
        nodes = [swap(world, **changes)]
        return {
            "flow_id": "armed",
            "cycle_interval": "0 0 1 1 * UTC",
            "flow_json": {"nodes": nodes, "edges": []},
            "mode": mode,
        }

    await owner.ok("POST", "/flows/execute", body(mode))

    async def put_too_much() -> httpx.Response:
        return await owner.http.put("/flows/armed", json=body("live", amount="20000"), headers=owner.headers)

    refused = await put_too_much()
    assert (refused.status_code, refused.json()["error"]) == (409, "preflight_failed")
    kept = await owner.ok("GET", "/flows/armed")
    assert (kept["version"], kept["mode"], kept["status"]) == (1, mode, "running")
    await owner.ok("POST", "/flows/armed/stop")
    assert (await put_too_much()).is_success, "what does not run may be wrong yet"


async def test_a_vault_that_is_not_the_owners_blocks(owner: Client, world: World) -> None:
    report = await stored(owner, swap(world, vault=world.market.weth))
    assert codes(report, blocking=True) == {"unknown_vault"}
    assert report["spend"] == []


async def test_a_chain_that_is_not_served_blocks(owner: Client, world: World) -> None:
    report = await stored(owner, swap(world, chain_id=5, amount="1000", amount_unit="base_units"))
    assert codes(report, blocking=True) == {"unknown_chain"}
    assert report["spend"] == []


async def test_an_amount_another_node_brings_counts_as_the_largest_trade(owner: Client, world: World) -> None:
    await as_owner(world, "setTokenPolicy", world.market.quote_token, True, 20 * ONE_QUOTE, 9000 * ONE_QUOTE)
    price = {"id": "price", "type": "dex_price_node", "config": {"chain_id": CHAIN_ID, "pool": world.market.pool}}
    edge = {"source": "price", "source_handle": "price", "target": "swap", "target_handle": "amount"}
    report = await stored(owner, price, swap(world), edges=[edge])
    assert report["ready"], report["findings"]
    assert report["trades"][0]["amount_in"] is None
    assert report["spend"][0]["worst_case_a_day"] == str(24 * 20 * ONE_QUOTE)


async def test_a_trade_without_an_amount_blocks(owner: Client, world: World) -> None:
    node = swap(world)
    del node["config"]["amount"]
    assert codes(await stored(owner, node), blocking=True) == {"amount_missing"}


async def test_a_chain_that_does_not_answer_is_a_503_and_keeps_nobody_from_starting(
    owner: Client, world: World, rpc: HeldRpc
) -> None:
    await stored(owner, swap(world), cycle_interval="0 0 1 1 * UTC")
    rpc.lies.error_rate = 1.0
    assert (await owner.post("/flows/armed/preflight")).status_code == 503
    assert (await owner.ok("POST", "/flows/armed/start"))["status"] == "running"


async def test_a_user_whose_chain_does_not_answer_keeps_others_from_nothing(
    owner: Client, world: World, rpc: HeldRpc, add_user: Any
) -> None:
    await stored(owner, swap(world))
    stranger = Client(owner.http, await add_user())
    with rpc.held():
        asked = [asyncio.create_task(owner.post("/flows/armed/preflight")) for _ in range(40)]
        refused = [await answer for answer in islice(asyncio.as_completed(asked), 38)]
        assert {(answer.status_code, answer.json()["error"]) for answer in refused} == {(429, "preflight_busy")}
        assert (await stranger.get("/flows")).status_code == 200
    assert sorted(answer.status_code for answer in await asyncio.gather(*asked)) == [200] * 2 + [429] * 38


RARELY = "0 0 1 1 * UTC"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/flows/armed/preflight"),
        ("POST", "/flows/armed/start"),
        ("POST", "/flows/execute"),
        ("PUT", "/flows/armed"),
    ],
)
async def test_no_transaction_is_open_while_a_chain_is_asked(
    owner: Client, world: World, rpc: HeldRpc, method: str, path: str
) -> None:
    body = {"flow_id": "armed", "cycle_interval": RARELY, "flow_json": {"nodes": [swap(world)], "edges": []}}
    await owner.ok("PUT", "/flows/armed", body)
    if method == "PUT":
        await owner.ok("POST", "/flows/armed/start")
    sent = None if path.endswith(("/preflight", "/start")) else body
    # All these read the versions of the flow; who has read them holds this lock until his transaction ends.
    held = text(
        "SELECT count(*) FROM pg_locks WHERE relation = 'flow_versions'::regclass"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    with rpc.held():
        asked = asyncio.create_task(owner.http.request(method, path, json=sent, headers=owner.headers))
        await rpc.asked.wait()
        async with world.sessions() as session:
            locks = await session.scalar(held)
    assert (await asked).is_success
    assert locks == 0


async def test_a_flow_that_changes_while_it_is_judged_is_not_started(owner: Client, world: World, rpc: HeldRpc) -> None:
    await stored(owner, swap(world), cycle_interval=RARELY)
    worse = {"nodes": [swap(world, amount="20000")], "edges": []}
    with rpc.held():
        starting = asyncio.create_task(owner.post("/flows/armed/start"))
        await rpc.asked.wait()
        await owner.ok("PUT", "/flows/armed", {"flow_id": "armed", "cycle_interval": RARELY, "flow_json": worse})
    refused = await starting
    assert (refused.status_code, refused.json()["error"]) == (409, "flow_changed")
    kept = await owner.ok("GET", "/flows/armed")
    assert (kept["status"], kept["version"]) == ("stopped", 2)


async def test_a_flow_that_starts_while_it_is_given_a_version_nobody_judged_keeps_its_own(
    owner: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stored(owner, swap(world), cycle_interval=RARELY)
    revise = FlowService.revise

    async def once_started(service: FlowService, request: Any) -> Any:
        await owner.ok("POST", "/flows/armed/start")
        return await revise(service, request)

    monkeypatch.setattr(FlowService, "revise", once_started)
    worse = {"nodes": [swap(world, amount="20000")], "edges": []}
    body = {"flow_id": "armed", "cycle_interval": RARELY, "flow_json": worse}
    refused = await owner.http.put("/flows/armed", json=body, headers=owner.headers)
    assert (refused.status_code, refused.json()["error"]) == (409, "flow_changed")
    kept = await owner.ok("GET", "/flows/armed")
    assert (kept["status"], kept["version"]) == ("running", 1)


async def test_a_strangers_flow_is_not_there(owner: Client, world: World, add_user: Any) -> None:
    await stored(owner, swap(world))
    stranger = Client(owner.http, await add_user())
    assert (await stranger.post("/flows/armed/preflight")).status_code == 404
