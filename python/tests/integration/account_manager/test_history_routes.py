"""Trades and events as their owner, and as a stranger, reads them."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from devstack.anvil import CHAIN_ID
from tests.integration.account_manager.conftest import Session
from tradingflow.account_manager.pagination import Page
from tradingflow.account_manager.portfolio.schemas import PortfolioResponse, Position
from tradingflow.account_manager.trade import history
from tradingflow.account_manager.trade.schemas import TradeResponse
from tradingflow.account_manager.user.schemas import UserResponse
from tradingflow.core.clock import SimulatedClock
from tradingflow.core.evm import address_from_bytes
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import ContractEvent, Flow, FlowVersion, Token, Trade, Vault, VaultValuation

VAULT = address_from_bytes(b"\x11" * 20)
POOL = address_from_bytes(b"\x22" * 20)
BASE = address_from_bytes(b"\x33" * 20)
QUOTE = address_from_bytes(b"\x44" * 20)
START = datetime(2026, 1, 1, tzinfo=UTC)


def trade(user_id: UUID, flow_pk: UUID, number: int, **changes: Any) -> Trade:
    values: dict[str, Any] = {
        "id": "0x" + number.to_bytes(32).hex(),
        "user_id": user_id,
        "flow_pk": flow_pk,
        "version": 1,
        "cycle": number,
        "node_id": "swap",
        "chain_id": CHAIN_ID,
        "vault_address": VAULT,
        "router": POOL,
        "path": b"",
        "token_in": BASE,
        "token_out": QUOTE,
        "amount_in": 2 * 10**18,
        "slippage_bps": 50,
        "status": "completed",
        "amount_out": 5_000_000_001,
        "created_at": START + timedelta(minutes=number // 2),
        **changes,
    }
    return Trade(**values)


def event(address: str, block: int, name: str) -> ContractEvent:
    return ContractEvent(
        chain_id=CHAIN_ID,
        block_number=block,
        log_index=0,
        block_hash="0x" + block.to_bytes(32).hex(),
        transaction_hash="0x" + "ab" * 32,
        address=address,
        kind="Vault",
        name=name,
        args={"amount": str(2**200)},
        topics=[b"\1" * 32],
        data=b"\2",
        block_time=START,
    )


@pytest.fixture
async def flow(alice: Session, sessions: SessionFactory) -> UUID:
    """Alice's flow `mine`, her vault with events, and one pool that nobody owns."""
    pk = uuid4()
    async with sessions.begin() as session:
        session.add(
            Flow(id=pk, user_id=alice.user_id, flow_id="mine", status="running", mode="live", current_version=1)
        )
        await session.flush()
        session.add(FlowVersion(flow_pk=pk, version=1, graph={}))
        session.add(
            Vault(
                user_id=alice.user_id,
                chain_id=CHAIN_ID,
                address=VAULT,
                owner_address=alice.account.address,
                factory=POOL,
                created_block=1,
            )
        )
        session.add_all(event(VAULT if n % 2 else POOL, n, "UserDeposit" if n % 2 else "Swap") for n in range(1, 21))
    return pk


