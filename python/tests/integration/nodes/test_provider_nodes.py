"""The nodes that ask servers, against a local server that speaks each provider's format."""

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from aiohttp import web

from tests.integration.local_server import LocalServer
from tests.unit.worker.memory import MB, grows_by_at_most
from tradingflow.core.errors import InvalidInput
from tradingflow.py_worker.kit import NodeFailed, node_types
from tradingflow.py_worker.kit.testing import MemoryContext

KEY = {"$secret": "key"}


async def run(
    ctx: MemoryContext, kind: str, config: dict[str, Any], inputs: dict[str, Any] | None = None
) -> dict[str, Any]:
    return (await node_types()[kind].execute(ctx, config, inputs or {})).signals()


def serve(server: LocalServer, *answers: Any) -> None:
    """Answer with these in turn, the last for ever: a JSON value, or a response."""
    left = list(answers)

    async def answer(_: web.Request) -> web.Response:
        given = left.pop(0) if len(left) > 1 else left[0]
        return given if isinstance(given, web.Response) else web.json_response(given)

    server.answer = answer


async def test_a_request_carries_body_secret_and_idempotency_key(ctx: MemoryContext, server: LocalServer) -> None:
    serve(server, {"price": 1})
    config = {"url": server.url("/a?x=1"), "method": "POST", "query": {"y": "a b"}, "authorization": KEY}
    sent = await run(ctx, "http_request_node", config, {"body": {"n": 1}})
    request = server.asked[0]
    assert (request.method, request.path_qs, server.bodies[0]) == ("POST", "/a?x=1&y=a+b", b'{"n": 1}')
    assert request.headers["authorization"] == "sekret-123"
    assert request.headers["idempotency-key"] == ctx.idempotency_key
    assert sent["response"]["body"] == {"price": 1}


async def test_a_webhook_can_be_verified_and_told_from_its_repetition(ctx: MemoryContext, server: LocalServer) -> None:
    config = {"url": server.url("/hook"), "signing_secret": KEY}
    await run(ctx, "webhook_sender_node", config, {"data": {"side": "buy"}})
    await run(ctx, "webhook_sender_node", config, {"data": {"side": "buy"}})
    first, again = (request.headers for request in server.asked)
    signed = f"{first['webhook-id']}.{first['webhook-timestamp']}.".encode() + server.bodies[0]
    expected = base64.b64encode(hmac.new(b"sekret-123", signed, hashlib.sha256).digest()).decode()
    assert first["webhook-signature"] == f"v1,{expected}"
    assert first["webhook-id"] == again["webhook-id"]
    assert json.loads(server.bodies[0])["data"] == {"side": "buy"}
    ctx.cycle = 1
    await run(ctx, "webhook_sender_node", config, {"data": 1})
    assert server.asked[2].headers["webhook-id"] != first["webhook-id"]


async def test_telegram_is_waited_for_as_long_as_it_asks(ctx: MemoryContext, server: LocalServer) -> None:
    busy = web.json_response({"ok": False, "error_code": 429, "parameters": {"retry_after": 0}}, status=429)
    serve(server, busy, {"ok": True, "result": {"message_id": 7, "chat": {"id": 1}}})
    config = {"api_url": server.url(""), "bot_token": KEY, "chat_id": "-100", "text": "Now: {message}"}
    sent = await run(ctx, "telegram_sender_node", config, {"message": {"a": 1}})
    assert sent["result"] == {"message_id": 7, "chat_id": "-100"}
    assert server.asked[1].path == "/botsekret-123/sendMessage"
    assert json.loads(server.bodies[1]) == {"chat_id": "-100", "text": 'Now: {"a": 1}'}


async def test_an_unknown_bot_token_is_said_without_showing_it(ctx: MemoryContext, server: LocalServer) -> None:
    serve(server, web.json_response({"ok": False, "description": "Not Found"}, status=404))
    with pytest.raises(NodeFailed, match="does not know this bot token"):
        await run(ctx, "telegram_sender_node", {"api_url": server.url(""), "bot_token": KEY, "chat_id": "1"})


async def test_a_text_that_names_a_long_message_often_is_cut_before_it_is_made(
    ctx: MemoryContext, server: LocalServer
) -> None:
    serve(server, {"ok": True, "result": {"message_id": 7}})
    config = {"api_url": server.url(""), "bot_token": KEY, "chat_id": "1", "text": "{message}" * 455}
    with grows_by_at_most(10 * MB):
        await run(ctx, "telegram_sender_node", config, {"message": "m" * 100_000})
    assert json.loads(server.bodies[0])["text"] == "m" * 4096


async def test_coingecko_gives_a_price_as_text(ctx: MemoryContext, server: LocalServer) -> None:
    serve(server, {"ethereum": {"usd": 2412.3456789}})
    sent = await run(ctx, "price_node", {"base_url": server.url(""), "coin_id": "ethereum", "api_key": KEY})
    assert sent["data"] == {"price": "2412.3456789"}
    assert server.asked[0].headers["x-cg-demo-api-key"] == "sekret-123"


