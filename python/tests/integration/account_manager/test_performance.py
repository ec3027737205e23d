"""Profit and return of a real vault, from events of real blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session as OrmSession
from web3.types import RPCEndpoint

from devstack.anvil import CHAIN_ID
from devstack.uniswap import Deployer, LocalMarket
from tests.integration.account_manager.conftest import Session, wallet
from tradingflow.account_manager.executor_process import ExecutorProcess
from tradingflow.account_manager.parts import Parts
from tradingflow.account_manager.performance import repository
from tradingflow.account_manager.performance.history import VaultEvent
from tradingflow.account_manager.performance.pricing import BlockPricing
from tradingflow.account_manager.performance.report import Look, Report, Reporter
from tradingflow.account_manager.performance.tasks import price
from tradingflow.account_manager.portfolio import valuation
from tradingflow.core.clock import SimulatedClock
from tradingflow.core.config import ChainSettings
from tradingflow.core.errors import DependencyUnavailable
from tradingflow.core.evm import ZERO_ADDRESS
from tradingflow.core.ids import onchain_flow_id
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import (
    BlockPrice,
    ChainCursor,
    ContractEvent,
    Flow,
    MonitoredContract,
    Transaction,
    Vault,
)
from tradingflow.prices.pools import PoolPrices, TokenPrice

ONE = 10**18
USD = 10**6
TRADE_TRANSACTION = "0x" + "ab" * 32


@pytest.fixture
def chain_settings(market_chain: ChainSettings) -> ChainSettings:
    return market_chain


@dataclass
class Life:
    """A vault's life as the Monitor would have stored it: each event in a block of its own on the real chain."""

    alice: Session
    owner: Deployer
    market: LocalMarket
    vault: str
    sessions: SessionFactory
    parts: Parts
    flow: UUID = field(default_factory=uuid4)

    async def event(self, name: str, *, transaction: str = "0x" + "cd" * 32, **args: Any) -> None:
        """Of the owner's doing, unless the arguments name another `user`."""
        await self.owner.web3.provider.make_request(RPCEndpoint("evm_mine"), [])
        block = await self.owner.web3.eth.get_block("latest")
        async with self.sessions.begin() as session:
            session.add(
                ContractEvent(
                    chain_id=CHAIN_ID,
                    block_number=block["number"],
                    log_index=0,
                    block_hash="0x" + bytes(block["hash"]).hex(),
                    transaction_hash=transaction,
                    address=self.vault,
                    kind="vault",
                    name=name,
                    args={"user": self.alice.account.address} | args,
                    topics=[],
                    data=b"",
                    block_time=datetime.fromtimestamp(block["timestamp"], UTC),
                )
            )
            await session.merge(
                ChainCursor(
                    chain_id=CHAIN_ID,
                    next_block=block["number"] + 1_000,
                    next_final_block=0,
                    updated_at=datetime.now(UTC),
                )
            )

    async def hold(self, token: str, amount: int) -> None:
        """What the events say the vault has, it really has."""
        await self.owner.send(self.owner.at("TestToken", token).functions.mint(self.vault, amount))

    async def followed(self, *, past_read_to: int = 5) -> None:
        """From block 5 on, its past since block 1 read up to `past_read_to`."""
        async with self.sessions.begin() as session:
            await session.merge(
                MonitoredContract(
                    chain_id=CHAIN_ID,
                    address=self.vault,
                    kind="vault",
                    from_block=1,
                    live_from=5,
                    history_next=past_read_to,
                )
            )

    async def priced(self) -> int:
        async with self.sessions() as session:
            vault = (await session.scalars(select(Vault))).one()
        return await BlockPricing(self.parts.chains, self.parts.prices, self.parts.tokens, self.sessions).price(vault)

    async def wanted_at(self) -> datetime | None:
        async with self.sessions() as session:
            return await session.scalar(select(Vault.prices_wanted_at))

    async def job_ran(self) -> None:
        """`performance.price` once, the vault's events too far below the head to be news."""
        parts = self.parts
        pricing = BlockPricing(parts.chains, parts.prices, parts.tokens, self.sessions)
        await price(
            cast("ExecutorProcess", SimpleNamespace(chains=parts.chains, sessions=self.sessions, block_pricing=pricing))
        )

    async def trade(self, sold: str, amount_in: int, bought: str, amount_out: int) -> None:
        await self.event(
            "TradeExecuted",
            transaction=TRADE_TRANSACTION,
            flowId=onchain_flow_id(self.flow),
            tokenIn=sold,
            amountIn=str(amount_in),
            tokenOut=bought,
            amountOut=str(amount_out),
        )

    async def performance(self) -> dict[str, Any]:
        answer = await self.alice.get(f"/evm/vaults/{CHAIN_ID}/{self.vault}/performance")
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body


