"""`GET /portfolio/history`: the values of one's own vaults over time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select

from devstack.anvil import CHAIN_ID
from tests.integration.account_manager.conftest import Session
from tests.integration.account_manager.test_history_routes import QUOTE, VAULT
from tradingflow.account_manager.portfolio import service
from tradingflow.core.clock import SimulatedClock
from tradingflow.core.evm import address_from_bytes
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import Vault, VaultValuation

START = datetime(2026, 1, 1, tzinfo=UTC)
OTHER = address_from_bytes(b"\x55" * 20)


async def add_vault(sessions: SessionFactory, owner: Session, address: str) -> None:
    made = {"owner_address": owner.account.address, "factory": address, "created_block": 1}
    async with sessions.begin() as session:
        session.add(Vault(user_id=owner.user_id, chain_id=CHAIN_ID, address=address, **made))


async def value(
    sessions: SessionFactory, address: str, at: datetime, worth: str | None, reason: str | None = None
) -> None:
    async with sessions.begin() as session:
        vault = (await session.scalars(select(Vault).where(Vault.address == address))).one()
        told: dict[str, Any] = {"value": None if worth is None else Decimal(worth), "reason": reason}
        tokens = {"quote_token": QUOTE, "quote_symbol": "USD"}
        session.add(VaultValuation(vault_id=vault.id, taken_at=at, block_number=7, positions=[], **tokens, **told))


async def history(session: Session, **query: Any) -> Any:
    answer = await session.get("/portfolio/history", **query)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
async def valued(alice: Session, sessions: SessionFactory) -> Session:
    """Alice's two vaults over two hours; of one the value was not known once."""
    for address in (VAULT, OTHER):
        await add_vault(sessions, alice, address)
    await value(sessions, VAULT, START, "10")
    await value(sessions, VAULT, START + timedelta(minutes=59), "11.000000000000000001")
    await value(sessions, OTHER, START + timedelta(minutes=30), "5")
    await value(sessions, VAULT, START + timedelta(minutes=61), None, "no_pool: nobody trades it")
    return alice


def window(**more: Any) -> dict[str, Any]:
    return {"since": START.isoformat(), "until": (START + timedelta(hours=2)).isoformat(), **more}


async def test_each_step_has_the_last_value_of_each_vault_oldest_first(valued: Session) -> None:
    points = await history(valued, **window())
    told = {(p["vault"], p["as_of"][11:16]): (p["value"], p["reason"]) for p in points}
    assert told == {
        (VAULT, "00:59"): ("11.000000000000000001", None),
        (OTHER, "00:30"): ("5", None),
        (VAULT, "01:01"): (None, "no_pool: nobody trades it"),
    }
    assert points[-1]["as_of"][11:16] == "01:01"
    assert {(p["chain_id"], p["quote_token"], p["block_number"]) for p in points} == {(CHAIN_ID, QUOTE, 7)}


async def test_a_finer_step_shows_every_valuation(valued: Session) -> None:
    points = await history(valued, **window(step_s=60))
    assert [p["as_of"][11:16] for p in points] == ["00:00", "00:30", "00:59", "01:01"]


async def test_the_range_includes_its_start_and_not_its_end(valued: Session) -> None:
    until = (START + timedelta(minutes=59)).isoformat()
    assert [p["value"] for p in await history(valued, since=START.isoformat(), until=until, step_s=60)] == ["10", "5"]
    assert await history(valued, since=until, until=(START + timedelta(minutes=60)).isoformat(), step_s=60) != []


async def test_without_a_range_it_is_the_last_seven_days(
    valued: Session, sessions: SessionFactory, clock: SimulatedClock
) -> None:
    await value(sessions, VAULT, clock.now() - timedelta(days=6, hours=23), "1")
    await value(sessions, VAULT, clock.now() - timedelta(days=7, minutes=1), "2")
    assert [p["value"] for p in await history(valued)] == ["1"]


async def test_a_stranger_sees_nothing_of_it(valued: Session, mallory: Session) -> None:
    assert await history(mallory, **window()) == []


async def test_the_points_are_bounded(valued: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_POINTS", 2)
    assert [p["value"] for p in await history(valued, **window(step_s=60))] == ["10", "5"]


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "invalid_range"),
        ({"since": "2026-01-01T00:00:00"}, "invalid_request"),
        ({"step_s": 0}, "invalid_request"),
        ({"step_s": 2_592_001}, "invalid_request"),
    ],
)
async def test_what_is_no_range_is_refused(alice: Session, query: dict[str, Any], error: str) -> None:
    answer = await alice.get("/portfolio/history", **query)
    assert (answer.status_code, answer.json()["error"]) == (422, error)
