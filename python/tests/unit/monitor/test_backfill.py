"""How wide a range of blocks is asked for."""

import socket
from collections.abc import Sequence

import pytest

from tradingflow.chain.rpc import MAYBE_HEADER, RpcNode, TimedOut
from tradingflow.chain.rpc_pool import RpcPool
from tradingflow.monitor.backfill import LOGS_PER_RANGE, WIDEST_RANGE_BLOCKS, RangeSizer, read_split
from tradingflow.monitor.reader import ChainReader, Span


def asked_at_limit(sizer: RangeSizer, limit: int, rounds: int) -> int:
    """Ask a node of empty blocks that refuses more than `limit` at once; returns how often it refused."""
    refusals = 0
    for _ in range(rounds):
        if sizer.blocks > limit:
            sizer.refused(sizer.blocks)
            refusals += 1
        else:
            sizer.came(sizer.blocks, 0)
    return refusals


def test_a_range_holds_about_as_many_logs_as_an_answer_should() -> None:
    sizer = RangeSizer()
    for _ in range(20):
        sizer.came(sizer.blocks, sizer.blocks * 10)
    assert sizer.blocks == LOGS_PER_RANGE // 10


def test_a_limit_is_learned_and_seldom_tried() -> None:
    sizer = RangeSizer()
    assert asked_at_limit(sizer, limit=1000, rounds=200) < 10
    assert 500 <= sizer.blocks <= 1020


def test_one_refusal_is_not_for_ever() -> None:
    sizer = RangeSizer()
    sizer.refused(20)
    assert sizer.blocks == 10
    asked_at_limit(sizer, limit=WIDEST_RANGE_BLOCKS, rounds=600)
    assert sizer.blocks == WIDEST_RANGE_BLOCKS


class SlowNode(ChainReader):
    """Answers in time for so many blocks."""

    def __init__(self, blocks: int) -> None:
        super().__init__(RpcPool(1, [], lambda *_: None))
        self._blocks = blocks

    async def settled(self, first: int, last: int, addresses: Sequence[str]) -> Span:
        if last - first >= self._blocks:
            raise TimedOut("slow")
        return Span(first, last, {}, [])


async def test_a_node_that_is_slow_is_asked_for_less_until_it_answers() -> None:
    sizer, tries = RangeSizer(), 0
    while tries < 10:
        tries += 1
        try:
            await read_split(SlowNode(8), sizer, 0, sizer.blocks - 1, [])
            break
        except TimedOut:
            continue
    assert (sizer.blocks, tries) == (6, 4)


async def test_silence_is_told_from_other_failures() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # nobody takes what comes in
        node = RpcNode(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.05)
        try:
            with pytest.raises(TimedOut):
                await node.call("eth_getBlockByNumber", ["latest", False], MAYBE_HEADER)
        finally:
            await node.close()
