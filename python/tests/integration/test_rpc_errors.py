"""What nodes answer when they do not answer, told apart from what contracts say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from aiohttp import web
from eth_abi.abi import encode

from devstack.ports import LOOPBACK, free_port
from tradingflow.chain import failover
from tradingflow.chain.client import AnswerMissing, CallReverted, ChainClient
from tradingflow.core.config import ChainSettings
from tradingflow.core.errors import DependencyUnavailable
from tradingflow.core.evm import ZERO_ADDRESS, keccak

PAUSED = "0x" + keccak(b"TradingPaused()")[:4].hex()
PANIC_NOBODY_KNOWS = "0x4e487b71" + "00" * 31 + "ff"
MALFORMED_LOOKUP = "0x556f1830" + "ff" * 31
# Words as the providers send them.
RATE_LIMIT = {"code": -32005, "message": "daily request count exceeded, request rate limited"}
REVERTS: list[tuple[dict[str, Any], str]] = [
    ({"code": 3, "message": "execution reverted", "data": PAUSED}, "trading_paused"),
    ({"code": -32603, "message": "Error: reverted", "data": {"message": "reverted", "data": PAUSED}}, "trading_paused"),
    ({"code": -32015, "message": "VM execution error.", "data": f"Reverted {PAUSED}"}, "trading_paused"),
    ({"code": -32000, "message": "execution reverted"}, "reverted"),
    ({"code": 3, "message": "execution reverted", "data": PANIC_NOBODY_KNOWS}, "reverted"),
    ({"code": 3, "message": "execution reverted", "data": MALFORMED_LOOKUP}, "reverted"),
    ({"code": 3, "message": "execution reverted", "data": "0x"}, "reverted"),
    ({"code": -32000, "message": "out of gas"}, "reverted"),
    ({"code": -32000, "message": "gas required exceeds allowance (50000000)"}, "reverted"),
]
TROUBLES: list[dict[str, Any]] = [
    RATE_LIMIT,
    RATE_LIMIT | {"data": None},
    RATE_LIMIT | {"data": {"see": "https://example.org/ratelimits"}},
    RATE_LIMIT | {"data": {"rate": {"allowed_rps": 1, "backoff_seconds": 30}}},
    {"code": -32000, "message": "header not found", "data": None},
    {"code": -32603, "message": "internal error", "data": "the upstream went away"},
]


class Refusing:
    """A node that answers every request with one error, with nothing when that is None, or not at all.

    Then a gateway in front of it does.
    """

    def __init__(self) -> None:
        self.error: dict[str, Any] | None = {}
        self.asked = 0
        self.is_gone = False
        self.elsewhere: list[str] = []
        self.port = free_port()

    async def look_up(self, request: web.Request) -> web.Response:
        self.elsewhere.append(request.path)
        return web.json_response({"data": "0x"})

    async def serve(self, request: web.Request) -> web.Response:
        asked = orjson.loads(await request.read())
        self.asked += 1
        if self.is_gone:
            return web.Response(text="<html>the gateway's own page</html>", content_type="text/html")
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": asked["id"], "error": self.error}
        if self.error is None:
            answer = {"jsonrpc": "2.0", "id": asked["id"], "result": "0x"}
        if asked["method"] == "eth_chainId":
            answer = {"jsonrpc": "2.0", "id": asked["id"], "result": "0x1"}
        return web.Response(body=orjson.dumps(answer), content_type="application/json")


@pytest.fixture
async def node() -> AsyncIterator[Refusing]:
    node = Refusing()
    app = web.Application()
    app.router.add_post("/", node.serve)
    app.router.add_get("/{sender}/{data:.*}", node.look_up)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, node.port).start()
    yield node
    await runner.cleanup()


@pytest.fixture
async def client(node: Refusing) -> AsyncIterator[ChainClient]:
    client = ChainClient(ChainSettings(chain_id=1, name="one", rpc_urls=(f"http://{LOOPBACK}:{node.port}",)))
    yield client
    await client.close()


@pytest.mark.filterwarnings("ignore:Could not decode revert reason:RuntimeWarning")
@pytest.mark.parametrize(("error", "code"), REVERTS)
async def test_what_the_contract_said_is_a_revert(
    node: Refusing, client: ChainClient, error: dict[str, Any], code: str
) -> None:
    node.error = error
    with pytest.raises(CallReverted) as raised:
        await client.call("Vault", ZERO_ADDRESS, "owner")
    assert raised.value.code == code


@pytest.mark.parametrize("error", TROUBLES)
async def test_what_the_node_says_of_itself_is_not(node: Refusing, client: ChainClient, error: dict[str, Any]) -> None:
    node.error = error
    with pytest.raises(DependencyUnavailable) as raised:
        await client.call("Vault", ZERO_ADDRESS, "owner")
    assert raised.value.code == "rpc_error"


async def test_an_empty_answer_is_neither(node: Refusing, client: ChainClient) -> None:
    """Of a vault it means a node that is not there yet, and may be asked again; no trade fails for good by it."""
    node.error = None
    with pytest.raises(AnswerMissing) as raised:
        await client.call("Vault", ZERO_ADDRESS, "owner")
    assert isinstance(raised.value, DependencyUnavailable)


class Seconds:
    """Stands in for the `time` of one module."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


async def test_a_node_that_gives_no_answers_is_only_probed(
    node: Refusing, client: ChainClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What asks it meanwhile fails at once: requests that wait for a hanging node would pile up."""
    clock = Seconds()
    monkeypatch.setattr(failover, "time", clock)
    node.is_gone = True
    for _ in range(3):
        at_once = await asyncio.gather(*(client.code_at(ZERO_ADDRESS) for _ in range(5)), return_exceptions=True)
        assert all(isinstance(failed, DependencyUnavailable) for failed in at_once)
        clock.now += failover.PROBE_EVERY_S
    assert node.asked == 3 * 5, "requests that fail together are one silence"
    clock.now -= 1
    with pytest.raises(DependencyUnavailable, match="NodeUnusable"):
        await client.code_at(ZERO_ADDRESS)
    assert node.asked == 3 * 5
    clock.now += 2
    await asyncio.gather(*(client.code_at(ZERO_ADDRESS) for _ in range(5)), return_exceptions=True)
    assert node.asked == 3 * 5 + 1, "one probe at a time"
    clock.now += failover.PROBE_EVERY_S
    node.is_gone, node.error = False, RATE_LIMIT
    for _ in range(2):
        with pytest.raises(DependencyUnavailable, match="rate limited"):
            await client.code_at(ZERO_ADDRESS)


async def test_no_contract_sends_us_anywhere(node: Refusing, client: ChainClient) -> None:
    """ERC-3668: a revert that names URLs to ask, which a contract of anybody's may be."""
    url = f"http://{LOOPBACK}:{node.port}/{{sender}}/{{data}}"
    types = ["address", "string[]", "bytes", "bytes4", "bytes"]
    lookup = keccak(b"OffchainLookup(address,string[],bytes,bytes4,bytes)")[:4]
    data = "0x" + (lookup + encode(types, [ZERO_ADDRESS, [url], b"", b"\x00" * 4, b""])).hex()
    node.error = {"code": 3, "message": "execution reverted", "data": data}
    with pytest.raises(CallReverted):
        await client.call("Vault", ZERO_ADDRESS, "owner")
    assert node.elsewhere == []
