"""Where the dataset nodes read and write: a user's table, a file at a URL, a Google sheet."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from tradingflow.core.errors import InvalidInput, Refused
from tradingflow.py_worker.kit.context import NodeContext, Secret
from tradingflow.py_worker.kit.handles import NodeParams
from tradingflow.py_worker.kit.node import NodeFailed
from tradingflow.py_worker.kit.providers import accept, malformed
from tradingflow.py_worker.kit.rows import (
    DATASET_NAME,
    MAX_ROWS,
    FileFormat,
    Row,
    parse_file,
    write_file,
)
from tradingflow.py_worker.kit.sheets import SPREADSHEET, SheetPlace, read_sheet, write_sheet

MAX_FILE_BYTES = 5_000_000
TIMEOUT_S = 20.0
MEDIA: dict[FileFormat, str] = {"csv": "text/csv", "json": "application/json"}


class Place(NodeParams):
    """What both dataset nodes ask for."""

    storage: Literal["table", "csv", "json", "google_sheets"] = Field(
        default="table",
        description="`table`: a dataset of yours, kept here; `csv` or `json`: a file at `url`; `google_sheets`",
    )
    name: str | None = Field(default=None, pattern=DATASET_NAME, description="table: the dataset's name")
    url: str | None = Field(
        default=None, max_length=4000, description="csv, json: public address, read by GET and written by PUT"
    )
    authorization: Secret | None = Field(
        default=None, description='csv, json: value of the Authorization header, as {"$secret": "name"}'
    )
    spreadsheet: str | None = Field(
        default=None, pattern=SPREADSHEET, description="google_sheets: the spreadsheet's id or address"
    )
    worksheet: str | None = Field(
        default=None, min_length=1, max_length=100, description="google_sheets: name of the sheet; default: the first"
    )
    credentials: Secret | None = Field(
        default=None,
        description='google_sheets: JSON key of a service account the sheet is shared with, as {"$secret": "name"}',
    )
    api_url: str | None = Field(default=None, description="google_sheets: another address of the same API")

    @model_validator(mode="after")
    def _names_its_place(self) -> Self:
        needed = {"table": ("name",), "google_sheets": ("spreadsheet", "credentials")}.get(self.storage, ("url",))
        if lacking := [field for field in needed if getattr(self, field) is None]:
            raise ValueError(f"storage {self.storage} needs {' and '.join(lacking)}")
        return self

    def sheet(self) -> SheetPlace:
        if self.spreadsheet is None or self.credentials is None:
            raise ValueError("google_sheets needs spreadsheet and credentials")
        return SheetPlace(self.spreadsheet, self.worksheet, self.credentials, self.api_url)


async def read_rows(ctx: NodeContext, place: Place, limit: int, *, missing_ok: bool) -> list[Row]:
    """The newest `limit` rows, oldest first. Raises Refused("dataset_unknown", …), unless `missing_ok`."""
    if place.storage == "google_sheets":
        return (await read_sheet(ctx, place.sheet()))[-limit:]
    if place.storage != "table":
        return (await _read_file(ctx, place, place.storage, missing_ok=missing_ok))[-limit:]
    try:
        return await ctx.datasets.read(str(place.name), limit)
    except Refused as error:
        if missing_ok and error.code == "dataset_unknown":
            return []
        raise


async def _read_file(ctx: NodeContext, place: Place, file_format: FileFormat, *, missing_ok: bool) -> list[Row]:
    headers = {"accept": MEDIA[file_format], **await _authorization(ctx, place)}
    response = await ctx.http.request(
        "GET", str(place.url), headers=headers, timeout_s=TIMEOUT_S, max_body_bytes=MAX_FILE_BYTES
    )
    if response.status in (404, 410):
        if missing_ok:
            return []
        raise NodeFailed("dataset_unknown", f"the server has no such file ({response.status})")
    accept(response, "the server")
    try:
        return parse_file(response.body, file_format)
    except InvalidInput as error:
        raise malformed("the server", error.detail) from error


async def store_rows(
    ctx: NodeContext, place: Place, rows: list[Row], *, append: bool, keep_rows: int | None
) -> int | None:
    """Rows now there; None where nobody says so."""
    if place.storage == "table":
        return await ctx.datasets.write(
            str(place.name), rows, append=append, write_key=ctx.idempotency_key, keep_rows=keep_rows
        )
    if place.storage == "google_sheets":
        return await write_sheet(ctx, place.sheet(), rows, append=append)
    headers = {
        "content-type": MEDIA[place.storage],
        "idempotency-key": ctx.idempotency_key,
        **await _authorization(ctx, place),
    }
    body = write_file(rows, place.storage)
    response = await ctx.http.request(
        "PUT", str(place.url), headers=headers, content=body, timeout_s=TIMEOUT_S, follow_redirects=False
    )
    accept(response, "the server")
    return len(rows)


async def _authorization(ctx: NodeContext, place: Place) -> dict[str, str]:
    if place.authorization is None:
        return {}
    return {"authorization": await ctx.secrets.reveal(place.authorization)}


LIMIT = Field(default=1000, ge=1, le=MAX_ROWS, description="How many of the newest rows")
