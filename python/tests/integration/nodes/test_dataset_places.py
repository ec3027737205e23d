"""Dataset nodes with files at a URL and with Google Sheets, against servers that speak their formats."""

from typing import Any, cast

import pytest
from aiohttp import web

from tests.integration.local_server import LocalServer
from tests.integration.nodes.sheets_server import SPREADSHEET, FakeSheets, service_account
from tradingflow.core.errors import TradingFlowError
from tradingflow.py_worker.kit import NodeFailed, node_types
from tradingflow.py_worker.kit.testing import MemoryContext, MemorySecrets
from tradingflow.py_worker.runtime.journal import Journal, JournalingContext

KEY = {"$secret": "key"}


async def run(ctx: MemoryContext, kind: str, config: dict[str, Any], data: Any = None) -> dict[str, Any]:
    inputs = {} if data is None else {"data": data}
    return (await node_types()[kind].execute(ctx, config, inputs)).signals()


@pytest.fixture
def sheets(ctx: MemoryContext, server: LocalServer) -> FakeSheets:
    fake = FakeSheets()
    server.answer = fake.answer
    ctx.secrets = MemorySecrets(
        {"google": service_account(server.url("").rstrip("/")), "wrong": "sekret", "deep": "[" * 50_000}
    )
    return fake


@pytest.fixture
def place(server: LocalServer) -> dict[str, Any]:
    return {
        "storage": "google_sheets",
        "spreadsheet": f"https://docs.google.com/spreadsheets/d/{SPREADSHEET}/edit#gid=0",
        "credentials": {"$secret": "google"},
        "api_url": server.url("").rstrip("/"),
    }


async def test_a_sheet_is_read_by_its_first_line(ctx: MemoryContext, sheets: FakeSheets, place: dict[str, Any]) -> None:
    sheets.grid = [["day", "close"], ["mon", 1.5], ["tue", None], ["wed", 3]]
    sent = await run(ctx, "dataset_input_node", {**place, "limit": 2, "worksheet": "Log"})
    assert sent["data"] == [{"day": "tue", "close": None}, {"day": "wed", "close": 3}]


async def test_a_journal_holds_neither_googles_access_token_nor_the_key(
    ctx: MemoryContext, sheets: FakeSheets, place: dict[str, Any]
) -> None:
    sheets.grid = [["said"], ["ya29.x"]]
    for asks_for_a_token in (True, False):
        journal = Journal()
        journaled = cast("MemoryContext", JournalingContext(ctx, journal))
        assert (await run(journaled, "dataset_input_node", place))["data"] == [{"said": "ya29.x"}]
        written = journal.text()
        assert written is not None
        assert ("/token" in written.entries) == asks_for_a_token
        assert "said" in written.entries
        assert "ya29.x" not in written.entries
        assert "PRIVATE KEY" not in written.entries


async def test_a_journal_holds_no_token_that_came_and_was_never_used(
    ctx: MemoryContext, server: LocalServer, sheets: FakeSheets, place: dict[str, Any]
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"access_token": "ya29.x", "expires_in": "soon"})

    server.answer, journal = answer, Journal()
    with pytest.raises(TradingFlowError):
        await run(cast("MemoryContext", JournalingContext(ctx, journal)), "dataset_input_node", place)
    written = journal.text()
    assert written is not None
    assert "/token" in written.entries
    assert "ya29" not in written.entries


async def test_rows_are_appended_under_the_columns_that_are_there(
    ctx: MemoryContext, sheets: FakeSheets, place: dict[str, Any]
) -> None:
    sheets.grid = [["side", "price"], ["buy", 1]]
    sent = await run(ctx, "dataset_output_node", place, [{"price": 2, "note": "=HYPERLINK(1)"}, {"side": "sell"}])
    assert sheets.grid == [
        ["side", "price", "note"],
        ["buy", 1],
        [None, 2, "=HYPERLINK(1)"],
        ["sell", None, None],
    ]
    assert (sent["rows"], sheets.formulas) == (3, 0)


