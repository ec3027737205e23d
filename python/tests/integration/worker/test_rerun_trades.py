"""A rerun never makes a trade twice, however the node that asked for it ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import select, update

from tests.integration.worker.conftest import Client, StartWorker, tasks_by_node, until
from tests.integration.worker.nodes import TEST_TYPES, edge, node
from tradingflow.core.config import ChainSettings
from tradingflow.core.evm import address_from_bytes
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import Trade, Vault
from tradingflow.py_worker.kit import TokenInfo, node_types
from tradingflow.py_worker.onchain_markets import OnChainMarkets

CHAIN_ID = 31337
WETH, USDC, VAULT, ROUTER = (address_from_bytes(bytes([n]) * 20) for n in (1, 2, 3, 4))
SWAP = {"chain_id": CHAIN_ID, "vault": VAULT, "token_in": USDC, "token_out": WETH}
AMOUNT = {"amount": "2000000", "amount_unit": "base_units"}
MINED = {"status": "completed", "amount_out": 10**15, "transaction_hash": "0x" + "ab" * 32, "block_number": 7}
REVERTED = {"status": "failed", "failure_code": "reverted", "failure_detail": "too little received"}


@pytest.fixture
async def worker(monkeypatch: pytest.MonkeyPatch, start_worker: StartWorker) -> AsyncIterator[FastAPI]:
    """One whose trades only tests settle, and whose chain only knows decimals."""

    async def token(_: OnChainMarkets, __: int, address: str) -> TokenInfo:
        return TokenInfo(address, 18 if address == WETH else 6)

    monkeypatch.setattr(OnChainMarkets, "token", token)
    monkeypatch.setitem(TEST_TYPES, "swap_node", node_types()["swap_node"])
    chain = ChainSettings(chain_id=CHAIN_ID, name="test", rpc_urls=("http://127.0.0.1:1",), swap_router=ROUTER)
    async with start_worker(chains=(chain,)) as app:
        yield app


@pytest.fixture
async def stopped(client: Client, sessions: SessionFactory) -> str:
    """The trade that node `swap` of cycle 0 asked for before it was stopped. Node `bad` of that flow always fails."""
    async with sessions.begin() as session:
        session.add(
            Vault(
                user_id=client.user_id,
                chain_id=CHAIN_ID,
                address=VAULT,
                owner_address=ROUTER,
                factory=ROUTER,
                created_block=1,
            )
        )
    nodes = [node("swap", "swap_node", SWAP | AMOUNT), node("after", "gather"), node("bad", "fail")]
    edges = [edge("swap", "after", "trade_receipt", "values"), edge("after", "bad")]
    await client.execute("f", nodes, edges, cycle_interval=None, trigger={"type": "manual"})
    await client.ok("POST", "/flows/f/cycles")
    trade = await asked(sessions)
    await client.ok("POST", "/nodes/f_0_swap/stop")
    assert (await client.cycle_end("f"))["status"] == "terminated"
    return trade


async def asked(sessions: SessionFactory, cycle: int = 0) -> str:
    async def found() -> str | None:
        async with sessions() as session:
            return await session.scalar(select(Trade.id).where(Trade.cycle == cycle))

    trade: str = await until(found)
    return trade


async def settle(sessions: SessionFactory, trade: str, **outcome: Any) -> None:
    async with sessions.begin() as session:
        await session.execute(update(Trade).where(Trade.id == trade).values(**outcome))


async def trades(sessions: SessionFactory) -> list[str]:
    async with sessions() as session:
        return list(await session.scalars(select(Trade.id).order_by(Trade.cycle)))


@pytest.mark.parametrize("status", ["requested", "submitted"])
async def test_a_cycle_whose_trade_may_still_be_mined_is_not_rerun(
    client: Client, sessions: SessionFactory, stopped: str, status: str
) -> None:
    await settle(sessions, stopped, status=status)
    answer = await client.post("/flows/f/cycles/0/rerun")
    assert (answer.status_code, answer.json()["error"]) == (409, "trade_open")
    assert stopped in answer.json()["detail"]
    assert "'swap'" in answer.json()["detail"]


async def test_a_trade_that_was_mined_after_its_node_ended_is_carried_through_every_rerun(
    client: Client, sessions: SessionFactory, stopped: str
) -> None:
    await settle(sessions, stopped, **MINED)
    receipt = {
        "trade_id": stopped,
        "chain_id": CHAIN_ID,
        "vault": VAULT,
        "token_in": USDC,
        "token_out": WETH,
        "amount_in": "2000000",
        "amount_out": str(10**15),
        "price": "0.0005",
        "transaction_hash": MINED["transaction_hash"],
        "block_number": 7,
    }
    for old in (0, 1):
        rerun = await client.ok("POST", f"/flows/f/cycles/{old}/rerun")
        cycle = await client.cycle_end("f", rerun["cycle"])
        tasks = tasks_by_node(cycle)
        assert (tasks["swap"]["status"], tasks["swap"]["attempt"]) == ("completed", 0)
        assert tasks["swap"]["outputs"] == {"trade_receipt": receipt}
        assert tasks["after"]["outputs"] == {"value": [receipt]}
        assert cycle["status"] == "failed"
    assert await trades(sessions) == [stopped]


async def test_a_trade_that_failed_is_made_anew_once(client: Client, sessions: SessionFactory, stopped: str) -> None:
    await settle(sessions, stopped, **REVERTED)
    rerun = await client.ok("POST", "/flows/f/cycles/0/rerun")
    anew = await asked(sessions, rerun["cycle"])
    await client.ok("POST", f"/nodes/f_{rerun['cycle']}_swap/stop")
    await client.cycle_end("f", rerun["cycle"])
    for cycle, code in ((0, "already_rerun"), (rerun["cycle"], "trade_open")):
        answer = await client.post(f"/flows/f/cycles/{cycle}/rerun")
        assert (answer.status_code, answer.json()["error"]) == (409, code)
    assert await trades(sessions) == [stopped, anew]


async def test_a_mined_trade_whose_node_gives_more_than_its_receipt_keeps_the_cycle_from_a_rerun(
    client: Client, sessions: SessionFactory, stopped: str
) -> None:
    await settle(sessions, stopped, **MINED, node_id="bad")
    answer = await client.post("/flows/f/cycles/0/rerun")
    assert (answer.status_code, answer.json()["error"]) == (409, "trade_made")
    assert stopped in answer.json()["detail"]
