"""The parent-hash chain against a plain model of it."""

from hypothesis import given
from hypothesis import strategies as st

from tradingflow.monitor.reorg import BlockLink, Lineage, is_linked

DEPTH = 5


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 10))
def test_the_ancestor_is_the_last_block_both_chains_hold(length: int, fork: int, new_blocks: int) -> None:
    ours = {number: f"a{number}" for number in range(length)}
    theirs = {number: ours[number] for number in range(min(fork, length))}
    theirs |= {number: f"b{number}" for number in range(len(theirs), len(theirs) + new_blocks)}
    lineage = Lineage(DEPTH, ours.items())
    kept = range(max(0, length - 1 - DEPTH), length)
    shared = [number for number in kept if theirs.get(number) == ours[number]]
    assert lineage.common_ancestor(theirs) == (max(shared) if shared else None)


@given(st.integers(1, 40), st.integers(0, 40))
def test_a_rollback_forgets_what_is_above_and_keeps_the_rest(length: int, ancestor: int) -> None:
    lineage = Lineage(DEPTH, [(number, f"a{number}") for number in range(length)])
    before = lineage.numbers_from_tip()
    lineage.rollback(ancestor)
    assert lineage.numbers_from_tip() == [number for number in before if number <= ancestor]


def test_a_block_is_accepted_only_on_the_tip() -> None:
    lineage = Lineage(DEPTH, [(1, "a"), (2, "b")])
    assert lineage.accepts(BlockLink(3, "c", "b"))
    assert not lineage.accepts(BlockLink(3, "c", "x"))
    assert not lineage.accepts(BlockLink(4, "d", "b"))
    assert Lineage(DEPTH).accepts(BlockLink(9, "z", "y"))


def test_links_are_a_chain_by_number_and_hash() -> None:
    chain = [BlockLink(1, "a", "0"), BlockLink(2, "b", "a"), BlockLink(3, "c", "b")]
    assert is_linked(chain)
    assert not is_linked([chain[0], chain[2]])
    assert not is_linked([chain[0], BlockLink(2, "b", "x")])