async def test_coingecko_gives_candles(ctx: MemoryContext, server: LocalServer) -> None:
    serve(server, [[1700000000000, 1, 3, 0.5, 2], [1700001800000, 2, 4, 1.5, 3]])
    sent = await run(ctx, "price_node", {"base_url": server.url(""), "coin_id": "ethereum", "kind": "candles"})
    assert sent["data"]["header"] == ["open_time", "open", "high", "low", "close"]
    assert sent["data"]["kline_data"][1] == [1700001800000.0, 2.0, 4.0, 1.5, 3.0]


async def test_geckoterminal_candles_come_oldest_first(ctx: MemoryContext, server: LocalServer) -> None:
    rows = [[1700003600, 2, 4, 1, 3, 10], [1700000000, 1, 3, 0, 2, 20]]
    serve(server, {"data": {"attributes": {"ohlcv_list": rows}}})
    config = {
        "source": "geckoterminal",
        "kind": "candles",
        "network": "eth",
        "pool": "0xabc",
        "base_url": server.url(""),
    }
    sent = await run(ctx, "price_node", config)
    assert [row[0] for row in sent["data"]["kline_data"]] == [1700000000000, 1700003600000]
    assert server.asked[0].path == "/networks/eth/pools/0xabc/ohlcv/hour"


async def test_binance_candles_come_as_existing_flows_know_them(ctx: MemoryContext, server: LocalServer) -> None:
    row = [1700000000000, "1.0", "3.0", "0.5", "2.5", "100.0", 1700000059999, "250.0", 9, "50.0", "125.0", "0"]
    serve(server, [row, [1700000060000, "2.5", "3.5", "2.0", "3.0", *row[5:]]])
    sent = await run(ctx, "binance_price_node", {"symbol": "ETHUSDT", "limit": 2, "base_url": server.url("")})
    assert sent["price_data"] == {
        "symbol": "ETHUSDT",
        "interval": "1m",
        "limit": 2,
        "header": ["open_time", "open", "high", "low", "close", "volume"],
        "kline_data": [[1700000000000.0, 1.0, 3.0, 0.5, 2.5, 100.0], [1700000060000.0, 2.5, 3.5, 2.0, 3.0, 100.0]],
        "current_price": 3.0,
    }
    assert server.asked[0].path == "/api/v3/klines"
    assert server.asked[0].query["symbol"] == "ETHUSDT"


async def test_candles_still_forming_are_left_out_where_a_flow_says_so(ctx: MemoryContext, server: LocalServer) -> None:
    now = 1767225600000  # the context's clock
    more = ["1.0", "1.0", "1.0", "1.0", "100.0", 0, "250.0", 9, "50.0", "125.0", "0"]
    serve(server, [[now - 60_000 * back, *more] for back in (3, 2, 1, 0)])
    config = {"symbol": "ETHUSDT", "limit": 3, "base_url": server.url("")}
    for closed, ages in ((False, [2, 1, 0]), (True, [3, 2, 1])):
        sent = await run(ctx, "binance_price_node", {**config, "closed_candles_only": closed})
        assert [(now - row[0]) / 60_000 for row in sent["price_data"]["kline_data"]] == ages
    assert [asked.query["limit"] for asked in server.asked] == ["3", "4"]


@pytest.mark.parametrize("more", [{"limit": 1000}, {"interval": "1M"}])
async def test_closed_candles_only_says_where_it_cannot_be(ctx: MemoryContext, more: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="closed_candles_only"):
        await run(ctx, "binance_price_node", {"symbol": "ETHUSDT", "closed_candles_only": True, **more})


RSS = """<?xml version="1.0"?><rss version="2.0"><channel><title>News</title>{items}</channel></rss>"""


def feed(*titles: str) -> web.Response:
    items = "".join(f"<item><guid>{t}</guid><title>{t}</title><link>http://x/{t}</link></item>" for t in titles)
    return web.Response(body=RSS.format(items=items).encode(), content_type="application/rss+xml")


