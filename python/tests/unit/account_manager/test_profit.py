"""Profit by first in, first out, and the returns made with it."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradingflow.account_manager.performance.figure import Figure, total
from tradingflow.account_manager.performance.profit import COST_QUANTUM, Books, Movement, Part, Profit, portion, profit
from tradingflow.account_manager.performance.returns import Point, returns

UNKNOWN = Figure.unknown("no_pool: X")


def worth(text: str | int) -> Figure:
    return Figure(Decimal(text))


def deposit(token: str, amount: int, value: Figure) -> Movement:
    return Movement(None, Part(token, amount), value)


def withdrawal(token: str, amount: int, value: Figure) -> Movement:
    return Movement(Part(token, amount), None, value)


def trade(sold: str, amount_in: int, bought: str, amount_out: int, value: Figure) -> Movement:
    return Movement(Part(sold, amount_in), Part(bought, amount_out), value)


def holdings(found: Profit) -> list[tuple[str, int, Figure]]:
    return [(holding.token, holding.amount, holding.cost) for holding in found.holdings]


def test_the_oldest_lots_are_sold_first() -> None:
    # Two lots of 10 for 100 and 200; 15 are sold for 300: cost 100 + 100, gain 100; the last 5 still cost 100.
    found = profit([deposit("A", 10, worth(100)), deposit("A", 10, worth(200)), trade("A", 15, "Q", 300, worth(300))])
    assert found.realised == worth(100)
    assert holdings(found) == [("A", 5, worth(100)), ("Q", 300, worth(300))]
    assert (found.deposited, found.withdrawn) == (worth(300), worth(0))


def test_a_withdrawal_realises_what_was_gained_until_then() -> None:
    found = profit([deposit("A", 10, worth(100)), withdrawal("A", 10, worth(90))])
    assert (found.realised, found.withdrawn, found.holdings) == (worth(-10), worth(90), ())


def test_a_price_nobody_knew_makes_the_profit_unknown_not_zero() -> None:
    found = profit([deposit("A", 10, UNKNOWN), trade("A", 10, "Q", 5, worth(5))])
    assert (found.realised.value, found.realised.reason) == (None, "no_pool: X")
    assert found.deposited.value is None
    known = profit([deposit("A", 10, UNKNOWN), deposit("B", 1, worth(1)), trade("B", 1, "Q", 5, worth(5))])
    assert known.realised == worth(4)


def test_what_left_without_having_come_has_no_known_cost() -> None:
    found = profit([deposit("A", 10, worth(10)), trade("A", 11, "Q", 12, worth(12))])
    assert found.realised.value is None
    assert found.realised.reason is not None
    assert found.realised.reason.startswith("cost_unknown: A")


def test_a_flow_that_sells_what_its_vault_held_before_starts_at_that_moments_worth() -> None:
    there_and_back = [trade("A", 10, "Q", 2000, worth(2000)), trade("Q", 1900, "A", 10, worth(1900))]
    found = profit(there_and_back, opens_at_worth=True)
    assert found.realised == worth(0)
    assert holdings(found) == [("A", 10, worth(1900)), ("Q", 100, worth(100))]


TOKENS = ("A", "B", "Q")
amounts = st.integers(min_value=1, max_value=10**24)
values = st.decimals(min_value=0, max_value=10**12, places=18, allow_nan=False, allow_infinity=False).map(Figure)
movements = st.lists(
    st.one_of(
        st.builds(deposit, st.sampled_from(TOKENS), amounts, values),
        st.builds(withdrawal, st.sampled_from(TOKENS), amounts, values),
        st.builds(trade, st.sampled_from(TOKENS), amounts, st.sampled_from(TOKENS), amounts, values),
    ),
    max_size=40,
)


@given(movements)
def test_the_books_balance_to_the_last_digit(history: list[Movement]) -> None:
    found = profit(history, opens_at_worth=True)
    left = total(holding.cost for holding in found.holdings)
    assert found.realised == total((found.withdrawn, left, found.deposited.negated()))


@given(movements)
def test_amounts_left_are_what_came_less_what_went(history: list[Movement]) -> None:
    books = Books(opens_at_worth=True)
    expected: dict[str, int] = defaultdict(int)
    for movement in history:
        books.enter(movement)
        if movement.gone is not None:
            expected[movement.gone.token] = max(0, expected[movement.gone.token] - movement.gone.amount)
        if movement.come is not None:
            expected[movement.come.token] += movement.come.amount
    assert {token: books.amount(token) for token in TOKENS} == {token: expected[token] for token in TOKENS}


@given(values, st.lists(amounts, min_size=2, max_size=8))
def test_a_lot_sold_in_parts_costs_what_it_cost_whole(cost: Figure, parts: list[int]) -> None:
    history = [deposit("A", sum(parts), cost), *(withdrawal("A", part, worth(0)) for part in parts)]
    assert profit(history).realised == cost.negated()


@given(values, amounts, amounts)
def test_a_share_is_never_more_than_exact_and_less_by_no_more_than_a_quantum(cost: Figure, a: int, b: int) -> None:
    part, whole = min(a, b), max(a, b)
    exact = Fraction(cost.value or 0) * part / whole
    share = Fraction(portion(cost, part, whole).value or 0)
    assert 0 <= exact - share < Fraction(COST_QUANTUM)


def look(value: str | int, paid_in: str | int = 0) -> Point:
    return Point(worth(value), worth(paid_in))


def test_returns_are_chained_between_flows() -> None:
    # +10 % on 100, then 50 more, then -10 % on 160: 1.1 x 0.9 - 1.
    found = returns([look(0, 100), look(110, 50), look(144)])
    assert found.time_weighted == worth("-0.01")
    assert found.max_drawdown == worth("0.1")


def test_a_flow_without_a_known_value_leaves_the_return_unknown() -> None:
    found = returns([look(0, 100), Point(UNKNOWN, worth(1)), look(100)])
    assert (found.time_weighted.value, found.max_drawdown.reason) == (None, "no_pool: X")


def test_nothing_is_earned_while_nothing_is_there() -> None:
    assert returns([]).time_weighted == worth(0)
    assert returns([look(0, 100), look(110, -110), look(0, 50), look(55)]).time_weighted == worth("0.21")


def test_a_total_loss_is_minus_one_hundred_percent() -> None:
    found = returns([look(0, 100), look(0), look(0, 100), look(200)])
    assert (found.time_weighted, found.max_drawdown) == (worth(-1), worth(1))


def test_a_growth_beyond_all_prices_is_told_as_such() -> None:
    steps = [Point(worth(10**60), worth(-(10**60) + 1)) for _ in range(3)]
    found = returns([look(0, 1), *steps]).time_weighted
    assert (found.value, found.reason) == (None, "out_of_range: prices this far apart are no prices")


money = st.integers(min_value=1, max_value=10**9)


@given(st.lists(st.tuples(money, money), min_size=2, max_size=20))
def test_what_is_paid_in_does_not_change_the_return(steps: list[tuple[int, int]]) -> None:
    """Each step multiplies what is there by a/b; whatever is paid in on the way, the return is their product."""
    points, there, growth = [look(0, 1000)], Fraction(1000), Fraction(1)
    for a, b in steps:
        factor = Fraction(a, b).limit_denominator(1000) or Fraction(1)
        there, growth = there * factor, growth * factor
        value = Decimal(there.numerator) / Decimal(there.denominator)
        points.append(Point(Figure(value), worth(a)))
        there = Fraction(value) + a
    found = returns(points).time_weighted.value
    assert found is not None
    assert float(found) == pytest.approx(float(growth - 1), rel=1e-9, abs=1e-9)


@given(st.lists(money, min_size=1, max_size=30))
def test_a_drawdown_lies_between_nothing_and_everything(values_: list[int]) -> None:
    found = returns([look(0, values_[0]), *(look(value) for value in values_)]).max_drawdown.value
    assert found is not None
    assert 0 <= found < 1
    assert (found == 0) == (values_ == sorted(values_))
