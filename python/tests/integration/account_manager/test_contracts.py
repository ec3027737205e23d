"""Contracts a user has monitored, and their events as that user reads them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, update

from devstack.anvil import CHAIN_ID, Anvil
from tests.integration.account_manager.conftest import Session
from tests.integration.account_manager.test_history_routes import POOL, START, VAULT, event
from tests.integration.account_manager.test_history_routes import flow as flow  # noqa: PLC0414 - the fixture
from tradingflow.chain.registry import AbiRegistry
from tradingflow.core.config import AccountManagerSettings
from tradingflow.core.evm import address_from_bytes, keccak
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import ChainCursor, ContractAbi, ContractEvent, MonitoredContract, Plan
from tradingflow.monitor.contracts import Contract
from tradingflow.monitor.store import ChainStore

TOKEN = address_from_bytes(b"\x77" * 20)
HEAD = 100
PING = {
    "type": "event",
    "name": "Ping",
    "inputs": [
        {"name": "who", "type": "address", "indexed": True},
        {"name": "count", "type": "uint256", "indexed": False},
    ],
}
RENAMED = {**PING, "inputs": [{**PING["inputs"][0], "name": "caller"}, PING["inputs"][1]]}  # type: ignore[dict-item]


@pytest.fixture
async def deployed(anvil: Anvil, sessions: SessionFactory, alice: Session) -> None:
    """A contract at TOKEN, on a chain the Monitor stored up to HEAD."""
    anvil.rpc("anvil_setCode", TOKEN, "0x00")
    async with sessions.begin() as session:
        session.add(ChainCursor(chain_id=CHAIN_ID, next_block=HEAD, next_final_block=HEAD, updated_at=START))


def body(**changes: Any) -> dict[str, Any]:
    return {"chain_id": CHAIN_ID, "address": TOKEN, "abi": [PING], **changes}


async def test_a_registered_contract_is_taken_up_by_the_monitor_with_its_abi(
    deployed: None, alice: Session, settings: AccountManagerSettings, engine: Any
) -> None:
    answer = await alice.post("/contracts", body(from_block=40, name="My pinger"))
    assert answer.status_code == 201, answer.text
    registered = answer.json()
    assert (registered["status"], registered["from_block"]) == ("queued", 40)
    assert registered["events"] == ["Ping(address,uint256)"]
    store, registry = ChainStore(engine, CHAIN_ID, 8), AbiRegistry()
    await store.load_abis(registry)
    assert await store.adopt(HEAD) == [Contract(TOKEN, registered["kind"], 40)]
    assert registry.get(registered["kind"]) is not None
    again = (await alice.get(f"/contracts/{registered['id']}")).json()
    assert (again["status"], again["live_from"], again["history_next"]) == ("backfilling", HEAD, 40)
    assert [c["id"] for c in (await alice.get("/contracts")).json()] == [registered["id"]]


async def test_without_a_block_the_contract_is_followed_from_now_on(deployed: None, alice: Session) -> None:
    assert (await alice.post("/contracts", body())).json()["from_block"] == HEAD


def declaring(type_: str) -> list[dict[str, Any]]:
    return [{"type": "event", "name": "E", "inputs": [{"name": "a", "type": type_}]}]


def nested(depth: int) -> dict[str, Any]:
    part: dict[str, Any] = {"name": "leaf", "type": "uint8"}
    for _ in range(depth):
        part = {"name": "s", "type": "tuple", "components": [part]}
    return {"type": "event", "name": "Deep", "inputs": [part]}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"abi": None}, "abi_or_kind"),
        ({"kind": "erc20"}, "abi_or_kind"),
        ({"abi": []}, "invalid_abi"),
        ({"abi": [{"type": "function", "name": "f"}]}, "invalid_abi"),
        ({"abi": [{"type": "event", "name": "E"}]}, "invalid_abi"),
        ({"abi": [{"type": "event", "name": "E", "inputs": "x"}]}, "invalid_abi"),
        ({"abi": declaring("nonsense")}, "invalid_abi"),
        ({"abi": declaring("fixed128x18[]")}, "invalid_abi"),
        ({"abi": declaring("uint8" + "[1]" * 19)}, "invalid_abi"),
        ({"abi": declaring("bytes[32][32][32]")}, "invalid_abi"),
        ({"abi": [nested(20)]}, "invalid_abi"),
        ({"abi": [nested(300)]}, "invalid_abi"),
        ({"abi": [{**PING, "inputs": [{"name": "a", "type": "uint8"}] * 65}]}, "invalid_abi"),
        ({"abi": [PING] * 501}, "invalid_abi"),
        ({"abi": [{**PING, "name": "P" * 101}]}, "invalid_abi"),
        ({"abi": [{**PING, "inputs": [{"name": "a" * 101, "type": "uint8"}]}]}, "invalid_abi"),
        ({"abi": [{**PING, "inputs": [{"name": "s", "type": "tuple", "components": [
            {"name": "a" * 101, "type": "uint8"}]}]}]}, "invalid_abi"),
        ({"abi": None, "kind": "vault_factory"}, "invalid_request"),
        ({"abi": None, "kind": "uniswap_v3_factory"}, "invalid_request"),
        ({"address": POOL}, "no_contract"),
        ({"chain_id": 1}, "unknown_chain"),
        ({"from_block": HEAD + 1}, "block_ahead"),
        ({"name": "<script>"}, "invalid_request"),
    ],
)  # fmt: skip
async def test_what_cannot_be_monitored_is_refused(
    deployed: None, alice: Session, changes: dict[str, Any], code: str
) -> None:
    answer = await alice.post("/contracts", body(**changes))
    assert (answer.status_code, answer.json()["error"]) == (422, code), answer.text


async def test_a_name_may_have_a_hundred_characters_and_the_answer_says_so(deployed: None, alice: Session) -> None:
    answer = await alice.post("/contracts", body(abi=[{**PING, "name": "P" * 101}]))
    assert "allowed: 100 characters" in answer.json()["detail"]
    longest = {**PING, "name": "P" * 100, "inputs": [{"name": "a" * 100, "type": "uint8"}]}
    assert (await alice.post("/contracts", body(abi=[longest]))).status_code == 201


async def test_the_plan_bounds_contracts_and_their_history(
    deployed: None, alice: Session, anvil: Anvil, sessions: SessionFactory
) -> None:
    async with sessions.begin() as session:
        await session.execute(update(Plan).values(contracts=1, history_blocks=10))
    assert (await alice.get("/users/me/plan")).json()["contracts"] == 1
    answer = await alice.post("/contracts", body(from_block=HEAD - 11))
    assert (answer.status_code, answer.json()["error"]) == (422, "history_too_long")
    first = await alice.post("/contracts", body(from_block=HEAD - 10))
    assert first.status_code == 201
    anvil.rpc("anvil_setCode", POOL, "0x00")
    answer = await alice.post("/contracts", body(address=POOL))
    assert (answer.status_code, answer.json()["error"]) == (409, "too_many_contracts")
    assert (await alice.request("DELETE", f"/contracts/{first.json()['id']}")).status_code == 204
    assert (await alice.post("/contracts", body(address=POOL))).status_code == 201


async def test_a_contract_is_registered_once_and_a_strangers_vault_never(
    flow: UUID, deployed: None, alice: Session, mallory: Session, anvil: Anvil
) -> None:
    assert (await alice.post("/contracts", body())).status_code == 201
    again = await alice.post("/contracts", body())
    assert (again.status_code, again.json()["error"]) == (409, "already_registered")
    anvil.rpc("anvil_setCode", VAULT, "0x00")
    assert (await mallory.post("/contracts", body(address=VAULT))).status_code == 404


async def test_who_comes_first_with_a_wrong_abi_spoils_nobody_elses_reading(
    deployed: None, alice: Session, mallory: Session, sessions: SessionFactory
) -> None:
    """Events are stored once, by the first ABI. Whoever gave another one reads by that."""
    first = (await mallory.post("/contracts", body(abi=[RENAMED]))).json()
    second = (await alice.post("/contracts", body(abi=[PING]))).json()
    assert second["stored_kind"] == first["kind"] != second["kind"]
    stored = event(TOKEN, HEAD, "Ping")
    stored.kind, stored.args = first["kind"], {"caller": POOL, "count": "7"}
    stored.topics = [keccak(b"Ping(address,uint256)"), bytes(12) + bytes.fromhex(POOL[2:])]
    stored.data = (7).to_bytes(32)
    async with sessions.begin() as session:
        session.add(stored)
    found = await alice.get("/events", chain_id=CHAIN_ID, contract=TOKEN, name="Ping")
    assert found.json()["items"][0]["args"] == {"who": POOL, "count": "7"}
    assert (await alice.get("/events", chain_id=CHAIN_ID, contract=TOKEN, name="Pong")).json()["items"] == []
    theirs = await mallory.get("/events", chain_id=CHAIN_ID, contract=TOKEN)
    assert theirs.json()["items"][0]["args"] == {"caller": POOL, "count": "7"}
    refused = await alice.get("/events", chain_id=CHAIN_ID, contract=TOKEN, argument=f"caller:{POOL}")
    assert (refused.status_code, refused.json()["error"]) == (422, "other_abi")


async def test_events_are_found_by_their_arguments(deployed: None, alice: Session, sessions: SessionFactory) -> None:
    async with sessions.begin() as session:
        for block, args in enumerate(
            [
                {"to": POOL, "value": str(2**200), "fee": 3000, "on": True},
                {"to": VAULT, "value": "5", "fee": 500, "on": False},
                {"to": POOL, "value": "5", "fee": 500, "on": False},
            ]
        ):
            row: ContractEvent = event(TOKEN, block, "Moved")
            row.args = args
            session.add(row)

    async def blocks(*arguments: str) -> list[int]:
        answer = await alice.get("/events", chain_id=CHAIN_ID, contract=TOKEN, argument=list(arguments), order="asc")
        assert answer.status_code == 200, answer.text
        return [e["block_number"] for e in answer.json()["items"]]

    assert await blocks(f"to:{POOL.lower()}") == [0, 2]
    assert await blocks(f"to:{POOL}", "value:5") == [2]
    assert await blocks(f"value:{2**200}") == [0]
    assert await blocks("fee:500") == [1, 2]
    assert await blocks("on:true") == [0]
    assert await blocks("nothing:1") == []
    for wrong in ("to", ":x", "a b:1", "to:\u0000", "x:" + "1" * 300):
        answer = await alice.get("/events", chain_id=CHAIN_ID, contract=TOKEN, argument=wrong)
        assert (answer.status_code, answer.json()["error"]) == (422, "invalid_argument"), wrong
    for needing in ({"argument": "fee:500"}, {"name": "Ping"}):
        answer = await alice.get("/events", chain_id=CHAIN_ID, **needing)
        assert (answer.status_code, answer.json()["error"]) == (422, "contract_missing"), needing


async def test_the_same_abi_is_kept_once_whatever_else_it_declares(
    deployed: None, alice: Session, mallory: Session, sessions: SessionFactory
) -> None:
    one = (await alice.post("/contracts", body(abi=[PING, {"type": "function", "name": "f", "inputs": []}]))).json()
    two = (await mallory.post("/contracts", body(abi=[{**PING, "extra": 1}]))).json()
    assert one["kind"] == two["kind"]
    async with sessions() as session:
        assert len(list(await session.scalars(select(ContractAbi)))) == 1
        assert len(list(await session.scalars(select(MonitoredContract)))) == 1