async def test_a_feed_sends_each_item_once(ctx: MemoryContext, server: LocalServer) -> None:
    serve(server, feed("b", "a"), feed("c", "b", "a"), feed("c", "b", "a"))
    config = {"feed_url": server.url("/feed")}
    titles = []
    for cycle in range(3):
        ctx.cycle = cycle
        sent = await run(ctx, "rss_listener_node", config)
        titles.append([item["title"] for item in sent.get("data_output_handle", [])])
    assert titles == [["b"], ["c"], []]


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [
        ("utf-8", "utf-8"), ("utf-8", "utf-8-sig"), ("utf-16", "utf-16"), ("utf-8", "utf-16-le"),
        ("windows-1251", "windows-1251"), ("koi8-r", "koi8-r"), ("gb2312", "gb18030"), ("no-such", "utf-8"),
        ("punycode", "utf-8"),
    ],
)  # fmt: skip
async def test_a_feed_is_read_in_the_encoding_it_is_written_in(
    ctx: MemoryContext, server: LocalServer, declared: str, encoding: str
) -> None:
    body = f'<?xml version="1.0" encoding="{declared}"?>' + RSS[21:].format(items="<item><guid>Эфир</guid></item>")
    serve(server, web.Response(body=body.encode(encoding)))
    sent = await run(ctx, "rss_listener_node", {"feed_url": server.url("/f")})
    assert [item["id"] for item in sent["data_output_handle"]] == ["Эфир"]


async def test_a_feed_is_filtered_by_keywords(ctx: MemoryContext, server: LocalServer) -> None:
    serve(server, feed("Ether up", "Cats"))
    sent = await run(ctx, "rss_listener_node", {"feed_url": server.url("/f"), "keywords": ["ETHER"], "first_items": 9})
    assert [item["title"] for item in sent["data_output_handle"]] == ["Ether up"]


async def test_an_entity_bomb_in_a_feed_does_not_go_off(ctx: MemoryContext, server: LocalServer) -> None:
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    bomb = f'<?xml version="1.0"?><!DOCTYPE r [<!ENTITY l0 "lol">{entities}]>' + RSS[21:].format(
        items="<item><guid>1</guid><title>&l11;</title></item>"
    )
    serve(server, web.Response(body=bomb.encode()))
    sent = await run(ctx, "rss_listener_node", {"feed_url": server.url("/f")})
    assert len(json.dumps(sent)) < 10_000


async def test_posts_on_x_are_sent_once_and_the_account_is_looked_up_once(
    ctx: MemoryContext, server: LocalServer
) -> None:
    one, two = {"id": "1", "text": "gm", "edit_history_tweet_ids": ["1"]}, {"id": "2", "text": "ETH up"}
    serve(server, {"data": {"id": "42"}}, {"data": [one]}, {"data": [two, one]}, {"meta": {"result_count": 0}})
    config = {"api_url": server.url(""), "account": "@alice", "bearer_token": KEY}
    seen = []
    for cycle in range(3):
        ctx.cycle = cycle
        seen.append([post["id"] for post in (await run(ctx, "x_listener_node", config)).get("latest_tweets", [])])
    assert seen == [["1"], ["2"], []]
    assert [request.path for request in server.asked] == ["/2/users/by/username/alice", *["/2/users/42/tweets"] * 3]
    assert server.asked[0].headers["authorization"] == "Bearer sekret-123"


COMPLETION = {
    "id": "c", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": '{"mood": "good"}'}}],
    "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
}  # fmt: skip


async def test_a_model_is_asked_with_the_inputs_and_answers_in_the_given_form(
    ctx: MemoryContext, server: LocalServer
) -> None:
    serve(server, COMPLETION)
    schema = {"type": "object", "properties": {"mood": {"type": "string"}}}
    config = {
        "base_url": server.url("/v1"),
        "model": "m",
        "api_key": KEY,
        "prompt": "Mood of {news}? {x}",
        "output_schema": schema,
    }
    sent = await run(ctx, "ai_model_node", config, {"news": ["{x}", "up"], "x": "!"})
    assert sent == {"ai_response": {"mood": "good"}}
    asked = json.loads(server.bodies[0])
    assert asked["messages"] == [{"role": "user", "content": 'Mood of ["{x}", "up"]? !'}]
    assert asked["response_format"]["json_schema"]["schema"] == schema
    assert asked["max_tokens"] == 1000
    assert server.asked[0].path == "/v1/chat/completions"


@pytest.mark.parametrize(
    ("limits", "code"),
    [({"max_input_chars": 5}, "prompt_too_long"),
     ({"max_cost": "0.001", "input_price": "3", "output_price": "15"}, "too_expensive")],
)  # fmt: skip
async def test_what_would_pass_a_limit_is_not_asked(
    ctx: MemoryContext, server: LocalServer, limits: dict[str, Any], code: str
) -> None:
    config = {"base_url": server.url(""), "model": "m", "prompt": "A question", **limits}
    with pytest.raises(NodeFailed, match=code):
        await run(ctx, "ai_model_node", config)
    assert server.asked == []


async def test_a_prompt_that_names_a_long_input_often_is_refused_before_it_is_made(
    ctx: MemoryContext, server: LocalServer
) -> None:
    config = {"base_url": server.url(""), "model": "m", "prompt": "{a}" * 2500}
    with grows_by_at_most(10 * MB), pytest.raises(NodeFailed, match="has 50000000 characters"):
        await run(ctx, "ai_model_node", config, {"a": "x" * 20_000})
