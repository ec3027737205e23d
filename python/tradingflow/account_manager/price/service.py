"""Prices that at least two sources agree on, now and over time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.parts import Parts
from tradingflow.account_manager.price.schemas import PricePointResponse, PriceResponse, SourcePrice
from tradingflow.core.errors import InvalidInput
from tradingflow.prices import points

MAX_POINTS = 5_000


async def read_price(parts: Parts, chain_id: int, token: str, max_age_s: int) -> PriceResponse:
    """Raises InvalidInput for a chain we do not serve."""
    settings = parts.settings.chain(chain_id)
    agreed = await parts.prices.price(chain_id, token, timedelta(seconds=max_age_s))
    now = parts.clock.now()
    return PriceResponse(
        chain_id=chain_id,
        token=token,
        quote_token=settings.quote_token,
        price=agreed.price,
        reason=agreed.reason,
        detail=agreed.detail,
        as_of=agreed.as_of,
        age_s=None if agreed.as_of is None else _whole_seconds(now - agreed.as_of),
        sources=[
            SourcePrice(
                source=quote.source,
                price=quote.price,
                reason=quote.reason,
                as_of=quote.as_of,
                age_s=_whole_seconds(quote.age(now)),
            )
            for quote in agreed.quotes
        ],
    )


async def read_prices(parts: Parts, chain_id: int, tokens: Sequence[str], max_age_s: int) -> list[PriceResponse]:
    """In the order asked; a token asked for twice is read once."""
    distinct = list(dict.fromkeys(tokens))
    answers = await asyncio.gather(*(read_price(parts, chain_id, token, max_age_s) for token in distinct))
    found = dict(zip(distinct, answers, strict=True))
    return [found[token] for token in tokens]


async def read_history(
    reads: AsyncSession, chain_id: int, token: str, source: str, since: datetime, until: datetime, step_s: int
) -> list[PricePointResponse]:
    """At most MAX_POINTS points. Raises InvalidInput for a range without end."""
    if since >= until:
        raise InvalidInput("invalid_range", "`since` must lie before `until`")
    rows = await points.history(
        reads, chain_id, token, source=source, since=since, until=until, step_s=step_s, limit=MAX_POINTS
    )
    return [PricePointResponse.model_validate(row) for row in rows]


def _whole_seconds(age: timedelta) -> int:
    return max(0, int(age.total_seconds()))