async def test_an_empty_sheet_gets_its_first_line(
    ctx: MemoryContext, sheets: FakeSheets, place: dict[str, Any]
) -> None:
    await run(ctx, "dataset_output_node", place, {"a": True, "b": [1]})
    assert sheets.grid == [["a", "b"], [True, "[1]"]]


async def test_a_second_run_in_the_same_cycle_appends_nothing(
    ctx: MemoryContext, sheets: FakeSheets, place: dict[str, Any]
) -> None:
    for cycle in (0, 0, 1, 0, 1):
        ctx.cycle = cycle
        await run(ctx, "dataset_output_node", place, {"cycle": cycle})
    assert sheets.grid == [["cycle"], [0], [1]]
    assert (sheets.updates, len(sheets.notes)) == (2, 1)


async def test_a_sheet_is_written_over(ctx: MemoryContext, sheets: FakeSheets, place: dict[str, Any]) -> None:
    sheets.grid = [["old"], ["x"], ["y"]]
    await run(ctx, "dataset_output_node", {**place, "mode": "write"}, [{"a": 1}, {"a": 2}])
    assert sheets.grid == [["a"], [1], [2]]


@pytest.mark.parametrize("name", ["wrong", "deep"])
async def test_a_secret_that_is_no_key_is_said_without_showing_it(
    ctx: MemoryContext, sheets: FakeSheets, place: dict[str, Any], name: str
) -> None:
    with pytest.raises(NodeFailed, match="not the JSON key of a Google service account") as failed:
        await run(ctx, "dataset_input_node", {**place, "credentials": {"$secret": name}})
    assert "sekret" not in str(failed.value)


async def test_a_worksheet_that_is_not_there_is_named(
    ctx: MemoryContext, sheets: FakeSheets, place: dict[str, Any]
) -> None:
    with pytest.raises(NodeFailed, match="no worksheet 'Other'"):
        await run(ctx, "dataset_input_node", {**place, "worksheet": "Other"})


async def test_a_spreadsheet_not_shared_with_the_account_is_a_refusal(
    ctx: MemoryContext, sheets: FakeSheets, place: dict[str, Any]
) -> None:
    with pytest.raises(TradingFlowError, match="provider_refused"):
        await run(ctx, "dataset_input_node", {**place, "spreadsheet": "x" * 44})


@pytest.mark.parametrize(
    ("storage", "body"), [("csv", b"day,close\r\nmon,1.5\r\ntue,2\r\n"), ("json", b'[{"day": "mon"}, {"day": "tue"}]')]
)
async def test_a_file_at_a_url_is_read(ctx: MemoryContext, server: LocalServer, storage: str, body: bytes) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body)

    server.answer = answer
    config = {"storage": storage, "url": server.url("/file"), "authorization": KEY, "limit": 1}
    assert (await run(ctx, "dataset_input_node", config))["data"][0]["day"] == "tue"
    assert server.asked[0].headers["authorization"] == "sekret-123"


async def test_a_file_that_is_not_there_is_no_rows_where_the_flow_says_so(
    ctx: MemoryContext, server: LocalServer
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=404)

    server.answer = answer
    config = {"storage": "csv", "url": server.url("/file")}
    with pytest.raises(NodeFailed, match="dataset_unknown"):
        await run(ctx, "dataset_input_node", config)
    assert (await run(ctx, "dataset_input_node", {**config, "missing_ok": True}))["data"] == []


async def test_a_file_is_put_whole(ctx: MemoryContext, server: LocalServer) -> None:
    config = {"storage": "csv", "mode": "write", "url": server.url("/file"), "authorization": KEY}
    assert (await run(ctx, "dataset_output_node", config, [{"a": 1}, {"a": None}]))["rows"] == 2
    request = server.asked[0]
    assert (request.method, server.bodies[0]) == ("PUT", b'a\r\n1\r\n""\r\n')
    assert request.headers["content-type"] == "text/csv"
    assert request.headers["idempotency-key"] == ctx.idempotency_key
