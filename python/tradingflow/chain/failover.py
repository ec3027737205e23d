"""Several nodes of one chain as one web3 provider.

A read goes to the best node and on to the next where one fails. What decides about money does not rest on one node's
word: a signed transaction is handed to all of them, how many transactions a signer has mined is their vote, and a
receipt is missing only when none of them has it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import aiohttp
from web3 import AsyncHTTPProvider
from web3.exceptions import Web3Exception
from web3.providers import AsyncBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from tradingflow.chain.rpc import node_name
from tradingflow.chain.send_outcome import NODES_OWN_TROUBLE, SendOutcome, meaning_of
from tradingflow.core.logging import get_logger
from tradingflow.core.tasks import end_all

log = get_logger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
# A node that gave no answer this often in a row is asked by one request at a time, seconds apart: what waits for it
# only piles up, and soon holds everything its callers have (connections of a pool, places of a worker).
SILENT_UNTIL_SHUT = 3
PROBE_EVERY_S = 2.0
# How long a vote waits for slow nodes once somebody has answered.
VOTE_WAIT_S = 2.0

CHAIN_ID, SEND = RPCEndpoint("eth_chainId"), RPCEndpoint("eth_sendRawTransaction")
COUNT, RECEIPT = RPCEndpoint("eth_getTransactionCount"), RPCEndpoint("eth_getTransactionReceipt")

# What a request to a node that does not work ends in.
NODE_FAILURES = (aiohttp.ClientError, TimeoutError, OSError, Web3Exception)


class NodeUnusable(Web3Exception):
    """A node answers, and not as one of this chain: another chain's, or a gateway's page."""


class Node:
    """One endpoint and what we think of it."""

    def __init__(self, chain_id: int, url: str, provider: AsyncHTTPProvider) -> None:
        self.name = node_name(url)
        self.provider = provider
        self.paused_until_s = 0.0
        self._chain_id = chain_id
        self._failures = 0
        self._silent = 0
        self._silence_at_s = -math.inf
        self._probe_at_s = 0.0
        self._verified = False

    async def ask(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Raises one of NODE_FAILURES, and thinks less of the node then."""
        self._knock()
        try:
            await self._verify(method)
            response = await self._post(method, params)
        except NODE_FAILURES as error:
            self._count_silence()
            self._failed(type(error).__name__)
            raise
        finally:
            self._probe_at_s = time.monotonic() + PROBE_EVERY_S
        self._silent = 0
        if is_own_trouble(response):
            self._failed("rpc_error")
        else:
            self._failures, self.paused_until_s = 0, 0.0
        return response

    def _knock(self) -> None:
        """Let a request through to the node, or of one that is shut the next probe. Raises NodeUnusable."""
        if self._silent < SILENT_UNTIL_SHUT:
            return
        if time.monotonic() < self._probe_at_s:
            raise NodeUnusable(f"{self.name} gave no answer {self._silent} times in a row")
        self._probe_at_s = math.inf  # one at a time: until this one has ended

    def _count_silence(self) -> None:
        """Requests that fail together, or one heavy question asked by many, are one silence."""
        now = time.monotonic()
        if now - self._silence_at_s >= PROBE_EVERY_S:
            self._silence_at_s = now
            self._silent += 1

    async def _verify(self, method: RPCEndpoint) -> None:
        """Before anything else, and again after each failure: whoever answers there may have changed."""
        if self._verified or method == CHAIN_ID:
            return
        answered = (await self._post(CHAIN_ID, [])).get("result")
        if answered is None:
            raise NodeUnusable(f"{self.name} does not say which chain it serves")
        if answered != hex(self._chain_id):
            log.error("RPC node serves another chain", node=self.name, expected=self._chain_id, got=answered)
            raise NodeUnusable(f"{self.name} serves chain {answered}, not {self._chain_id}")
        self._verified = True

    async def _post(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        try:
            response = await self.provider.make_request(method, params)
        except ValueError as error:
            raise NodeUnusable(f"{self.name} answered no JSON") from error
        if not isinstance(response, dict):
            raise NodeUnusable(f"{self.name} answered no JSON-RPC")
        return response

    def _failed(self, why: str) -> None:
        self._verified = False
        self.paused_until_s = time.monotonic() + min(FIRST_PAUSE_S * 2**self._failures, LONGEST_PAUSE_S)
        self._failures += 1
        log.warning("RPC node failed", node=self.name, error=why, failures=self._failures)


class FailoverProvider(AsyncBaseProvider):
    """The nodes of one chain, best first as configured. Close it with `disconnect`."""

    # A contract that reverts with OffchainLookup (ERC-3668) would have web3 ask whatever URLs it names.
    global_ccip_read_enabled = False

    def __init__(self, chain_id: int, urls: Sequence[str], make: Callable[[str], AsyncHTTPProvider]) -> None:
        super().__init__()
        self._nodes = [Node(chain_id, url, make(url)) for url in urls]
        self._late: set[asyncio.Task[RPCResponse]] = set()

    async def disconnect(self) -> None:
        await end_all(self._late)
        for node in self._nodes:
            await node.provider.disconnect()

    async def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """A node's answer. Raises what the last node failed with when none answers."""
        if len(self._nodes) == 1:
            return await self._nodes[0].ask(method, params)
        if method == SEND:
            return await self._send(params)
        if method == COUNT:
            return await self._vote(method, params)
        return await self._first(method, params)

    async def _first(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """The first usable answer; a receipt that one node does not have is asked of the next."""
        second_best: RPCResponse | None = None
        failure: Exception | None = None
        for node in self._ranked():
            try:
                response = await node.ask(method, params)
            except NODE_FAILURES as error:
                failure = error
                continue
            if not is_own_trouble(response) and not (method == RECEIPT and response.get("result") is None):
                return response
            if second_best is None or is_own_trouble(second_best):
                second_best = response
        return _answer_or_raise(second_best, failure)

    async def _send(self, params: Any) -> RPCResponse:
        """Hand it to every node; taken by one is taken. The others go on in the background."""
        waiting = {self._in_background(node.ask(SEND, params)) for node in self._nodes}
        refusals: list[RPCResponse] = []
        failure: Exception | None = None
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if error := task.exception():
                    failure = _expected(error)
                elif "error" not in task.result():
                    return task.result()
                else:
                    refusals.append(task.result())
        return _answer_or_raise(min(refusals, key=_weight, default=None), failure)

    async def _vote(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """The lower median of the nodes' counts: one that lies, or runs ahead of the others, decides nothing."""
        tasks = {self._in_background(node.ask(method, params)) for node in self._ranked(awake_only=True)}
        done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if waiting:
            done |= (await asyncio.wait(waiting, timeout=VOTE_WAIT_S))[0]
        answers = [task.result() for task in done if not task.exception()]
        counted = sorted((r for r in answers if r.get("result")), key=lambda r: int(str(r["result"]), 16))
        if not counted:
            return await self._first(method, params)
        if len({response["result"] for response in counted}) > 1:
            log.info("RPC nodes count differently", counts=[response["result"] for response in counted])
        return counted[(len(counted) - 1) // 2]

    def _in_background(self, request: Coroutine[Any, Any, RPCResponse]) -> asyncio.Task[RPCResponse]:
        """A request nobody may be waiting for when it ends."""
        task = asyncio.create_task(request)
        self._late.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[RPCResponse]) -> None:
        self._late.discard(task)
        if not task.cancelled():
            task.exception()  # seen: the node has counted and logged it

    def _ranked(self, *, awake_only: bool = False) -> list[Node]:
        """As configured, with those that failed lately last; or without them, unless all did."""
        now = time.monotonic()
        awake = [node for node in self._nodes if node.paused_until_s <= now]
        asleep = [node for node in self._nodes if node.paused_until_s > now]
        return awake if awake_only and awake else [*awake, *asleep]


def is_own_trouble(response: RPCResponse) -> bool:
    """Whether the node speaks of itself and not of what it was asked."""
    error = response.get("error")
    return isinstance(error, dict) and error.get("code") in NODES_OWN_TROUBLE


def _weight(refusal: RPCResponse) -> int:
    """What to believe of several refusals: that somebody holds it, then reasons, then a node's own trouble."""
    error = refusal.get("error")
    message = str(error.get("message", "")) if isinstance(error, dict) else str(error)
    meaning = meaning_of(message)
    if meaning is SendOutcome.KNOWN:
        return 0
    return 1 if meaning is not SendOutcome.REFUSED else 3 if is_own_trouble(refusal) else 2


def _expected(error: BaseException) -> Exception:
    if isinstance(error, NODE_FAILURES):
        return error
    raise error


def _answer_or_raise(response: RPCResponse | None, failure: Exception | None) -> RPCResponse:
    if response is not None:
        return response
    raise failure or TimeoutError("no node answered")