@pytest.fixture
def life(
    alice: Session, owner: Deployer, market: LocalMarket, vault: str, sessions: SessionFactory, parts: Parts
) -> Life:
    return Life(alice, owner, market, vault, sessions, parts)


async def test_a_vaults_trade_is_booked_against_its_cost_and_gas_is_counted_apart(
    life: Life, clock: SimulatedClock
) -> None:
    base, quote = life.market.base_token, life.market.quote_token
    await life.followed()
    await life.event("UserDeposit", token=base, amount=str(10 * ONE))
    await life.trade(base, 4 * ONE, quote, 8_100 * USD)
    await life.event("UserWithdraw", token=quote, amount=str(100 * USD))
    await life.hold(base, 6 * ONE)
    await life.hold(quote, 8_000 * USD)
    async with life.sessions.begin() as session:
        session.add(Flow(id=life.flow, user_id=life.alice.user_id, flow_id="mine", status="running", current_version=1))
        session.add(
            Transaction(
                chain_id=CHAIN_ID,
                signer=life.alice.account.address,
                nonce=0,
                purpose="trade",
                purpose_id="0x01",
                hash=TRADE_TRANSACTION,
                raw=b"",
                gas_limit=1,
                max_fee_per_gas=1,
                max_priority_fee_per_gas=1,
                status="mined",
                gas_used=200_000,
                effective_gas_price=10**9,
            )
        )
    # Two tokens and the native currency at three blocks, the quote token left out.
    assert await life.priced() == 6
    assert await life.priced() == 0
    clock.advance_to(clock.now() + timedelta(seconds=6))
    price = Decimal(next(p for p in await positions(life) if p["token"] == base)["price"])
    found = await life.performance()
    with localcontext(prec=80):
        gained = 8_100 - price * 4
        assert Decimal(found["deposited"]) == price * 10
        assert Decimal(found["realised"]) == Decimal(found["profit"]) == gained
        assert Decimal(found["left"]) == price * 6 + 8_000
    assert found["gas_wei"] == str(200_000 * 10**9)
    assert [(h["token"], h["amount"]) for h in found["holdings"]] == sorted(
        [(base, str(6 * ONE)), (quote, str(8_000 * USD))]
    )
    assert (found["unrealised"], found["withdrawn"]) == ("0", "100")
    assert Decimal(found["time_weighted_return"]) == pytest.approx(gained / (price * 10), abs=Decimal("1e-15"))
    assert found["max_drawdown"] == "0"
    assert (await life.alice.get("/portfolio/performance")).json() == [found]
    flow = found["flows"][0]
    assert (flow["flow_id"], flow["trades"], flow["profit"]) == ("mine", 1, "0")
    # The local market has no pool of the wrapped native currency: what gas was worth cannot be known.
    assert (found["gas"], found["profit_after_gas"]) == (None, None)
    assert found["reasons"] == dict.fromkeys(("gas", "profit_after_gas"), f"no_pool: {ZERO_ADDRESS}")


async def positions(life: Life) -> list[dict[str, Any]]:
    """Values the vault anew; the valuation is stored."""
    answer = await life.alice.get(f"/evm/vaults/{CHAIN_ID}/{life.vault}/portfolio")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["positions"]
    return found


