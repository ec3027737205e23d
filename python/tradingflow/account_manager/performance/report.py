"""The figures of one vault and of its flows. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tradingflow.account_manager.performance.figure import ZERO, Figure, total
from tradingflow.account_manager.performance.history import Valuer, VaultEvent
from tradingflow.account_manager.performance.profit import Books, Part, Profit
from tradingflow.account_manager.performance.returns import Point, Returns, returns
from tradingflow.core.evm import ZERO_ADDRESS


@dataclass(frozen=True)
class Look:
    """A stored valuation: prices and balances by token at the end of a block; nothing of tokens not looked at."""

    block_number: int
    taken_at: datetime
    prices: Mapping[str, Figure]
    balances: Mapping[str, int]


@dataclass(frozen=True)
class Gas:
    """What the trades' transactions cost whoever sent them: not the vault."""

    wei: int | None
    worth: Figure


@dataclass(frozen=True)
class Result:
    """`profit` is what was withdrawn and what is left, less what was deposited; `realised` the part already taken.

    `unrealised` is what is left less what that had cost.
    """

    books: Profit
    left: Figure
    unrealised: Figure
    profit: Figure
    gas: Gas
    trades: int


@dataclass(frozen=True)
class Report:
    vault: Result
    returns: Returns
    flows: Mapping[str, Result]


@dataclass(frozen=True)
class Reporter:
    """`gas_used` is wei by transaction hash, of the transactions that are ours."""

    valuer: Valuer
    gas_used: Mapping[str, int]

    def report(self, events: Sequence[VaultEvent], looks: Sequence[Look]) -> Report:
        """Both oldest first."""
        newest = looks[-1] if looks else None
        books, points = self._walk(events, looks)
        by_flow: dict[str, list[VaultEvent]] = defaultdict(list)
        for event in events:
            if event.flow is not None:
                by_flow[event.flow].append(event)
        last_block = events[-1].block_number if events else 0
        return Report(
            self._result(books, events, newest, last_block),
            returns(points),
            {flow: self._flow(of_flow, newest) for flow, of_flow in by_flow.items()},
        )

    def _walk(self, events: Sequence[VaultEvent], looks: Sequence[Look]) -> tuple[Books, list[Point]]:
        """Events of a block come before a look at its end. A look at unknown prices tells nothing and is left out."""
        books, points = Books(), []
        remaining = list(reversed(looks))
        for event in events:
            while remaining and remaining[-1].block_number < event.block_number:
                points += self._looked(books, remaining.pop())
            movement = self.valuer.movement(event)
            if not event.is_trade:
                before = self.valuer.worth_of_all(_parts(books), event.block_hash)
                points.append(Point(before, movement.worth if event.gone is None else movement.worth.negated()))
            books.enter(movement)
        for look in reversed(remaining):
            points += self._looked(books, look)
        return books, points

    def _looked(self, books: Books, look: Look) -> list[Point]:
        value = self._worth_now(_parts(books), look)
        return [] if value.value is None else [Point(value, ZERO)]

    def _flow(self, events: Sequence[VaultEvent], newest: Look | None) -> Result:
        books = Books(opens_at_worth=True)
        for event in events:
            books.enter(self.valuer.movement(event))
        return self._result(books, events, newest, None)

    def _result(
        self, books: Books, events: Sequence[VaultEvent], newest: Look | None, last_block: int | None
    ) -> Result:
        booked, parts = books.result(), _parts(books)
        left = self._left(parts, newest, last_block)
        cost = total(holding.cost for holding in booked.holdings)
        profit = total((booked.withdrawn, left, booked.deposited.negated()))
        trades = [event for event in events if event.is_trade]
        return Result(booked, left, left.minus(cost), profit, self._gas(trades), len(trades))

    def _left(self, parts: Sequence[Part], newest: Look | None, last_block: int | None) -> Figure:
        """What is in the books, at the newest prices; unknown when the vault holds less than the books say."""
        if not parts:
            return ZERO
        if newest is None:
            return Figure.unknown("not_valued_yet")
        if last_block is not None and newest.block_number >= last_block:
            short = next((p.token for p in parts if newest.balances.get(p.token, p.amount) < p.amount), None)
            if short is not None:
                return Figure.unknown(f"balance_short: the vault holds less {short} than its events account for")
        return self._worth_now(parts, newest)

    def _worth_now(self, parts: Iterable[Part], look: Look) -> Figure:
        unseen = Figure.unknown("not_valued_yet")
        return total(self.valuer.worth(part, look.prices.get(part.token, unseen)) for part in parts)

    def _gas(self, trades: Sequence[VaultEvent]) -> Gas:
        if any(trade.transaction_hash not in self.gas_used for trade in trades):
            return Gas(None, Figure.unknown("gas_unknown: a trade was sent by somebody else"))
        # Several trades may share a transaction, which is paid once.
        paid = {trade.transaction_hash: trade.block_hash for trade in trades}
        worths = (
            self.valuer.worth_at_block(Part(ZERO_ADDRESS, self.gas_used[transaction]), block_hash)
            for transaction, block_hash in paid.items()
        )
        return Gas(sum(self.gas_used[transaction] for transaction in paid), total(worths))


def _parts(books: Books) -> list[Part]:
    return [Part(token, books.amount(token)) for token in books.tokens()]
