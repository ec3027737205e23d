"""Google Sheets through gspread, in a thread, whose every request is sent by the node's guarded client."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from tradingflow.core.errors import InvalidInput, TradingFlowError
from tradingflow.outbound.client import HttpResponse
from tradingflow.py_worker.kit.context import NodeContext, SecretRef
from tradingflow.py_worker.kit.handles import Json
from tradingflow.py_worker.kit.node import NodeFailed
from tradingflow.py_worker.kit.providers import accept, malformed, parse_json
from tradingflow.py_worker.kit.rows import Row, cell_text, columns_in, table_rows

if TYPE_CHECKING:
    from google.oauth2.service_account import Credentials
    from gspread import Worksheet

T = TypeVar("T")
PROVIDER = "Google Sheets"
GOOGLE = "https://sheets.googleapis.com"
SCOPES = ("https://www.googleapis.com/auth/spreadsheets",)
SPREADSHEET = r"^(https://docs\.google\.com/spreadsheets/d/)?[A-Za-z0-9_-]{10,100}(/[^\s]*)?$"
TIMEOUT_S = 15.0
MAX_BODY_BYTES = 10_000_000
# Each call waits for Google in a thread; these are not the event loop's own, which resolve names.
THREADS = 16
# Writes remembered in the spreadsheet: more than cycles of one flow that may write side by side.
WRITES_REMEMBERED = 20
ACCOUNTS_KEPT = 128
_ID = re.compile(r"^(?:https://docs\.google\.com/spreadsheets/d/)?([A-Za-z0-9_-]+)")


@dataclass(frozen=True)
class SheetPlace:
    """One worksheet, the first one without a name, seen by a service account."""

    spreadsheet: str
    worksheet: str | None
    credentials: SecretRef
    api_url: str | None = None


async def read_sheet(ctx: NodeContext, place: SheetPlace) -> list[Row]:
    """All rows; the first line names the columns."""

    def read(sheet: Worksheet) -> list[Row]:
        return table_rows(sheet.get_all_values(value_render_option="UNFORMATTED_VALUE"))  # type: ignore[arg-type]

    return await _with_sheet(ctx, place, read)


async def write_sheet(ctx: NodeContext, place: SheetPlace, rows: Sequence[Row], *, append: bool) -> int:
    """Rows now in the sheet. Google applies rows and the note that they were written together, so a second run of the
    same node in the same cycle changes nothing."""
    writer = _append if append else _replace
    return await _with_sheet(ctx, place, lambda sheet: writer(sheet, rows, ctx))


async def _with_sheet(ctx: NodeContext, place: SheetPlace, work: Callable[[Worksheet], T]) -> T:
    secret, loop = await ctx.secrets.reveal(place.credentials), asyncio.get_running_loop()

    def run() -> T:
        try:
            return work(_open(_Session(ctx, loop, _account(secret), place), place))
        except TradingFlowError:
            raise
        except Exception as error:  # gspread trusts what Google answers; what is not so ends in any error
            raise _as_ours(error, place) from error

    return await loop.run_in_executor(_threads(), run)


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, "sheets")


def _open(session: _Session, place: SheetPlace) -> Worksheet:
    import gspread

    found = _ID.match(place.spreadsheet)
    if found is None:
        raise InvalidInput("invalid_spreadsheet", "give the spreadsheet's id or its address")
    client = gspread.Client(auth=None, session=session)  # type: ignore[arg-type]
    spreadsheet = client.open_by_key(found.group(1))
    return spreadsheet.sheet1 if place.worksheet is None else spreadsheet.worksheet(place.worksheet)


def _as_ours(error: Exception, place: SheetPlace) -> TradingFlowError:
    import gspread
    from google.auth.exceptions import GoogleAuthError

    if isinstance(error, gspread.WorksheetNotFound):
        return NodeFailed("unknown_worksheet", f"the spreadsheet has no worksheet {place.worksheet!r}")
    if isinstance(error, GoogleAuthError):
        return NodeFailed("provider_refused", "Google refuses the service account's key")
    return malformed(PROVIDER, f"an unexpected answer ({type(error).__name__})")


def _replace(sheet: Worksheet, rows: Sequence[Row], _: NodeContext) -> int:
    columns = columns_in(rows)
    clear = {"updateCells": {"range": {"sheetId": sheet.id}, "fields": "userEnteredValue"}}
    lines: list[list[Json]] = [[row.get(name) for name in columns] for row in rows]
    lines = [list(columns), *lines] if columns else []
    sheet.client.batch_update(sheet.spreadsheet_id, {"requests": [clear, *_appending(sheet, lines)]})
    return len(rows)


def _append(sheet: Worksheet, rows: Sequence[Row], ctx: NodeContext) -> int:
    header = [str(name) for name in sheet.row_values(1)]
    held = max(len(sheet.col_values(1)) - 1, 0)
    mark = _Mark.find(sheet, ctx)
    if mark.is_written:
        return held
    columns = list(dict.fromkeys([*header, *columns_in(rows)]))
    requests: list[dict[str, Any]] = []
    if columns != header:
        start = {"sheetId": sheet.id, "rowIndex": 0, "columnIndex": 0}
        line = {"rows": [_line(columns)], "fields": "userEnteredValue", "start": start}
        requests.append({"updateCells": line})
    requests += _appending(sheet, [[row.get(name) for name in columns] for row in rows])
    sheet.client.batch_update(sheet.spreadsheet_id, {"requests": [*requests, mark.noting()]})
    return held + len(rows)


def _appending(sheet: Worksheet, lines: Sequence[Sequence[Json]]) -> list[dict[str, Any]]:
    if not lines:
        return []
    cells = {"sheetId": sheet.id, "rows": [_line(line) for line in lines], "fields": "userEnteredValue"}
    return [{"appendCells": cells}]


def _line(values: Sequence[Json]) -> dict[str, Any]:
    return {"values": [{"userEnteredValue": _value(value)} if value is not None else {} for value in values]}


def _value(value: Json) -> dict[str, Any]:
    """Text is a string to Google, whatever it begins with: never a formula."""
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int | float):
        return {"numberValue": value}
    return {"stringValue": cell_text(value)}


@dataclass(frozen=True)
class _Mark:
    """The spreadsheet's own note (developer metadata) of which cycles of one node it already holds."""

    name: str
    key: str
    known: tuple[str, ...]
    identity: int | None

    @classmethod
    def find(cls, sheet: Worksheet, ctx: NodeContext) -> _Mark:
        name = f"tradingflow.{_hashed(f'{ctx.flow_id}/{ctx.node_id}/{sheet.id}')}"
        url = f"{GOOGLE}/v4/spreadsheets/{sheet.spreadsheet_id}/developerMetadata:search"
        wanted = {"dataFilters": [{"developerMetadataLookup": {"metadataKey": name}}]}
        answer = sheet.client.request("post", url, json=wanted).json()
        matched = answer.get("matchedDeveloperMetadata") or []
        noted = matched[0]["developerMetadata"] if matched else {}
        known = tuple(str(noted.get("metadataValue", "")).split())
        return cls(name, _hashed(ctx.idempotency_key), known, noted.get("metadataId"))

    @property
    def is_written(self) -> bool:
        return self.key in self.known

    def noting(self) -> dict[str, Any]:
        value = " ".join([*self.known, self.key][-WRITES_REMEMBERED:])
        if self.identity is None:
            note = {"metadataKey": self.name, "metadataValue": value, "visibility": "DOCUMENT"}
            return {"createDeveloperMetadata": {"developerMetadata": note | {"location": {"spreadsheet": True}}}}
        lookup = [{"developerMetadataLookup": {"metadataId": self.identity}}]
        changed = {"dataFilters": lookup, "developerMetadata": {"metadataValue": value}, "fields": "metadataValue"}
        return {"updateDeveloperMetadata": changed}


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@lru_cache(maxsize=ACCOUNTS_KEPT)
def _account(secret: str) -> Credentials:
    """Kept, since checking a key takes the processor 50 ms and its token lasts an hour; who asks has shown the secret.

    Raises NodeFailed for a secret that is no service account key; never repeats it.
    """
    from google.auth.exceptions import GoogleAuthError
    from google.oauth2.service_account import Credentials

    try:
        found: Credentials = Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
            json.loads(secret), scopes=SCOPES
        )
    except (ValueError, TypeError, AttributeError, RecursionError, GoogleAuthError) as error:
        raise NodeFailed("invalid_secret", "the secret is not the JSON key of a Google service account") from error
    return found