async def test_a_token_that_stops_answering_leaves_the_other_balances_known(life: Life, clock: SimulatedClock) -> None:
    token = wallet(9).address
    await life.event("UserDeposit", token=token, amount="1000")
    await life.hold(life.market.base_token, 2 * ONE)
    for code in ("0x00", "0x"):  # it ends without a word; it has destroyed itself
        await life.owner.web3.provider.make_request(RPCEndpoint("anvil_setCode"), [token, code])
        clock.advance_to(clock.now() + timedelta(seconds=6))
        answer = await life.alice.get("/portfolio")
        assert answer.status_code == 200, answer.text
        held = {p["token"]: p for p in answer.json()["vaults"][0]["positions"]}
        assert held[token]["reason"] == "balance_unreadable"
        assert held[life.market.base_token]["amount"] == "2"


async def test_what_strangers_deposit_changes_neither_value_nor_profit(life: Life, clock: SimulatedClock) -> None:
    base, worthless, stranger = life.market.base_token, wallet(8).address, wallet(9).address
    await life.followed()
    await life.hold(base, 2 * ONE)
    await life.owner.web3.provider.make_request(RPCEndpoint("anvil_setCode"), [worthless, "0x00"])
    await life.event("UserDeposit", token=base, amount=str(2 * ONE))
    await life.event("UserDeposit", token=worthless, amount="1000", user=stranger)
    for _ in range(2):
        await life.priced()
        clock.advance_to(clock.now() + timedelta(seconds=6))
        whole = (await life.alice.get("/portfolio")).json()
        assert worthless not in {p["token"] for p in whole["vaults"][0]["positions"]}
        assert Decimal(whole["totals"][0]["value"]) > 0
        found = await life.performance()
        figures = ("deposited", "left", "realised", "profit", "time_weighted_return", "max_drawdown")
        assert {name: found["reasons"].get(name) for name in figures} == dict.fromkeys(figures)
        assert [h["token"] for h in found["holdings"]] == [base]
        await life.event("UserWithdraw", token=worthless, amount="1000", to=stranger)


