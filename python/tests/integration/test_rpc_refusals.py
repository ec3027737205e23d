"""Whose trouble a node's refusal of logs is: the range's, which can be made smaller, or the node's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import web

from devstack.ports import LOOPBACK, free_port
from tradingflow.chain.rpc import LOGS, RangeTooWide, RpcNode
from tradingflow.chain.rpc_pool import RpcPool

BLOCKS = {"fromBlock": "0x1", "toBlock": "0x9"}
ONE_BLOCK = {"fromBlock": "0x9", "toBlock": "0x9"}
BY_HASH = {"blockHash": "0x" + "ab" * 32}
# Words as the providers send them.
QUOTAS = [
    (429, "limit exceeded"),
    (-32005, "rate limit exceeded"),
    (-32005, "daily request count exceeded, request rate limited to 10/s"),
    (-32001, "Monthly capacity limit exceeded."),
    (-32000, "project quota limit exceeded"),
]
TOO_WIDE = [
    (-32005, "limit exceeded"),
    (-32005, "query returned more than 10000 results"),
    (-32614, "eth_getLogs is limited to a 10,000 range"),
    (-32000, "query exceeds max block range 2000"),
]


class Node:
    """Answers eth_getLogs with an error, or an HTTP status, or no logs."""

    def __init__(self, code: int = 0, message: str = "", status: int = 200) -> None:
        self._error = {"code": code, "message": message}
        self._status = status
        self.asked_for_logs = 0

    async def serve(self, request: web.Request) -> web.Response:
        asked = orjson.loads(await request.read())
        calls = asked if isinstance(asked, list) else [asked]
        answers = [self._answer(call) for call in calls]
        is_chain_id = calls[0]["method"] == "eth_chainId"
        body = orjson.dumps(answers if isinstance(asked, list) else answers[0])
        return web.Response(body=body, status=200 if is_chain_id else self._status, content_type="application/json")

    def _answer(self, call: dict[str, Any]) -> dict[str, Any]:
        answer = {"jsonrpc": "2.0", "id": call["id"]}
        if call["method"] == "eth_chainId":
            return answer | {"result": "0x1"}
        self.asked_for_logs += 1
        outcome: dict[str, Any] = {"error": self._error} if self._error["message"] else {"result": []}
        return answer | outcome


@asynccontextmanager
async def pool_of(*nodes: Node) -> AsyncIterator[RpcPool]:
    async with AsyncExitStack() as stack:
        members = []
        for node in nodes:
            app = web.Application()
            app.router.add_post("/", node.serve)
            runner, port = web.AppRunner(app, access_log=None, shutdown_timeout=1), free_port()
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, LOOPBACK, port).start()
            members.append(RpcNode(f"http://{LOOPBACK}:{port}"))
        pool = RpcPool(1, members, lambda *_: None)
        stack.push_async_callback(pool.close)
        yield pool


async def in_batch(node: RpcNode, bounds: dict[str, str]) -> list[Any]:
    return await node.batch([("eth_getLogs", [bounds])], LOGS)


async def alone(node: RpcNode, bounds: dict[str, str]) -> list[Any]:
    return [await node.call("eth_getLogs", [bounds], LOGS)]


@pytest.mark.parametrize("ask", [in_batch, alone])
@pytest.mark.parametrize(("code", "message"), QUOTAS)
async def test_a_node_that_has_had_enough_of_us_is_stood_in_for(ask: Any, code: int, message: str) -> None:
    tired, healthy = Node(code, message), Node()
    async with pool_of(tired, healthy) as pool:
        assert await pool.run(lambda node: ask(node, BLOCKS)) == [[]]
        assert (tired.asked_for_logs, healthy.asked_for_logs) == (1, 1)
        assert pool.members[0].score < pool.members[1].score
        assert await pool.run(lambda node: ask(node, BLOCKS)) == [[]]
    assert tired.asked_for_logs == 1


@pytest.mark.parametrize("ask", [in_batch, alone])
@pytest.mark.parametrize("bounds", [ONE_BLOCK, BY_HASH])
@pytest.mark.parametrize(
    "refusing", [lambda: Node(-32005, "limit exceeded"), lambda: Node(status=413), lambda: Node(0, "block range", 400)]
)
async def test_one_block_is_never_too_wide(ask: Any, bounds: dict[str, str], refusing: Any) -> None:
    healthy = Node()
    async with pool_of(refusing(), healthy) as pool:
        assert await pool.run(lambda node: ask(node, bounds)) == [[]]
    assert healthy.asked_for_logs == 1


@pytest.mark.parametrize("ask", [in_batch, alone])
@pytest.mark.parametrize(("code", "message"), TOO_WIDE)
@pytest.mark.parametrize("status", [200, 400])
async def test_a_range_that_is_too_wide_is_told_to_who_asked(ask: Any, code: int, message: str, status: int) -> None:
    strict, other = Node(code, message, status), Node()
    async with pool_of(strict, other) as pool:
        with pytest.raises(RangeTooWide):
            await pool.run(lambda node: ask(node, BLOCKS))
        assert pool.members[0].score == 1.0
    assert other.asked_for_logs == 0
