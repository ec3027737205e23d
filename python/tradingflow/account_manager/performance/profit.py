"""Profit and loss by first in, first out. Pure and exact.

What is acquired makes a lot with its cost; what leaves is taken from the oldest lots, and its profit is what it was
worth when it left less what those lots had cost (FIFO: IAS 2 paragraph 27; IRS publication 550, "Identifying stock or
bonds sold"). A trade is worth the same on both sides, so its costs (pool fee, slippage) are in the amounts themselves.

The books always balance: realised profit + what is left less its cost = worth of all withdrawals + what is left - worth
of all deposits. A lot that is taken in parts gives each part its share of the cost rounded down to COST_QUANTUM; the
rest stays with the lot, so that nothing is lost by rounding.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal

from tradingflow.account_manager.performance.figure import ZERO, Figure, total
from tradingflow.core.money import EXACT

COST_QUANTUM = Decimal("1e-36")


@dataclass(frozen=True)
class Part:
    """So many base units of a token."""

    token: str
    amount: int


@dataclass(frozen=True)
class Movement:
    """One event: `gone` left, `come` came in, both worth `worth` at that block.

    A deposit has no `gone`, a withdrawal no `come`, a trade both.
    """

    gone: Part | None
    come: Part | None
    worth: Figure


@dataclass
class _Lot:
    amount: int
    cost: Figure

    def take(self, amount: int) -> Figure:
        """The cost of the part taken; the lot keeps the rest."""
        if amount == self.amount:
            self.amount, taken = 0, self.cost
            return taken
        share = portion(self.cost, amount, self.amount)
        self.amount -= amount
        self.cost = self.cost.minus(share)
        return share


@dataclass(frozen=True)
class Holding:
    """What is left of a token, and what it had cost."""

    token: str
    amount: int
    cost: Figure


@dataclass(frozen=True)
class Profit:
    """`deposited` and `withdrawn` are what was worth so much when it came and went; `realised` is what was gained."""

    realised: Figure
    deposited: Figure
    withdrawn: Figure
    holdings: tuple[Holding, ...]


class Books:
    """Lots of every token, fed one movement after the other.

    With `opens_at_worth`, what leaves without having come (a flow sells what its vault held before) counts as taken
    in at that very moment, at no profit; otherwise its cost is unknown, and so is the profit.
    """

    def __init__(self, *, opens_at_worth: bool = False) -> None:
        self._opens_at_worth = opens_at_worth
        self._lots: dict[str, deque[_Lot]] = defaultdict(deque)
        self._amounts: dict[str, int] = defaultdict(int)
        self._realised: list[Figure] = []
        self._deposited: list[Figure] = []
        self._withdrawn: list[Figure] = []

    def enter(self, movement: Movement) -> Figure:
        """The profit the movement realised."""
        realised = ZERO
        if movement.gone is not None:
            realised = movement.worth.minus(self._take(movement.gone, movement.worth))
            self._realised.append(realised)
            if movement.come is None:
                self._withdrawn.append(movement.worth)
        if movement.come is not None:
            if movement.come.amount:
                self._lots[movement.come.token].append(_Lot(movement.come.amount, movement.worth))
                self._amounts[movement.come.token] += movement.come.amount
            if movement.gone is None:
                self._deposited.append(movement.worth)
        return realised

    def amount(self, token: str) -> int:
        """Base units of a token in the books."""
        return self._amounts[token]

    def tokens(self) -> list[str]:
        """Those of which something is left."""
        return [token for token, lots in self._lots.items() if lots]

    def result(self) -> Profit:
        holdings = tuple(
            Holding(token, self.amount(token), total(lot.cost for lot in lots))
            for token, lots in sorted(self._lots.items())
            if lots
        )
        return Profit(total(self._realised), total(self._deposited), total(self._withdrawn), holdings)

    def _take(self, gone: Part, worth: Figure) -> Figure:
        lots, missing, costs = self._lots[gone.token], gone.amount, []
        while missing and lots:
            amount = min(missing, lots[0].amount)
            costs.append(lots[0].take(amount))
            missing -= amount
            self._amounts[gone.token] -= amount
            if not lots[0].amount:
                lots.popleft()
        if missing:
            costs.append(self._cost_of_missing(gone, missing, worth))
        return total(costs)

    def _cost_of_missing(self, gone: Part, missing: int, worth: Figure) -> Figure:
        if not self._opens_at_worth:
            return Figure.unknown(f"cost_unknown: {gone.token} left that no event brought in")
        opened = portion(worth, missing, gone.amount)
        self._deposited.append(opened)
        return opened


def profit(movements: Iterable[Movement], *, opens_at_worth: bool = False) -> Profit:
    """The books of all movements, oldest first."""
    books = Books(opens_at_worth=opens_at_worth)
    for movement in movements:
        books.enter(movement)
    return books.result()


def portion(figure: Figure, part: int, whole: int) -> Figure:
    """`part` of `whole` of a figure, rounded down to COST_QUANTUM; the whole is exact."""
    if figure.value is None or part == whole:
        return figure
    share = EXACT.divide(EXACT.multiply(figure.value, Decimal(part)), Decimal(whole))
    return Figure(share.quantize(COST_QUANTUM, rounding=ROUND_FLOOR, context=EXACT))
