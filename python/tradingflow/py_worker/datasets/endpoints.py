"""Routes of a user's datasets: what nodes wrote, to look at, fill, take away as a file, and delete."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import APIRouter, Body, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from tradingflow.core.errors import InvalidInput
from tradingflow.db.models import Dataset
from tradingflow.py_worker.datasets import store
from tradingflow.py_worker.flows.cursor import decode_cursor, encode_cursor
from tradingflow.py_worker.flows.schemas import Cursor, Limit, Page
from tradingflow.py_worker.kit.fields import KeepRows
from tradingflow.py_worker.kit.rows import DATASET_NAME, FileFormat, Row, parse_file, write_pieces
from tradingflow.py_worker.parts import TheParts, Transaction
from tradingflow.web.auth import CurrentUser
from tradingflow.web.errors import error_responses

router = APIRouter(prefix="/datasets", tags=["datasets"], responses=error_responses(401, 403, 404, 422))
CONFLICT = error_responses(409)
CONTENT_TYPES: dict[str, FileFormat] = {"text/csv": "csv", "application/json": "json"}

Name = Annotated[str, Path(pattern=DATASET_NAME, description="The dataset's name")]


class DatasetView(BaseModel):
    name: str
    rows: int
    bytes: int = Field(description="Size of the rows as JSON")
    created_at: datetime
    updated_at: datetime


class RowView(BaseModel):
    """`position` grows with each row ever written."""

    position: int
    value: dict[str, Any]


class RowsToAppend(BaseModel):
    """`write_key`: the same one a second time changes nothing."""

    model_config = ConfigDict(extra="forbid")

    rows: list[dict[str, Any]] = Field(max_length=10_000)
    write_key: str | None = Field(default=None, min_length=1, max_length=200, pattern=r"^[\x20-\x7e]+$")
    keep_rows: KeepRows | None = Field(default=None, description="Newest rows that stay")


@router.get("")
async def list_datasets(
    session: Transaction, user: CurrentUser, limit: Limit = 100, cursor: Cursor = None
) -> Page[DatasetView]:
    """Your datasets, by name."""
    found = await store.list_datasets(session, user.user_id, decode_cursor(cursor, str), limit + 1)
    page = [_view(dataset) for dataset in found[:limit]]
    return Page(items=page, next_cursor=encode_cursor(page[-1].name) if len(found) > limit else None)


@router.get("/{name}")
async def get_dataset(name: Name, session: Transaction, user: CurrentUser) -> DatasetView:
    """How much a dataset holds."""
    return _view(await store.get(session, user.user_id, name))


@router.get("/{name}/rows")
async def list_rows(
    name: Name, session: Transaction, user: CurrentUser, limit: Limit = 100, cursor: Cursor = None
) -> Page[RowView]:
    """Rows, newest first; a page ends early where its rows are large."""
    dataset = await store.get(session, user.user_id, name)
    found, last = await store.newest_rows(session, dataset, decode_cursor(cursor, int), limit)
    page = [RowView(position=row.position, value=row.value) for row in found]
    return Page(items=page, next_cursor=None if last is None else encode_cursor(last))


@router.get(
    "/{name}/file", response_class=Response, responses={200: {"content": {"text/csv": {}, "application/json": {}}}}
)
async def download(
    name: Name,
    session: Transaction,
    user: CurrentUser,
    file_format: Annotated[Literal["csv", "json"], Query(alias="format")] = "csv",
) -> Response:
    """All rows as a file, oldest first. In CSV, text a spreadsheet would compute begins with an apostrophe."""
    dataset = await store.get(session, user.user_id, name)
    texts = await store.row_texts(session, dataset)
    media = next(media for media, kind in CONTENT_TYPES.items() if kind == file_format)
    headers = {"content-disposition": f'attachment; filename="{name}.{file_format}"'}
    # Made in threads, a piece as the client takes it: a file may take seconds of processor time.
    pieces = write_pieces(lambda: map(json.loads, texts), file_format)
    return StreamingResponse(pieces, 200, headers, media)


@router.put("/{name}/file", responses=CONFLICT)
async def upload(name: Name, request: Request, session: Transaction, user: CurrentUser, parts: TheParts) -> DatasetView:
    """Replace all rows by those of a file: `text/csv` with a line of column names, or `application/json`, a list of
    objects. Creates the dataset when there is none."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in CONTENT_TYPES:
        raise InvalidInput("invalid_content_type", f"send one of {', '.join(CONTENT_TYPES)}")
    rows = parse_file(await request.body(), CONTENT_TYPES[media])
    return await _write(name, rows, store.Write(append=False, key=f"upload:{uuid4()}"), session, user, parts)


@router.post("/{name}/rows", responses=CONFLICT)
async def append_rows(
    name: Name,
    addition: Annotated[RowsToAppend, Body()],
    session: Transaction,
    user: CurrentUser,
    parts: TheParts,
) -> DatasetView:
    """Append rows. Creates the dataset when there is none."""
    key = f"rest:{addition.write_key or uuid4()}"
    return await _write(name, addition.rows, store.Write(True, key, addition.keep_rows), session, user, parts)


@router.delete("/{name}", status_code=204)
async def delete_dataset(name: Name, session: Transaction, user: CurrentUser) -> None:
    """Delete a dataset with its rows."""
    await store.remove(session, user.user_id, name)


async def _write(
    name: str, rows: list[Row], how: store.Write, session: Transaction, user: CurrentUser, parts: TheParts
) -> DatasetView:
    await store.write_rows(session, user.user_id, name, rows, how, parts.clock.now())
    await session.flush()
    dataset = await store.get(session, user.user_id, name)
    await session.refresh(dataset)
    return _view(dataset)


def _view(dataset: Dataset) -> DatasetView:
    return DatasetView.model_validate(dataset, from_attributes=True)
