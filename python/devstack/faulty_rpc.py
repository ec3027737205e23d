"""A JSON-RPC node that misbehaves on purpose, in front of a real one: for chaos runs and tests of fail-over."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

FAULTS = ("slow", "http_429", "http_500", "truncated", "wrong_chain", "stale", "range_limit", "empty_logs", "dropped",
          "behind", "headless")  # fmt: skip
SLOW_S = 0.4
Answer = dict[str, Any]
MOST_BLOCKS = 20
MOST_LOGS = 20


class FaultyRpc:
    """Forwards to `upstream`; each request is spoilt with probability `rate`, in a way drawn by `randomness`."""

    def __init__(self, upstream: str, randomness: random.Random, rate: float, faults: Sequence[str] = FAULTS) -> None:
        self._upstream = upstream
        self._randomness = randomness
        self._faults = faults
        self.rate = rate
        self.spoilt: dict[str, int] = {}
        self.url = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["FaultyRpc"]:
        """Listen on a free port while the block runs; `url` is where."""
        app = web.Application(client_max_size=2**24)
        app.router.add_post("/", self._answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = "http://{}:{}".format(*runner.addresses[0][:2])
        async with aiohttp.ClientSession() as self._session:
            yield self
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        calls = json.loads(await request.read())
        fault = self._randomness.choice(self._faults) if self._randomness.random() < self.rate else ""
        if fault:
            self.spoilt[fault] = self.spoilt.get(fault, 0) + 1
        spoil = SPOILERS.get(fault)
        if fault == "slow":
            await asyncio.sleep(SLOW_S)
        if fault in {"http_429", "http_500"}:
            return web.Response(status=int(fault[-3:]), text="too much")
        if fault == "dropped" and request.transport is not None:
            request.transport.close()
        many = calls if isinstance(calls, list) else [calls]
        if fault == "behind":
            many = [_behind(call) for call in many]
        if fault == "range_limit" and any(_is_wide(call) for call in many):
            answers = [_error(call, -32005, "query exceeds max block range 20") for call in many]
        else:
            answers = await self._forward(many)
            if spoil is not None:
                answers = [spoil(call, answer) for call, answer in zip(many, answers, strict=True)]
        body = json.dumps(answers if isinstance(calls, list) else answers[0])
        if fault == "truncated":
            body = body[: len(body) // 2]
        return web.Response(text=body, content_type="application/json")

    async def _forward(self, calls: Sequence[Any]) -> list[Answer]:
        async with self._session.post(self._upstream, json=list(calls)) as response:
            answers = {answer["id"]: answer for answer in await response.json(content_type=None)}
        return [answers[call["id"]] for call in calls]


def _wrong_chain(call: Any, answer: Answer) -> Answer:
    return answer | {"result": "0x1"} if call["method"] == "eth_chainId" else answer


def _stale(call: Any, answer: Answer) -> Answer:
    """As if the newest blocks had not arrived."""
    return answer | {"result": None} if call["method"] == "eth_getBlockByNumber" else answer


def _headless(call: Any, answer: Answer) -> Answer:
    """As a node that tells its head before it has the blocks."""
    numbered = call["method"] == "eth_getBlockByNumber" and call["params"][0] != "latest"
    return answer | {"result": None} if numbered else answer


def _empty_logs(call: Any, answer: Answer) -> Answer:
    return answer | {"result": []} if call["method"] == "eth_getLogs" else answer


def _no_state(call: Any, answer: Answer) -> Answer:
    """As a node without an archive answers about old blocks."""
    return _error(call, -32000, "missing trie node") if call["method"] == "eth_getStorageAt" else answer


def _behind(call: Any) -> Any:
    """What is asked of a node that stopped at its first block: all it answers is true, and old."""
    return call | {"params": ["0x0", False]} if call["params"][:1] == ["latest"] else call


def _result_limit(call: Any, answer: Answer) -> Answer:
    """As a node that counts what it found instead of the blocks it was asked for."""
    is_too_much = call["method"] == "eth_getLogs" and len(answer.get("result") or ()) > MOST_LOGS
    return _error(call, -32005, f"query returned more than {MOST_LOGS} results") if is_too_much else answer


SPOILERS: dict[str, Callable[[Any, Answer], Answer]] = {
    "no_state": _no_state,
    "result_limit": _result_limit,
    "wrong_chain": _wrong_chain,
    "stale": _stale,
    "headless": _headless,
    "empty_logs": _empty_logs,
}


def _is_wide(call: Any) -> bool:
    if call["method"] != "eth_getLogs" or "blockHash" in call["params"][0]:
        return False
    bounds = call["params"][0]
    return int(bounds["toBlock"], 16) - int(bounds["fromBlock"], 16) >= MOST_BLOCKS


def _error(call: Any, code: int, message: str) -> Answer:
    return {"jsonrpc": "2.0", "id": call["id"], "error": {"code": code, "message": message}}