@dataclass
class _Answer:
    """What google-auth wants of a transport's answer."""

    status: int
    headers: Mapping[str, str]
    data: bytes


class _Session:
    """Stands in for gspread's HTTP session, in a thread; signs with the account and sends on the event loop."""

    def __init__(
        self, ctx: NodeContext, loop: asyncio.AbstractEventLoop, account: Credentials, place: SheetPlace
    ) -> None:
        self._http = ctx.http
        self._secrets = ctx.secrets
        self._loop = loop
        self._account = account
        self._credentials = place.credentials
        self._api_url = place.api_url.rstrip("/") if place.api_url else GOOGLE

    def request(self, method: str, url: str, params: Any = None, json: Any = None, **_: Any) -> Any:
        import requests

        prepared = requests.Request(method.upper(), url.replace(GOOGLE, self._api_url, 1), params=params, json=json)
        sent = prepared.prepare()
        headers = {name: str(value) for name, value in sent.headers.items() if name.lower() != "content-length"}
        self._account.before_request(  # type: ignore[no-untyped-call]
            self._for_account, sent.method, sent.url, headers
        )
        body = sent.body if isinstance(sent.body, bytes) else None
        answer = self._send(str(sent.method), str(sent.url), headers, body)
        accept(answer, PROVIDER)
        parse_json(answer, PROVIDER)
        response = requests.Response()
        response.status_code, response.encoding = answer.status, "utf-8"
        response._content = answer.body  # noqa: SLF001 - requests has no other way to make one
        return response

    def _for_account(
        self, url: str, method: str = "GET", body: Any = None, headers: Mapping[str, str] | None = None, **_: Any
    ) -> _Answer:
        content = body.encode() if isinstance(body, str) else body
        answer = self._send(method, url, headers or {}, content, is_secret=True)
        if answer.status == 429 or answer.status >= 500:
            accept(answer, PROVIDER)
        return _Answer(answer.status, answer.headers, answer.body)

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None, *, is_secret: bool = False
    ) -> HttpResponse:
        asked = self._asked(method, url, headers, content, is_secret=is_secret)
        return asyncio.run_coroutine_threadsafe(asked, self._loop).result()

    async def _asked(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None, *, is_secret: bool
    ) -> HttpResponse:
        """On the event loop: an answer that is secret as a whole, a new token, is concealed before anybody writes it
        down, as is the token that is sent, for a server may repeat it."""
        self._secrets.conceal(self._credentials, headers.get("authorization", "").removeprefix("Bearer "))
        response = await self._http.request(
            method, url, headers=headers, content=content, timeout_s=TIMEOUT_S, max_body_bytes=MAX_BODY_BYTES
        )
        if is_secret:
            self._secrets.conceal(self._credentials, response.body.decode(errors="replace"))
        return response
