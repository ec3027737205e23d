"""Candles of exchanges: downloaded once, only when closed, and never half a page of nonsense."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web
from fastapi import FastAPI
from sqlalchemy import func, select

from tests.integration.local_server import LocalServer, server
from tests.integration.worker.conftest import Client, StartWorker
from tests.unit.backtest.flows import cross_flow
from tradingflow.core.clock import SimulatedClock
from tradingflow.core.errors import DependencyUnavailable, InvalidInput, TooManyRequests
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import ExchangeCandle, ExchangeCandleSpan
from tradingflow.outbound.client import GuardedHttp
from tradingflow.outbound.exchanges import open_exchange
from tradingflow.py_worker.backtests.exchange_history import (
    MAX_DOWNLOADS,
    PAGE,
    ExchangeHistory,
    Wanted,
    download_places,
    missing,
)

__all__ = ["server"]

MINUTE = 60_000
START = 1_700_000_040_000
LATE = START + PAGE * MINUTE
NOW_MS = START + 1_000 * MINUTE + 1


def candle(time_ms: int) -> list[Any]:
    return [time_ms, "1.1", "1.3", "0.7", "1.2", "10.0", time_ms + MINUTE - 1, "12.0", 9, "5.0", "6.0", "0"]


def binance(lacks: int = -1) -> Any:
    """Answers as Binance does: the first `limit` candles from `startTime` on, the one still forming among them."""

    async def answer(request: web.Request) -> web.Response:
        since, limit = int(request.query["startTime"]), int(request.query["limit"])
        first = -(-since // MINUTE) * MINUTE
        times = (time for time in range(first, NOW_MS, MINUTE) if time != lacks)
        return web.json_response([candle(time) for time, _ in zip(times, range(limit), strict=False)])

    return answer


@pytest.fixture
async def history(sessions: SessionFactory) -> AsyncIterator[ExchangeHistory]:
    http = GuardedHttp(allowed=[ip_network("127.0.0.1/32")])
    yield ExchangeHistory(sessions, SimulatedClock(datetime.fromtimestamp(NOW_MS / 1000, UTC)), http)
    await http.close()


@pytest.fixture
def wanted(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> Wanted:
    """Of the exchange's own address, which `server` plays."""

    def opened(name: str, http: Any, accept: Any, base_url: str | None) -> Any:
        return open_exchange(name, http, accept, base_url or server.url(""))

    server.answer = binance()
    monkeypatch.setattr("tradingflow.py_worker.kit.exchanges.open_exchange", opened)
    return Wanted("binance", "ETHUSDT", "1m", START, START + 700 * MINUTE)


def opens(rows: list[list[float]]) -> list[int]:
    return [round((row[0] - START) / MINUTE) for row in rows]


async def test_a_span_is_downloaded_in_pages_and_only_once(
    history: ExchangeHistory, wanted: Wanted, server: LocalServer
) -> None:
    rows = await history.rows(wanted)
    assert opens(rows) == list(range(700))
    assert rows[0] == [START, 1.1, 1.3, 0.7, 1.2, 10.0]
    assert len(server.asked) == -(-700 // PAGE)
    assert await history.rows(wanted) == rows
    assert await history.rows(replace(wanted, start_ms=START + 5 * MINUTE + 3)) == rows[6:]
    assert len(server.asked) == -(-700 // PAGE)
    assert opens(await history.rows(replace(wanted, end_ms=START + 710 * MINUTE))) == list(range(710))
    assert int(server.asked[-1].query["startTime"]) == START + 700 * MINUTE


async def test_a_candle_the_exchange_lacks_is_not_asked_for_again(
    history: ExchangeHistory, wanted: Wanted, server: LocalServer
) -> None:
    server.answer = binance(lacks=START + 50 * MINUTE)
    short = replace(wanted, end_ms=START + 100 * MINUTE)
    assert opens(await history.rows(short)) == [*range(50), *range(51, 100)]
    await history.rows(short)
    assert len(server.asked) == 1


async def test_the_candle_still_forming_is_not_kept(history: ExchangeHistory, wanted: Wanted) -> None:
    late = replace(wanted, start_ms=START + 990 * MINUTE, end_ms=START + 2_000 * MINUTE)
    assert opens(await history.rows(late)) == list(range(990, 1_000))


async def test_what_another_server_said_is_used_and_neither_kept_nor_taken_for_the_exchanges_word(
    history: ExchangeHistory, wanted: Wanted, server: LocalServer, sessions: SessionFactory
) -> None:
    """Each user may name as many other servers as they like: the rows of all would be there for ever."""
    other = replace(wanted, base_url=server.url("/"))
    assert opens(await history.rows(other)) == list(range(700))
    asked = len(server.asked)
    assert opens(await history.rows(other)) == list(range(700))
    assert len(server.asked) == 2 * asked
    async with sessions() as session:
        for table in (ExchangeCandle, ExchangeCandleSpan):
            assert await session.scalar(select(func.count()).select_from(table)) == 0
    await history.rows(wanted)
    assert len(server.asked) == 3 * asked


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (web.Response(status=429, text="{}"), TooManyRequests),
        (web.Response(status=503, text="{}"), DependencyUnavailable),
        (web.Response(text="<html>"), DependencyUnavailable),
        (web.json_response([candle(LATE), candle(LATE)]), DependencyUnavailable),
        (web.json_response([candle(LATE), candle(LATE + 7)]), DependencyUnavailable),
        (web.json_response([[LATE, "1", "1", "1", "-1", "1"]]), DependencyUnavailable),
        (web.json_response([[LATE, "1"]]), DependencyUnavailable),
    ],
)
async def test_after_an_answer_that_is_none_only_the_rest_is_asked_for(
    history: ExchangeHistory, wanted: Wanted, server: LocalServer, answer: web.Response, error: type[Exception]
) -> None:
    await history.rows(replace(wanted, end_ms=START + PAGE * MINUTE))

    async def broken(_: web.Request) -> web.Response:
        return web.Response(status=answer.status, body=answer.body, content_type=answer.content_type)

    server.answer = broken
    with pytest.raises(error):
        await history.rows(wanted)
    server.answer = binance()
    assert opens(await history.rows(wanted)) == list(range(700))
    assert [int(asked.query["startTime"]) for asked in server.asked[1:3]] == [LATE, LATE]


