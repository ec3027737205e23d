"""A JSON-RPC node that senders must not trust: it fails, forgets to answer, lies about nonces."""

import asyncio
import random
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import orjson
from aiohttp import ClientSession, ClientTimeout, web

from devstack.ports import LOOPBACK, free_port

SEND = "eth_sendRawTransaction"
COUNT = "eth_getTransactionCount"


@dataclass
class Lies:
    """How often, from 0 to 1, and how wrong. May be changed while the node serves.

    `error_rate`: a request is answered with an error and never reaches the node. `silence_after_send_rate`: the node
    takes the transaction, and the connection breaks before it can say so. `nonce_lie` is added to transaction counts,
    `chain_lie` to the chain id; `hides_receipts` denies every receipt; `swallows` takes transactions and keeps them.
    """

    error_rate: float = 0.0
    silence_after_send_rate: float = 0.0
    nonce_lie: int = 0
    chain_lie: int = 0
    hides_receipts: bool = False
    swallows: bool = False
    told: dict[str, int] = field(default_factory=dict)

    def count(self, what: str) -> None:
        self.told[what] = self.told.get(what, 0) + 1


class LyingRpc:
    """Serves on a port of its own while the context is open."""

    def __init__(self, upstream: str, seed: int) -> None:
        self.lies = Lies()
        self._upstream = upstream
        self._dice = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._port = free_port()
        self._session: ClientSession
        self._runner: web.AppRunner

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._port}"

    async def __aenter__(self) -> Self:
        self._session = ClientSession(timeout=ClientTimeout(total=60))
        app = web.Application(client_max_size=2**24)
        app.router.add_post("/", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, LOOPBACK, self._port).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _serve(self, request: web.Request) -> web.Response:
        asked = orjson.loads(await request.read())
        if self._happens(self.lies.error_rate, "errors"):
            error = {"code": -32603, "message": "internal error"}
            return _answer({"jsonrpc": "2.0", "id": asked["id"], "error": error})
        if asked["method"] == SEND and self.lies.swallows:
            self.lies.count("swallowed")
            return _answer({"jsonrpc": "2.0", "id": asked["id"], "result": "0x" + "ab" * 32})
        async with self._session.post(self._upstream, json=asked) as response:
            answer = orjson.loads(await response.read())
        if asked["method"] == SEND and self._happens(self.lies.silence_after_send_rate, "silences"):
            self._break_off(request)
            await asyncio.sleep(0)
        self._lie(asked["method"], answer)
        return _answer(answer)

    def _lie(self, method: str, answer: dict[str, Any]) -> None:
        if method == COUNT and self.lies.nonce_lie and "result" in answer:
            self.lies.count("lies")
            answer["result"] = hex(max(0, int(answer["result"], 16) + self.lies.nonce_lie))
        elif method == "eth_chainId":
            answer["result"] = hex(int(answer["result"], 16) + self.lies.chain_lie)
        elif method == "eth_getTransactionReceipt" and self.lies.hides_receipts:
            self.lies.count("hidden")
            answer["result"] = None

    def _happens(self, rate: float, what: str) -> bool:
        if rate <= 0 or self._dice.random() >= rate:
            return False
        self.lies.count(what)
        return True

    @staticmethod
    def _break_off(request: web.Request) -> None:
        if request.transport is not None:
            request.transport.abort()


def _answer(body: Any) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json")