async def test_what_strangers_deposit_is_left_in_the_database(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    base, quote = life.market.base_token, life.market.quote_token
    await life.followed()
    await life.event("UserDeposit", token=base, amount=str(ONE))
    await life.trade(base, ONE, quote, 2_000 * USD)
    for _ in range(3):
        await life.event("UserDeposit", token=wallet(8).address, amount="1", user=wallet(9).address)
    events: list[str | None] = []
    read = repository._event

    def counted(*row: Any) -> VaultEvent:
        events.append(row[5])
        return read(*row)

    monkeypatch.setattr(repository, "_event", counted)
    assert (await life.performance())["trades"] == 1
    assert events == ["UserDeposit", "TradeExecuted"]


async def test_no_connection_waits_for_a_report_and_who_asks_meanwhile_is_given_the_same(
    life: Life, holding: set[OrmSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    await life.followed()
    await life.event("UserDeposit", token=life.market.base_token, amount=str(ONE))
    held: list[int] = []
    report = Reporter.report

    def counted(reporter: Reporter, events: Sequence[VaultEvent], looks: Sequence[Look]) -> Report:
        held.append(len(holding))
        return report(reporter, events, looks)

    monkeypatch.setattr(Reporter, "report", counted)
    async with life.sessions() as session:
        vault = (await session.scalars(select(Vault))).one()
    first, *others = await asyncio.gather(*(life.parts.reporter.of_vault(vault) for _ in range(8)))
    assert held == [0]
    assert others == [first] * 7
    await life.performance()
    assert (await life.alice.get("/portfolio/performance")).status_code == 200
    assert held == [0, 0, 0]


async def test_a_strangers_deposit_of_a_token_the_owner_names_counts_from_its_own_block(
    life: Life, clock: SimulatedClock
) -> None:
    base, stranger = life.market.base_token, wallet(9).address
    await life.followed()
    await life.hold(base, 2 * ONE)
    await life.event("UserDeposit", token=base, amount=str(2 * ONE), user=stranger)
    assert await life.priced() == 2
    assert (await life.performance())["holdings"] == []
    await life.event("TokenPolicySet", token=base, allowed=True, perTradeCap="0", perDayCap="0")
    assert await life.priced() == 0
    clock.advance_to(clock.now() + timedelta(seconds=6))
    await positions(life)
    found = await life.performance()
    assert [h["amount"] for h in found["holdings"]] == [str(2 * ONE)]
    assert (found["profit"], found["reasons"].get("deposited")) == ("0", None)


async def test_prices_not_found_yet_are_pending_and_nothing_is_zero(life: Life) -> None:
    await life.followed()
    await life.event("UserDeposit", token=life.market.base_token, amount=str(ONE))
    found = await life.performance()
    assert found["deposited"] is None
    assert found["reasons"]["deposited"] == f"price_pending: {life.market.base_token}"
    assert found["reasons"]["left"] == "not_valued_yet"


async def test_a_block_the_node_has_forgotten_costs_no_newer_block_its_price(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = life.market.base_token
    for _ in range(2):
        await life.event("UserDeposit", token=token, amount=str(ONE))
    async with life.sessions() as session:
        by_age = select(ContractEvent.block_number, ContractEvent.block_hash).order_by(ContractEvent.block_number)
        _, (first_kept, newest) = await session.execute(by_age)
    ask = PoolPrices.price

    async def of_a_pruned_node(self: PoolPrices, token: str, block: int) -> TokenPrice:
        if block < first_kept:
            raise DependencyUnavailable("rpc_unavailable", "missing trie node")
        return await ask(self, token, block)

    monkeypatch.setattr(PoolPrices, "price", of_a_pruned_node)
    with pytest.raises(DependencyUnavailable):
        await life.priced()
    async with life.sessions() as session:
        priced = select(BlockPrice.block_hash).where(BlockPrice.token == token)
        assert list(await session.scalars(priced)) == [newest]


async def test_prices_somebody_waits_for_are_found_by_the_job_each_vault_once(
    life: Life, clock: SimulatedClock
) -> None:
    await life.followed()
    await life.event("UserDeposit", token=life.market.base_token, amount=str(ONE))
    await life.performance()
    first = await life.wanted_at()
    clock.advance_to(clock.now() + timedelta(seconds=6))
    await life.performance()
    assert first is not None
    assert await life.wanted_at() == first
    await life.job_ran()
    assert await life.wanted_at() is None
    assert (await life.performance())["deposited"] is not None
    assert await life.wanted_at() is None


async def test_a_vault_that_holds_less_than_its_events_say_has_no_known_profit(life: Life) -> None:
    await life.followed()
    await life.event("UserDeposit", token=life.market.base_token, amount=str(ONE))
    await life.priced()
    await positions(life)
    found = await life.performance()
    assert found["profit"] is None
    assert found["reasons"]["left"].startswith("balance_short")


async def test_a_token_that_valuations_leave_out_is_not_called_missing(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(valuation, "MAX_TOKENS", 0)
    await life.followed()
    await life.event("UserDeposit", token=wallet(8).address, amount="1")
    await life.priced()
    await positions(life)
    found = await life.performance()
    assert (found["profit"], found["reasons"]["left"]) == (None, "not_valued_yet")


async def test_a_vault_whose_past_is_not_stored_whole_says_so_for_every_number(life: Life) -> None:
    await life.event("UserDeposit", token=life.market.base_token, amount=str(ONE))
    nobody_follows_it = await life.performance()
    await life.followed(past_read_to=4)
    for found in (nobody_follows_it, await life.performance()):
        assert found["profit"] is None
        assert set(found["reasons"]) >= {"profit", "realised", "time_weighted_return", "max_drawdown"}
        assert all(reason.startswith("history_incomplete") for reason in found["reasons"].values())
    await life.followed(past_read_to=5)
    assert (await life.performance())["block_number"] is not None