async def test_too_long_a_span_and_one_without_a_closed_candle_are_refused(
    history: ExchangeHistory, wanted: Wanted, server: LocalServer
) -> None:
    for span in ((0, START), (NOW_MS, NOW_MS + MINUTE)):
        with pytest.raises(InvalidInput):
            await history.rows(replace(wanted, start_ms=span[0], end_ms=span[1]))
    assert server.asked == []


def test_what_is_missing_of_a_span() -> None:
    assert missing((0, 10), []) == [(0, 10)]
    assert missing((0, 10), [(2, 4), (3, 6), (8, 20)]) == [(0, 2), (6, 8)]
    assert missing((0, 10), [(-5, 3), (12, 14)]) == [(3, 10)]
    assert missing((0, 10), [(0, 10)]) == []
    assert missing((0, 10), [(-9, -5), (5, 7)]) == [(0, 5), (7, 10)]


@pytest.fixture
async def worker(start_worker: StartWorker) -> AsyncIterator[FastAPI]:
    async with start_worker(outbound_allowed=(ip_network("127.0.0.1/32"),)) as app:
        yield app


def asked_over(server: LocalServer) -> dict[str, Any]:
    """A request for a backtest over 80 candles of the exchange that `server` plays."""
    series = {"symbol": "ETHBTC", "interval": "1m", "exchange": "binance", "base_url": server.url("")}
    times = [datetime.fromtimestamp((START + at * MINUTE) / 1000, UTC).isoformat() for at in (10, 90)]
    flow = cross_flow(5, 12, 20)
    flow["nodes"][0]["config"]["interval"] = "1m"
    return {"flow_json": flow, "from": times[0], "to": times[1], "data": [series]}


async def test_a_backtest_over_an_exchanges_candles(client: Client, server: LocalServer) -> None:
    server.answer = binance()
    asked = asked_over(server)
    (series,) = asked["data"]
    view = await client.ok("POST", "/backtests", asked)
    assert view["progress"]["cycles_total"] == 80
    for more in ({"from": None}, {"data": [{**series, "interval": None}]}, {"data": [{**series, "csv": "x"}]}):
        answer = await client.post("/backtests", {**asked, **more})
        assert (answer.status_code, answer.json()["error"]) == (422, "invalid_request")
    private = await client.post("/backtests", {**asked, "data": [{**series, "base_url": "http://10.0.0.1"}]})
    assert 400 <= private.status_code < 500, private.text


async def test_a_user_has_one_download_at_a_time(client: Client, stranger: Client, server: LocalServer) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    answer = binance()

    async def slow(request: web.Request) -> web.Response:
        begun.set()
        await go_on.wait()
        response: web.Response = await answer(request)
        return response

    server.answer = slow
    first = asyncio.create_task(client.post("/backtests", asked_over(server)))
    await begun.wait()
    refused = await client.post("/backtests", asked_over(server))
    assert (refused.status_code, refused.json()["error"]) == (429, "download_busy")
    assert int(refused.headers["retry-after"]) > 0
    others = asyncio.create_task(stranger.post("/backtests", asked_over(server)))
    go_on.set()
    assert [(await task).status_code for task in (first, others)] == [202, 202]
    assert (await client.post("/backtests", asked_over(server))).status_code == 202


def test_a_worker_downloads_for_few_at_a_time() -> None:
    downloads = download_places()
    with ExitStack() as taken:
        for _ in range(MAX_DOWNLOADS):
            taken.enter_context(downloads.place(uuid4()))
        with pytest.raises(TooManyRequests), downloads.place(uuid4()):
            pass
    with downloads.place(uuid4()):
        pass
