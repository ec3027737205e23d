"""Every node that asks a server: what it does when the server is busy, broken, silent, mad or endless."""

import asyncio
from typing import Any

import feedparser
import pytest
from aiohttp import web

from tests.integration.local_server import LocalServer
from tests.integration.nodes.sheets_server import SPREADSHEET, service_account
from tradingflow.core.errors import DependencyUnavailable, Refused, TooManyRequests, TradingFlowError
from tradingflow.outbound.client import GuardedHttp, HttpResponse
from tradingflow.py_worker.kit import node_types
from tradingflow.py_worker.kit.testing import MemoryContext, MemorySecrets

KEY = {"$secret": "key"}
SHEET = {"storage": "google_sheets", "spreadsheet": SPREADSHEET, "credentials": KEY, "api_url": "{base}"}
# type and, after a colon, which of its ways: (config for a server at {base}, inputs)
ASKING: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "http_request_node": ({"url": "{base}/x", "authorization": KEY}, {}),
    "webhook_sender_node": ({"url": "{base}/x", "signing_secret": KEY}, {"data": 1}),
    "telegram_sender_node": ({"api_url": "{base}", "bot_token": KEY, "chat_id": "1"}, {"message": "hi"}),
    "price_node": ({"base_url": "{base}", "coin_id": "ethereum", "api_key": KEY}, {}),
    "binance_price_node": ({"base_url": "{base}", "symbol": "ETHUSDT"}, {}),
    "rss_listener_node": ({"feed_url": "{base}/feed"}, {}),
    "x_listener_node": ({"api_url": "{base}", "account": "a", "bearer_token": KEY}, {}),
    "dataset_input_node": ({"storage": "json", "url": "{base}/x", "authorization": KEY}, {}),
    "dataset_output_node": (
        {"storage": "csv", "mode": "write", "url": "{base}/x", "authorization": KEY},
        {"data": 1},
    ),
    "dataset_node": ({"storage": "json", "url": "{base}/x", "authorization": KEY}, {}),
    "dataset_input_node:sheets": (SHEET, {}),
    "dataset_output_node:sheets": (SHEET, {"data": 1}),
    "ai_model_node": ({"base_url": "{base}", "model": "m", "prompt": "p", "api_key": KEY}, {}),
}
TAKES_ANY_BODY = {"http_request_node", "webhook_sender_node", "dataset_output_node"}
URL_FIELDS = {"url", "base_url", "api_url", "feed_url", "endpoint"}
asking = pytest.mark.parametrize("kind", ASKING)


async def run(ctx: MemoryContext, server: LocalServer, kind: str) -> Any:
    config, inputs = ASKING[kind]
    base = server.url("").rstrip("/")
    filled = {key: value.replace("{base}", base) if isinstance(value, str) else value for key, value in config.items()}
    if kind.endswith(":sheets"):
        ctx.secrets = MemorySecrets({"key": service_account(base)})
    return await node_types()[kind.partition(":")[0]].execute(ctx, filled, inputs)


def answer_with(server: LocalServer, status: int, body: bytes = b"", **headers: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers=headers)

    server.answer = answer


def test_no_node_that_takes_an_address_is_left_out() -> None:
    taking = {name for name, node in node_types().items() if URL_FIELDS & node.Params.model_fields.keys()}
    assert taking <= ASKING.keys()


@asking
async def test_a_busy_server_is_a_retryable_error(ctx: MemoryContext, server: LocalServer, kind: str) -> None:
    answer_with(server, 429, b'{"parameters": {"retry_after": 3600}}', **{"retry-after": "3600"})
    with pytest.raises(TooManyRequests) as busy:
        await run(ctx, server, kind)
    assert busy.value.retryable


@asking
@pytest.mark.parametrize("body", [b"[" * 50_000, b'{"parameters": {"retry_after": 1e999}}'])
async def test_a_busy_server_may_say_so_in_nonsense(
    ctx: MemoryContext, server: LocalServer, kind: str, body: bytes
) -> None:
    answer_with(server, 429, body)
    with pytest.raises(TooManyRequests):
        await run(ctx, server, kind)


@asking
@pytest.mark.parametrize("status", [500, 502, 503])
async def test_a_broken_server_is_a_retryable_error(
    ctx: MemoryContext, server: LocalServer, kind: str, status: int
) -> None:
    answer_with(server, status, b"<html>sorry</html>")
    with pytest.raises(TradingFlowError) as failed:
        await run(ctx, server, kind)
    assert failed.value.retryable


@asking
async def test_a_refusal_is_not_worth_a_retry_and_shows_no_secret(
    ctx: MemoryContext, server: LocalServer, kind: str
) -> None:
    answer_with(server, 403, b'{"ok": false, "description": "no"}')
    with pytest.raises(TradingFlowError) as refused:
        await run(ctx, server, kind)
    assert not refused.value.retryable
    assert "sekret" not in str(refused.value)


