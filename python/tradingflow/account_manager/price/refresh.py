"""Keeping prices: ask the markets, store what they say, and store what all sources agree on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from tradingflow.account_manager.price.markets import TOKENS_A_REQUEST, Market
from tradingflow.account_manager.token import repository as tokens
from tradingflow.core.clock import Clock
from tradingflow.core.errors import TradingFlowError
from tradingflow.core.logging import get_logger
from tradingflow.db.engine import SessionFactory
from tradingflow.prices import points
from tradingflow.prices.agreement import Quote
from tradingflow.prices.book import MAX_TRADE_AGE, PriceBook

log = get_logger(__name__)

# One agreed price a token and so many seconds, however often the job runs.
STEP_S = 30
# Markets are asked about so many registered tokens of a chain at most.
MAX_TOKENS = 500
# So many of them at a time: one request, which the quote token goes along with.
TOKENS_A_TURN = TOKENS_A_REQUEST - 1


class PriceRefresh:
    """`markets` are those of each chain. Doing it again within a step stores nothing twice.

    The tokens named in the settings are asked for by themselves and each time. What users registered takes turns
    behind them: however much that is, it cannot use up a market's quota.
    """

    def __init__(
        self, book: PriceBook, markets: Mapping[int, Sequence[Market]], sessions: SessionFactory, clock: Clock
    ) -> None:
        self._book = book
        self._markets = markets
        self._sessions = sessions
        self._clock = clock
        self._next_turn: dict[int, int] = {}

    async def run(self, chain_id: int) -> int:
        """Refresh one chain; returns how many tokens have an agreed price. Raises DependencyUnavailable."""
        named = await self._book.named_tokens(chain_id)
        quoted = await self._ask_markets(chain_id, named)
        agreed = [await self._agree(chain_id, token) for token in sorted({*quoted, *named})]
        return sum(agreed)

    async def _ask_markets(self, chain_id: int, named: Sequence[str]) -> set[str]:
        """Store what each market that answers says; the tokens any of them quotes."""
        async with self._sessions() as session:
            registered = await tokens.worth_pricing(session, chain_id, MAX_TOKENS)
        batches = named, self._turn(chain_id, [token for token in registered if token not in named])
        answers = await asyncio.gather(*(self._ask(market, batches) for market in self._markets.get(chain_id, ())))
        async with self._sessions() as session, session.begin():
            for answer in answers:
                for token, quote in answer.items():
                    await points.keep(session, chain_id, token, [quote])
        return {token for answer in answers for token in answer}

    def _turn(self, chain_id: int, others: Sequence[str]) -> Sequence[str]:
        """Those whose turn it is; after the last ones, the first again."""
        start = self._next_turn.get(chain_id, 0)
        if start >= len(others):
            start = 0
        self._next_turn[chain_id] = start + TOKENS_A_TURN
        return others[start : start + TOKENS_A_TURN]

    async def _ask(self, market: Market, batches: Iterable[Sequence[str]]) -> dict[str, Quote]:
        """One market that is away leaves the others to speak; its last price ages meanwhile."""
        answered: dict[str, Quote] = {}
        try:
            for batch in batches:
                if batch:
                    answered |= await market.quotes(batch)
        except TradingFlowError as error:
            log.warning("market not asked", market=market.name, code=error.code, detail=error.detail)
        except Exception:  # an answer nobody thought of must not end the prices of all chains
            log.exception("market not asked", market=market.name)
        return answered

    async def _agree(self, chain_id: int, token: str) -> bool:
        agreed = await self._book.price(chain_id, token, MAX_TRADE_AGE)
        step = floor_to_step(self._clock.now())
        quote = Quote(points.AGREED, points.AGREED, agreed.price, step, agreed.reason)
        async with self._sessions() as session, session.begin():
            await points.keep(session, chain_id, token, [quote])
        return agreed.price is not None


def floor_to_step(moment: datetime) -> datetime:
    """The beginning of the moment's step: a second run within it stores the same point, which is none."""
    seconds = int(moment.timestamp())
    return datetime.fromtimestamp(0, UTC) + timedelta(seconds=seconds - seconds % STEP_S)
