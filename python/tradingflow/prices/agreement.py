"""When several sources make one price. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal, localcontext

from tradingflow.core.money import PRECISION

MIN_SOURCES = 2
# Sources further apart than this: one of them is wrong, or the market is being moved.
MAX_SPREAD = Decimal("0.02")


@dataclass(frozen=True)
class Quote:
    """What one source says a whole token costs in whole quote tokens, as of when.

    `origin` is where the source has it from: two sources of one origin err together. `price` is None where the source
    does not know, and `reason` says why.
    """

    source: str
    origin: str
    price: Decimal | None
    as_of: datetime
    reason: str | None = None

    def age(self, now: datetime) -> timedelta:
        """Never negative: a block may be stamped a little ahead of our clock."""
        return max(now - self.as_of, timedelta(0))


@dataclass(frozen=True)
class AgreedPrice:
    """The price the `quotes` agree on, as old as the oldest that counted; or None, with `reason` and `detail`.

    Reasons: `too_few_sources`, `stale`, `sources_differ`, `no_quote_token`.
    """

    price: Decimal | None
    as_of: datetime | None
    quotes: tuple[Quote, ...]
    reason: str | None = None
    detail: str | None = None


def agree(quotes: Collection[Quote], now: datetime, max_age: timedelta) -> AgreedPrice:
    """The mean of the prices no older than `max_age`, provided that no two are further apart than MAX_SPREAD.

    At least MIN_SOURCES must know a price, and they must be of two origins where the token is quoted by two.
    """
    judged = tuple(_judged(quote, now, max_age) for quote in quotes)
    known = [quote for quote in judged if quote.price is not None]
    if (shortage := _shortage(judged, known)) is not None:
        reason = "stale" if any(quote.reason == "stale" for quote in judged) else "too_few_sources"
        return AgreedPrice(None, None, judged, reason, shortage)
    prices = [quote.price for quote in known if quote.price is not None]
    low, high = min(prices), max(prices)
    with localcontext() as context:
        context.prec = PRECISION
        if low <= 0 or high - low > MAX_SPREAD * low:
            detail = f"sources are more than {MAX_SPREAD:%} apart: {_spoken(known)}"
            return AgreedPrice(None, None, judged, "sources_differ", detail)
        mean = sum(prices, Decimal(0)) / len(prices)
    return AgreedPrice(mean, min(quote.as_of for quote in known), judged)


def _judged(quote: Quote, now: datetime, max_age: timedelta) -> Quote:
    """The quote itself, or without its price where that is too old."""
    if quote.price is None or quote.age(now) <= max_age:
        return quote
    return replace(quote, price=None, reason="stale")


def _shortage(judged: Collection[Quote], known: Collection[Quote]) -> str | None:
    """What is missing, in words; None when there is enough."""
    missing = ", ".join(f"{quote.source}: {quote.reason}" for quote in judged if quote.price is None) or "none asked"
    if len(known) < MIN_SOURCES:
        return f"{len(known)} of the {MIN_SOURCES} sources needed know a price ({missing})"
    if len({quote.origin for quote in judged}) > 1 and len({quote.origin for quote in known}) == 1:
        return f"only {next(iter(known)).origin} knows a price ({missing})"
    return None


def _spoken(known: Collection[Quote]) -> str:
    return ", ".join(f"{quote.source} {quote.price:f}" for quote in known)
