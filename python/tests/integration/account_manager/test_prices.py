"""Prices from real pools and stored markets, refreshed by the job and read over HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import func, select

from devstack.anvil import CHAIN_ID, Anvil
from devstack.uniswap import LocalMarket
from tests.integration.account_manager.conftest import Session, wallet
from tradingflow.account_manager.parts import Parts
from tradingflow.account_manager.price.refresh import STEP_S, TOKENS_A_TURN, PriceRefresh
from tradingflow.account_manager.retention.repository import delete_some
from tradingflow.core.clock import SimulatedClock
from tradingflow.core.config import ChainSettings
from tradingflow.core.errors import DependencyUnavailable, Refused
from tradingflow.core.evm import address_from_bytes
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import PricePoint, Token
from tradingflow.prices import points
from tradingflow.prices.agreement import Quote


@pytest.fixture
def chain_settings(market_chain: ChainSettings) -> ChainSettings:
    return market_chain


@pytest.fixture
def pool_with_a_past(anvil: Anvil, market: LocalMarket, clock: SimulatedClock) -> str:
    """The base token, once its pool remembers five minutes; our clock goes along."""
    anvil.rpc("evm_increaseTime", 400)
    anvil.rpc("anvil_mine", "0x1")
    clock.advance_to(clock.now() + timedelta(seconds=400))
    return market.base_token


@dataclass
class StandIn:
    """A market that says what it is told to; `prices` None is one that fails, by being away if nothing else is said."""

    clock: SimulatedClock
    prices: Mapping[str, str] | None
    name: str = "coingecko"
    asked: list[Sequence[str]] = field(default_factory=list)
    failure: Exception = field(default_factory=lambda: DependencyUnavailable("market_unavailable", "away"))

    async def quotes(self, tokens: Sequence[str]) -> dict[str, Quote]:
        self.asked.append(tokens)
        if self.prices is None:
            raise self.failure
        return {t: Quote(self.name, self.name, Decimal(p), self.clock.now()) for t, p in self.prices.items()}


def refresh(parts: Parts, sessions: SessionFactory, clock: SimulatedClock, *markets: StandIn) -> PriceRefresh:
    return PriceRefresh(parts.prices, {CHAIN_ID: markets}, sessions, clock)


async def test_pools_and_a_market_make_one_price_that_says_its_sources_and_their_age(
    alice: Session, parts: Parts, sessions: SessionFactory, clock: SimulatedClock, pool_with_a_past: str
) -> None:
    token = pool_with_a_past
    assert await refresh(parts, sessions, clock, StandIn(clock, {token: "2010"})).run(CHAIN_ID) == 2
    clock.advance_to(clock.now() + timedelta(seconds=7))
    body = (await alice.get(f"/price/{CHAIN_ID}/{token}")).json()
    assert [s["source"] for s in body["sources"]] == ["pool_spot", "pool_mean", "coingecko"]
    assert Decimal(2003) < Decimal(body["price"]) < Decimal(2004)
    assert body["sources"][2]["age_s"] == 7
    assert body["age_s"] >= 7


async def test_an_answer_nobody_thought_of_leaves_the_other_markets_to_speak(
    alice: Session, parts: Parts, sessions: SessionFactory, clock: SimulatedClock, pool_with_a_past: str
) -> None:
    odd = StandIn(clock, None, "odd", failure=ValueError("year 57971 is out of range"))
    good = StandIn(clock, {pool_with_a_past: "2010"})
    assert await refresh(parts, sessions, clock, odd, good).run(CHAIN_ID) == 2
    body = (await alice.get(f"/price/{CHAIN_ID}/{pool_with_a_past}")).json()
    assert [s["source"] for s in body["sources"]] == ["pool_spot", "pool_mean", "coingecko"]


async def test_a_market_two_percent_off_the_pools_ends_the_price_and_any_trade(
    alice: Session, parts: Parts, sessions: SessionFactory, clock: SimulatedClock, pool_with_a_past: str
) -> None:
    token = pool_with_a_past
    assert Decimal(1990) < await parts.prices.require(CHAIN_ID, token) < Decimal(2010)
    await refresh(parts, sessions, clock, StandIn(clock, {token: "2045"})).run(CHAIN_ID)
    body = (await alice.get(f"/price/{CHAIN_ID}/{token}")).json()
    assert (body["price"], body["reason"]) == (None, "sources_differ")
    assert "coingecko 2045" in body["detail"]
    with pytest.raises(Refused, match="price_sources_differ"):
        await parts.prices.require(CHAIN_ID, token)


async def test_a_market_that_went_silent_is_stale_and_ends_any_trade(
    alice: Session,
    parts: Parts,
    sessions: SessionFactory,
    clock: SimulatedClock,
    anvil: Anvil,
    pool_with_a_past: str,
) -> None:
    token = pool_with_a_past
    await refresh(parts, sessions, clock, StandIn(clock, {token: "2000"})).run(CHAIN_ID)
    clock.advance_to(clock.now() + timedelta(seconds=130))
    anvil.rpc("evm_increaseTime", 130)
    anvil.rpc("anvil_mine", "0x1")
    await refresh(parts, sessions, clock, StandIn(clock, None)).run(CHAIN_ID)
    with pytest.raises(Refused, match="price_stale"):
        await parts.prices.require(CHAIN_ID, token)
    patient = (await alice.get(f"/price/{CHAIN_ID}/{token}", max_age=300)).json()
    assert patient["reason"] is None


async def test_pools_never_vouch_for_themselves_again_however_long_the_markets_are_silent(
    parts: Parts, sessions: SessionFactory, clock: SimulatedClock, pool_with_a_past: str
) -> None:
    token = pool_with_a_past
    for name, age in (("coingecko", timedelta(days=400)), ("geckoterminal", timedelta(days=2))):
        said = [Quote(name, name, Decimal(2000 + days), clock.now() - age - timedelta(days=days)) for days in (0, 1)]
        async with sessions.begin() as session:
            await points.keep(session, CHAIN_ID, token, said)
    async with sessions() as session:
        newest = await points.newest_of_markets(session, CHAIN_ID, token)
    assert {quote.source: quote.price for quote in newest} == dict.fromkeys(
        ("coingecko", "geckoterminal"), Decimal(2000)
    )
    with pytest.raises(Refused, match="price_stale"):
        await parts.prices.require(CHAIN_ID, token)


async def test_what_users_register_takes_turns_behind_the_named_tokens(
    parts: Parts, sessions: SessionFactory, clock: SimulatedClock, market: LocalMarket
) -> None:
    registered = [address_from_bytes(n.to_bytes(20)) for n in range(1, 2 * TOKENS_A_TURN + 2)]
    async with sessions.begin() as session:
        session.add_all(Token(chain_id=CHAIN_ID, address=address) for address in [*registered, market.base_token])
    asked = StandIn(clock, {})
    job = refresh(parts, sessions, clock, asked)
    for _ in range(4):
        await job.run(CHAIN_ID)
    named = sorted([market.base_token, market.quote_token])
    assert [sorted(batch) for batch in asked.asked[::2]] == [named] * 4, "each time, by themselves and first"
    turns = asked.asked[1::2]
    assert [len(turn) for turn in turns] == [TOKENS_A_TURN, TOKENS_A_TURN, 1, TOKENS_A_TURN]
    assert sorted(token for turn in turns[:3] for token in turn) == sorted(registered)
    away = StandIn(clock, None)
    await refresh(parts, sessions, clock, away).run(CHAIN_ID)
    assert len(away.asked) == 1, "a market that refuses the named ones is not asked for more"


async def test_the_tokens_with_a_market_of_their_own_are_asked_for_without_being_registered(
    parts: Parts, sessions: SessionFactory, clock: SimulatedClock, market: LocalMarket
) -> None:
    settings = parts.chain(CHAIN_ID).settings
    token = wallet(9).address
    parts.chain(CHAIN_ID).settings = settings.model_copy(update={"exchange_markets": {token: "binance:FOOUSDT"}})
    asked = StandIn(clock, {})
    await refresh(parts, sessions, clock, asked).run(CHAIN_ID)
    assert token in asked.asked[0]


async def test_a_chain_that_stands_still_has_no_fresh_price(
    alice: Session, clock: SimulatedClock, pool_with_a_past: str
) -> None:
    clock.advance_to(clock.now() + timedelta(seconds=90))
    body = (await alice.get(f"/price/{CHAIN_ID}/{pool_with_a_past}")).json()
    assert (body["price"], body["reason"]) == (None, "stale")
    assert [s["reason"] for s in body["sources"]] == ["stale", "stale"]


async def test_the_quote_token_costs_one_of_itself(alice: Session, parts: Parts, market: LocalMarket) -> None:
    assert (await alice.get(f"/price/{CHAIN_ID}/{market.quote_token}")).json()["price"] == "1"
    assert await parts.prices.require(CHAIN_ID, market.quote_token) == Decimal(1)


async def test_a_token_nobody_quotes_has_no_price_and_says_so(alice: Session) -> None:
    body = (await alice.get(f"/price/{CHAIN_ID}/{wallet(9).address}")).json()
    assert (body["price"], body["reason"]) == (None, "too_few_sources")
    assert "pool_spot: no_pool" in body["detail"]


async def test_a_doubled_refresh_stores_nothing_twice_and_history_keeps_what_was_not_known(
    alice: Session, parts: Parts, sessions: SessionFactory, clock: SimulatedClock, pool_with_a_past: str
) -> None:
    token = pool_with_a_past
    clock.advance_to(clock.now() + timedelta(seconds=STEP_S - clock.now().timestamp() % STEP_S))
    good, bad = StandIn(clock, {token: "2000"}), StandIn(clock, {token: "3000"})
    for _ in range(2):
        await refresh(parts, sessions, clock, good).run(CHAIN_ID)
    clock.advance_to(clock.now() + timedelta(seconds=STEP_S))
    await refresh(parts, sessions, clock, bad).run(CHAIN_ID)
    async with sessions() as session:
        kept = select(func.count()).select_from(PricePoint).where(PricePoint.token == token)
        assert await session.scalar(kept.where(PricePoint.source == points.AGREED)) == 2
        assert await session.scalar(kept.where(PricePoint.source == "coingecko")) == 2
    clock.advance_to(clock.now() + timedelta(seconds=1))
    history = (await alice.get(f"/price/{CHAIN_ID}/{token}/history", step_s=1)).json()
    assert [(p["price"] is None, p["reason"]) for p in history] == [(False, None), (True, "sources_differ")]
    market = (await alice.get(f"/price/{CHAIN_ID}/{token}/history", step_s=1, source="coingecko")).json()
    assert [p["price"] for p in market] == ["2000", "3000"]
    nothing = await alice.get(f"/price/{CHAIN_ID}/{token}/history", since="2030-01-01T00:00:00Z")
    assert (nothing.status_code, nothing.json()["error"]) == (422, "invalid_range")


async def test_prices_of_ninety_days_and_the_last_word_of_each_market_are_kept(
    sessions: SessionFactory, clock: SimulatedClock
) -> None:
    now, token = clock.now(), wallet(5).address
    told = {"silent": (400, 300), "coingecko": (91, 89, 0), points.AGREED: (120, 91, 1)}
    async with sessions.begin() as session:
        for source, ages in told.items():
            quotes = [Quote(source, source, Decimal(age + 1), now - timedelta(days=age)) for age in ages]
            await points.keep(session, CHAIN_ID, token, quotes)
    async with sessions.begin() as session:
        assert await delete_some(session, now, 3) == 3
        assert await delete_some(session, now, 3) == 1
    async with sessions() as session:
        kept = {(point.source, (now - point.taken_at).days) for point in await session.scalars(select(PricePoint))}
        assert {quote.source for quote in await points.newest_of_markets(session, CHAIN_ID, token)} == {
            "coingecko",
            "silent",
        }
    assert kept == {("silent", 300), ("coingecko", 89), ("coingecko", 0), (points.AGREED, 1)}