async def test_trades_come_newest_first_in_pages_without_gap_or_repeat(
    alice: Session, flow: UUID, sessions: SessionFactory
) -> None:
    async with sessions.begin() as session:
        session.add_all(trade(alice.user_id, flow, n) for n in range(25))
    seen: list[int] = []
    cursor: str | None = None
    while True:
        page = (await alice.get("/trades", limit=7, **({"cursor": cursor} if cursor else {}))).json()
        seen += [t["cycle"] for t in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == list(range(24, -1, -1))


async def test_a_trades_price_is_exact_when_both_decimals_are_known_and_null_otherwise(
    alice: Session, flow: UUID, sessions: SessionFactory
) -> None:
    async with sessions.begin() as session:
        session.add(trade(alice.user_id, flow, 1))
        session.add(Token(chain_id=CHAIN_ID, address=BASE, symbol="BASE", name=None, decimals=18))
    assert (await alice.get("/trades")).json()["items"][0]["price"] is None
    async with sessions.begin() as session:
        session.add(Token(chain_id=CHAIN_ID, address=QUOTE, symbol="USD", name=None, decimals=6))
    item = (await alice.get("/trades")).json()["items"][0]
    assert (item["price"], item["token_out_symbol"]) == ("2500.0000005", "USD")


async def test_trades_are_filtered_by_flow_vault_and_status(
    alice: Session, flow: UUID, sessions: SessionFactory
) -> None:
    async with sessions.begin() as session:
        session.add(trade(alice.user_id, flow, 1))
        session.add(trade(alice.user_id, flow, 2, status="failed", amount_out=None, failure_code="paused"))
    assert [t["cycle"] for t in (await alice.get("/trades", status="failed")).json()["items"]] == [2]
    assert len((await alice.get("/trades", flow_id="mine", vault=VAULT)).json()["items"]) == 2
    assert (await alice.get("/trades", flow_id="other")).json()["items"] == []


async def test_a_stranger_sees_no_trade_of_others(
    alice: Session, mallory: Session, flow: UUID, sessions: SessionFactory
) -> None:
    async with sessions.begin() as session:
        session.add(trade(alice.user_id, flow, 1))
    path = "/trades/0x" + (1).to_bytes(32).hex()
    assert (await alice.get(path)).status_code == 200
    assert (await mallory.get(path)).status_code == 404
    assert (await mallory.get("/trades", flow_id="mine")).json()["items"] == []


async def test_events_are_paged_in_both_orders_and_bounded_by_block(alice: Session, flow: UUID) -> None:
    for order, expected in (("asc", list(range(3, 19))), ("desc", list(range(18, 2, -1)))):
        blocks: list[int] = []
        params: dict[str, Any] = {"chain_id": CHAIN_ID, "from_block": 3, "to_block": 18, "order": order, "limit": 5}
        while True:
            page = (await alice.get("/events", **params)).json()
            blocks += [e["block_number"] for e in page["items"]]
            if page["next_cursor"] is None:
                break
            params["cursor"] = page["next_cursor"]
        assert blocks == expected


async def test_a_strangers_events_leave_out_foreign_vaults(alice: Session, mallory: Session, flow: UUID) -> None:
    mine = (await alice.get("/events", chain_id=CHAIN_ID)).json()["items"]
    theirs = (await mallory.get("/events", chain_id=CHAIN_ID)).json()["items"]
    assert {e["address"] for e in mine} == {VAULT, POOL}
    assert {e["address"] for e in theirs} == {POOL}
    assert (await mallory.get("/events", chain_id=CHAIN_ID, contract=VAULT)).status_code == 404
    assert (await alice.get("/events", chain_id=CHAIN_ID, contract=VAULT, name="UserDeposit")).status_code == 200


async def test_operations_of_a_vault_come_newest_first(alice: Session, flow: UUID) -> None:
    page = (await alice.get(f"/evm/vaults/{CHAIN_ID}/{VAULT}/operations", limit=3)).json()
    assert [o["block_number"] for o in page["items"]] == [19, 17, 15]
    assert page["items"][0]["args"]["amount"] == str(2**200)


@pytest.mark.parametrize("cursor", ["x", "e30", "bnVsbA", "W10"])
async def test_a_cursor_that_no_page_handed_out_is_a_422(alice: Session, cursor: str) -> None:
    for path in ("/trades", f"/events?chain_id={CHAIN_ID}"):
        answer = await alice.http.get(path, params={"cursor": cursor, "chain_id": CHAIN_ID}, headers=alice.headers)
        assert (answer.status_code, answer.json()["error"]) == (422, "invalid_cursor")


async def test_trades_are_exported_as_csv_without_formulas(
    alice: Session, flow: UUID, sessions: SessionFactory
) -> None:
    async with sessions.begin() as session:
        session.add_all(trade(alice.user_id, flow, n, node_id="=HYPERLINK(1)") for n in range(700))
    answer = await alice.get("/trades/export", status="completed")
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [int(row["cycle"]) for row in rows] == list(range(699, -1, -1))
    assert rows[0]["node_id"] == "'=HYPERLINK(1)"
    assert rows[0]["amount_in"] == str(2 * 10**18)


async def test_a_copy_of_the_account_holds_every_trade(
    alice: Session, mallory: Session, flow: UUID, sessions: SessionFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "ROWS_A_READ", 3)
    async with sessions.begin() as session:
        session.add_all(trade(alice.user_id, flow, n) for n in range(7))
    listed = (await alice.get("/trades")).json()["items"]
    assert len(listed) == 7
    assert (await alice.get("/users/me/export")).json()["trades"] == listed
    assert (await mallory.get("/users/me/export")).json()["trades"] == []


async def test_tokens_are_found_by_symbol_name_and_address(alice: Session, sessions: SessionFactory) -> None:
    async with sessions.begin() as session:
        session.add(Token(chain_id=CHAIN_ID, address=BASE, symbol="WETH", name="Wrapped Ether", decimals=18))
        session.add(Token(chain_id=CHAIN_ID, address=QUOTE, symbol="WETHX", name="100%", decimals=6))
    for text, expected in (("weth", [BASE, QUOTE]), ("wrapped", [BASE]), (BASE, [BASE]), ("%", []), ("100%", [QUOTE])):
        found = (await alice.get("/token/search", q=text)).json()
        assert [t["address"] for t in found] == expected, text


def as_the_model_writes_it(model: Any, text_: str) -> Any:
    """What the model would have sent for the same content; it refuses what it does not know."""
    return json.loads(model.model_validate_json(text_, extra="forbid").model_dump_json())


async def test_every_hot_answer_is_what_its_model_would_have_sent(
    alice: Session,
    flow: UUID,
    sessions: SessionFactory,
    clock: SimulatedClock,
) -> None:
    position = Position(
        token=BASE,
        symbol="BASE",
        decimals=18,
        balance=2 * 10**18,
        amount=Decimal(2),
        price=Decimal("1e-7"),
        value=None,
        reason="x",
    )
    async with sessions.begin() as session:
        session.add(Token(chain_id=CHAIN_ID, address=BASE, symbol="BASE", name=None, decimals=18))
        session.add(Token(chain_id=CHAIN_ID, address=QUOTE, symbol="USD", name=None, decimals=6))
        odd = {"amount_in": 10**30, "amount_out": 1, "settled_at": clock.now(), "transaction_hash": "0x" + "ab" * 32}
        failed = {"status": "failed", "amount_out": None, "failure_code": "x", "failure_detail": 'quote " and \u2028'}
        session.add_all([trade(alice.user_id, flow, 1, **odd), trade(alice.user_id, flow, 2, **failed)])
        vault = (await session.scalars(select(Vault))).one()
        session.add(
            VaultValuation(
                vault_id=vault.id,
                taken_at=clock.now() + timedelta(microseconds=1),
                block_number=7,
                quote_token=QUOTE,
                quote_symbol="USD",
                positions=[position.model_dump(mode="json")],
                value=None,
                reason="x: y",
            )
        )
    models: dict[str, Any] = {
        "/users/me": UserResponse,
        "/portfolio": PortfolioResponse,
        "/trades": Page[TradeResponse],
    }
    for path, model in models.items():
        answer = await alice.get(path)
        assert answer.status_code == 200, answer.text
        assert answer.json() == as_the_model_writes_it(model, answer.text), path
    assert (await alice.get("/trades")).json()["items"][1]["price"] == "0.000000000000000001"
    assert (await alice.get("/portfolio")).json()["vaults"][0]["positions"][0]["price"] == "0.0000001"