@asking
@pytest.mark.parametrize("body", [b"", b"no json", b"[]", b"{}", b'{"data": 5}', b"[[1]]", b"\xff\xfe", b"[" * 50_000])
async def test_a_server_that_talks_nonsense_is_said_to(
    ctx: MemoryContext, server: LocalServer, kind: str, body: bytes
) -> None:
    answer_with(server, 200, body, **{"content-type": "application/json"})
    if kind in TAKES_ANY_BODY:
        assert (await run(ctx, server, kind)).signals()
    elif kind in ("dataset_input_node", "dataset_node") and body == b"[]":
        assert (await run(ctx, server, kind)).signals()["data"] == []
    elif kind == "binance_price_node" and body in (b"[]", b"{}"):
        assert (await run(ctx, server, kind)).signals()["price_data"]["kline_data"] == []
    else:
        with pytest.raises(TradingFlowError, match=r"provider_malformed|provider_failed|provider_refused|no_answer"):
            await run(ctx, server, kind)


FEED = b'<rss version="2.0"><channel><item><guid>1</guid></item></channel></rss>'


@pytest.mark.parametrize(
    "body",
    [
        b"\n" * 6000 + FEED,
        b"\n<!ENTITY" * 700 + FEED,
        b'<?xml version="1.0"?>' + b"\n" * 6000 + FEED,
        ("\n" * 6000 + FEED.decode()).encode("utf-16"),
        # In this encoding, `<a` behind the escape is one character, and no element.
        b'<?xml version="1.0" encoding="iso-2022-jp"?>\x1b$B<a\x1b(B' + b"\n" * 6000 + FEED,
    ],
)
async def test_a_feed_with_a_long_head_is_refused_before_it_is_searched(
    ctx: MemoryContext, server: LocalServer, body: bytes
) -> None:
    answer_with(server, 200, body)
    with pytest.raises(DependencyUnavailable, match="before its first element"):
        await run(ctx, server, "rss_listener_node")


@pytest.mark.parametrize(
    "head", [b"\n" * 4000, b"<?" + b"encoding='" * 200, b'<?xml version="1.0" encoding="utf-8"?>' + b" \n" * 2000]
)
async def test_feedparser_gets_nothing_its_patterns_take_long_for(
    ctx: MemoryContext, server: LocalServer, monkeypatch: pytest.MonkeyPatch, head: bytes
) -> None:
    given: list[bytes] = []

    def parse(stream: Any) -> dict[str, Any]:
        given.append(stream.read())
        return {}

    monkeypatch.setattr(feedparser, "parse", parse)
    answer_with(server, 200, head + FEED)
    with pytest.raises(DependencyUnavailable, match="neither RSS nor Atom"):
        await run(ctx, server, "rss_listener_node")
    assert given[0].startswith(b"\n")
    assert b"\n\n\n" not in given[0]
    assert given[0].endswith(FEED)


@asking
async def test_an_endless_answer_is_cut_off(ctx: MemoryContext, server: LocalServer, kind: str) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b" " * 1_000_000)
        except ConnectionError:
            return response

    server.answer = endless
    with pytest.raises(DependencyUnavailable, match="http_too_large"):
        await run(ctx, server, kind)


class Impatient:
    """The guarded client, giving up sooner than a node would."""

    def __init__(self, inner: Any) -> None:
        self._inner: GuardedHttp = inner

    async def request(self, *args: Any, **options: Any) -> HttpResponse:
        return await self._inner.request(*args, **{**options, "timeout_s": 0.1})


@asking
async def test_a_silent_server_is_given_up(ctx: MemoryContext, server: LocalServer, kind: str) -> None:
    done = asyncio.Event()

    async def silent(_: web.Request) -> web.Response:
        await done.wait()
        return web.Response()

    server.answer = silent
    ctx.http = Impatient(ctx.http)
    with pytest.raises(DependencyUnavailable, match="http_timeout"):
        await run(ctx, server, kind)
    done.set()


@asking
async def test_no_node_reaches_an_address_inside(server: LocalServer, kind: str) -> None:
    """The same nodes with the client as production has it."""
    http = GuardedHttp()
    ctx = MemoryContext(http=http, secrets=_AnySecret())
    with pytest.raises(Refused, match="address_forbidden"):
        await run(ctx, server, kind)
    await http.close()
    assert server.asked == []


@asking
@pytest.mark.parametrize("base", ["http://0177.0.0.1", "http://[::1", "http://a b", "", "no url", "http://x:99999999"])
async def test_what_is_no_address_is_said_to_be_none(server: LocalServer, kind: str, base: str) -> None:
    ctx = MemoryContext(http=GuardedHttp(), secrets=_AnySecret())
    config, inputs = ASKING[kind]
    filled = {key: value.replace("{base}", base) if isinstance(value, str) else value for key, value in config.items()}
    if kind.endswith(":sheets"):
        ctx.secrets = MemorySecrets({"key": service_account(base)})
    with pytest.raises(TradingFlowError):
        await node_types()[kind.partition(":")[0]].execute(ctx, filled, inputs)


class _AnySecret:
    async def reveal(self, _: object) -> str:
        return "x"

    def conceal(self, _: object, __: str) -> None:
        return
