"""Stored prices: what each market said, and what was agreed on, over time. The commit is the caller's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select, true
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from tradingflow.db.models import PricePoint
from tradingflow.prices.agreement import Quote

# The source under which the agreed price is kept beside those of the markets.
AGREED = "agreed"


async def keep(session: AsyncSession, chain_id: int, token: str, quotes: Sequence[Quote]) -> None:
    """Store quotes; one already stored for its moment stays as it is."""
    if not quotes:
        return
    rows = [
        {
            "chain_id": chain_id,
            "token": token,
            "source": quote.source,
            "taken_at": quote.as_of,
            "price": quote.price,
            "reason": quote.reason,
        }
        for quote in quotes
    ]
    await session.execute(insert(PricePoint).on_conflict_do_nothing(), rows)


async def newest_of_markets(session: AsyncSession, chain_id: int, token: str) -> list[Quote]:
    """The last quote of each market that ever quoted the token, whatever its age.

    None is forgotten: pools would vouch for themselves as soon as the markets had been silent for long enough.
    """
    of_token = (PricePoint.chain_id == chain_id, PricePoint.token == token, PricePoint.source != AGREED)
    # One step along the primary key for each market, instead of a walk over all it ever said.
    first = select(func.min(PricePoint.source).label("source")).where(*of_token).cte(recursive=True)
    following = select(func.min(PricePoint.source)).where(*of_token, PricePoint.source > first.c.source)
    sources = first.union_all(select(following.scalar_subquery()).where(first.c.source.is_not(None)))
    newest = (
        select(PricePoint)
        .where(*of_token, PricePoint.source == sources.c.source)
        .order_by(PricePoint.taken_at.desc())
        .limit(1)
        .lateral()
    )
    point = aliased(PricePoint, newest)
    statement = select(point).select_from(sources.join(newest, true())).order_by(point.source)
    return [
        Quote(point.source, point.source, point.price, point.taken_at, point.reason)
        for point in await session.scalars(statement)
    ]


async def history(
    session: AsyncSession,
    chain_id: int,
    token: str,
    *,
    source: str,
    since: datetime,
    until: datetime,
    step_s: int,
    limit: int,
) -> list[PricePoint]:
    """The last point of each step of `step_s` seconds, oldest first."""
    step = func.floor(func.extract("epoch", PricePoint.taken_at) / step_s)
    statement = (
        select(PricePoint)
        .where(
            PricePoint.chain_id == chain_id,
            PricePoint.token == token,
            PricePoint.source == source,
            PricePoint.taken_at >= since,
            PricePoint.taken_at < until,
        )
        .ext(distinct_on(step))
        .order_by(step, PricePoint.taken_at.desc())
        .limit(limit)
    )
    return list(await session.scalars(statement))
