"""Announcements are cut so that none keeps the relay for long, and none loses a block."""

from hypothesis import given
from hypothesis import strategies as st

from tradingflow.monitor.notify import PIECE_EVENTS, pieces_of

BLOCKS = st.dictionaries(st.integers(0, 10_000), st.integers(1, PIECE_EVENTS * 2), max_size=30)


@given(BLOCKS)
def test_every_block_is_in_exactly_one_piece_and_no_piece_is_large(counts: dict[int, int]) -> None:
    pieces = pieces_of(sorted(counts.items()))
    for first, until in pieces:
        inside = [count for number, count in counts.items() if first <= number < until]
        assert sum(inside) <= PIECE_EVENTS or len(inside) == 1
    for number in counts:
        assert sum(first <= number < until for first, until in pieces) == 1
