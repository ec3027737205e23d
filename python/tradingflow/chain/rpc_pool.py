"""Several nodes of one chain as one: the healthiest answers, the others stand in.

A node must first say that it serves this chain, and again after every failure to reach it. Each failure lowers its
score and keeps it out for a while, twice as long each time; each answer raises the score. Every few seconds all are
asked for their head, and one that is left behind stands back: it would answer, truly and without end, of the past.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from tradingflow.chain.rpc import HEADER, TEXT, Distrusted, RangeTooWide, RpcFailed, RpcNode
from tradingflow.core.logging import get_logger

T = TypeVar("T")
log = get_logger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
# How often the heads of all nodes are compared, how long that may take, and how far behind is still as good.
COMPARE_S = 5.0
COMPARE_TIMEOUT_S = 2.0
BEHIND_BLOCKS = 3
# Weight of the newest outcome in a node's score.
SCORE_WEIGHT = 0.2

OnFailure = Callable[[str, str], None]


class PooledNode:
    """A node and what we think of it. `score` is between 0 (never answers) and 1."""

    def __init__(self, node: RpcNode) -> None:
        self.node = node
        self.score = 1.0
        self.verified = False
        self.head = 0
        self._failures = 0
        self.paused_until_s = 0.0

    def succeeded(self) -> None:
        self.score += SCORE_WEIGHT * (1 - self.score)
        self._failures = 0
        self.paused_until_s = 0.0

    def failed(self) -> None:
        self.score -= SCORE_WEIGHT * self.score
        self.verified = False
        pause_s = min(FIRST_PAUSE_S * 2**self._failures, LONGEST_PAUSE_S)
        self._failures += 1
        self.paused_until_s = time.monotonic() + pause_s


class RpcPool:
    """The nodes of one chain. `on_failure(node name, error code)` hears of every failure."""

    def __init__(self, chain_id: int, nodes: Sequence[RpcNode], on_failure: OnFailure) -> None:
        self.chain_id = chain_id
        self.members = [PooledNode(node) for node in nodes]
        self._on_failure = on_failure
        self._compared_at_s = float("-inf")

    async def close(self) -> None:
        for member in self.members:
            await member.node.close()

    async def run(self, read: Callable[[RpcNode], Awaitable[T]]) -> T:
        """The outcome of `read` with the best node that can do it.

        `read` makes all its requests to the node it is given, so that its answers belong together. Raises
        RangeTooWide as it comes, and RpcFailed when no node can.
        """
        failure = RpcFailed(f"chain {self.chain_id} has no node to ask")
        for member in self._ranked():
            try:
                await self._verify(member)
                outcome = await read(member.node)
            except RangeTooWide:
                raise
            except RpcFailed as error:
                member.failed()
                self._on_failure(member.node.name, error.code)
                failure = error
            else:
                member.succeeded()
                return outcome
        raise failure

    async def compare_heads(self) -> None:
        """Learn which nodes are behind; does nothing with one node, or again too soon."""
        now = time.monotonic()
        if len(self.members) == 1 or now - self._compared_at_s < COMPARE_S:
            return
        self._compared_at_s = now
        await asyncio.gather(*(self._ask_head(member) for member in self.members if member.paused_until_s <= now))

    async def _ask_head(self, member: PooledNode) -> None:
        try:
            async with asyncio.timeout(COMPARE_TIMEOUT_S):
                await self._verify(member)
                header = await member.node.call("eth_getBlockByNumber", ["latest", False], HEADER)
        except (RpcFailed, TimeoutError) as error:
            member.failed()
            self._on_failure(member.node.name, error.code if isinstance(error, RpcFailed) else "rpc_slow")
        else:
            member.head = header.height

    def _ranked(self) -> list[PooledNode]:
        """Best first; nodes that are behind come later, and those that are paused last, for when nobody else can."""
        now = time.monotonic()
        fresh = max(member.head for member in self.members) - BEHIND_BLOCKS
        return sorted(
            self.members, key=lambda member: (member.paused_until_s > now, member.head < fresh, -member.score)
        )

    async def _verify(self, member: PooledNode) -> None:
        if member.verified:
            return
        answered = await member.node.call("eth_chainId", [], TEXT)
        if answered != hex(self.chain_id):
            log.error("RPC node serves another chain", node=member.node.name, expected=self.chain_id, got=answered)
            raise Distrusted(f"{member.node.name} serves chain {answered}, not {self.chain_id}")
        member.verified = True
