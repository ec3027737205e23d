"""Routes of backtests: ask for one, follow it, take its result away."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Body, Query, Response
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.chain.client import ChainClient
from tradingflow.core.errors import DependencyUnavailable, InvalidInput
from tradingflow.db.models import BacktestJob
from tradingflow.py_worker.backtest.candle_files import TIME_NAMES
from tradingflow.py_worker.backtest.candles import NAMES
from tradingflow.py_worker.backtest.requests import EACH_CANDLE
from tradingflow.py_worker.backtests import store
from tradingflow.py_worker.backtests.exchange_history import COLUMNS, ExchangeHistory, Wanted
from tradingflow.py_worker.backtests.plan import make_plan
from tradingflow.py_worker.backtests.pool_events import pool_history
from tradingflow.py_worker.backtests.schemas import BacktestRequest, BacktestView, Failure, Progress, SeriesRequest
from tradingflow.py_worker.backtests.store import Submission
from tradingflow.py_worker.datasets import store as datasets
from tradingflow.py_worker.flows import store as flows
from tradingflow.py_worker.flows.cursor import decode_cursor, encode_cursor
from tradingflow.py_worker.flows.schemas import Cursor, Limit, Page
from tradingflow.py_worker.kit.context import HttpClient
from tradingflow.py_worker.kit.rows import Row, write_pieces
from tradingflow.py_worker.parts import Parts, TheParts, Transaction
from tradingflow.web.auth import CurrentUser
from tradingflow.web.errors import error_responses

router = APIRouter(prefix="/backtests", tags=["backtests"], responses=error_responses(401, 404, 422))
CANDLE_TITLES = frozenset({*TIME_NAMES, *NAMES})
MEDIA_TYPES = {"json": "application/json", "csv": "text/csv", "html": "text/html"}
RESULT = {200: {"content": {"application/json": {"schema": {"type": "object"}}, "text/csv": {}, "text/html": {}}}}


@router.post("", status_code=202, responses=error_responses(409, 429, 503))
async def start_backtest(asked: Annotated[BacktestRequest, Body()], user: CurrentUser, parts: TheParts) -> BacktestView:
    """Queue a backtest. It runs in a process of its own at any worker, and survives the worker's death."""
    async with parts.sessions.begin() as session:
        await store.require_room(session, user.user_id)
    async with parts.sessions() as session:
        request, version = await _request(session, user.user_id, asked)
        own = {series: await _text(session, user.user_id, series) for series in asked.data if not series.is_fetched}
    fetches = any(series.is_fetched for series in asked.data)
    with parts.downloads.place(user.user_id) if fetches else nullcontext():
        files = [
            own[series] if series in own else await _fetched(parts, user.user_id, asked, series)
            for series in asked.data
        ]
    plan = await asyncio.to_thread(make_plan, request, files)
    submission = Submission(asked.flow_id, version, request, files, plan.cycles)
    async with parts.sessions.begin() as session:
        return _view(await store.add(session, user.user_id, submission), parts.clock.now())


@router.get("")
async def list_backtests(
    session: Transaction, user: CurrentUser, parts: TheParts, limit: Limit = 100, cursor: Cursor = None
) -> Page[BacktestView]:
    """Your backtests, newest first."""
    found = await store.list_jobs(session, user.user_id, decode_cursor(cursor, int), limit + 1)
    page, now = found[:limit], parts.clock.now()
    following = encode_cursor(page[-1].number) if len(found) > limit else None
    return Page(items=[_view(job, now) for job in page], next_cursor=following)


@router.get("/{backtest_id}")
async def get_backtest(backtest_id: UUID, session: Transaction, user: CurrentUser, parts: TheParts) -> BacktestView:
    """How far a backtest has come, and its figures once it has completed."""
    return _view(await store.get(session, user.user_id, backtest_id), parts.clock.now())


@router.get(
    "/{backtest_id}/result",
    response_class=Response,
    responses={**RESULT, **error_responses(409)},  # type: ignore[dict-item]
)
async def get_result(
    backtest_id: UUID,
    session: Transaction,
    user: CurrentUser,
    file_format: Annotated[Literal["json", "csv", "html"], Query(alias="format")] = "json",
) -> Response:
    """The whole result as JSON, its trades as CSV, or the report as one HTML file that opens without a network."""
    name = store.RESULTS[file_format]
    content = await store.result_file(session, await store.get(session, user.user_id, backtest_id), name)
    headers = {} if file_format == "json" else {"content-disposition": f'attachment; filename="{name}"'}
    return Response(await asyncio.to_thread(zlib.decompress, content), 200, headers, MEDIA_TYPES[file_format])


@router.post("/{backtest_id}/cancel")
async def cancel_backtest(backtest_id: UUID, session: Transaction, user: CurrentUser, parts: TheParts) -> BacktestView:
    """Stop a backtest within seconds; one that has ended stays as it is."""
    job, now = await store.get(session, user.user_id, backtest_id, lock=True), parts.clock.now()
    if job.status in store.OPEN:
        job.status, job.finished_at = "cancelled", now
    return _view(job, now)


@router.delete("/{backtest_id}", status_code=204)
async def delete_backtest(backtest_id: UUID, session: Transaction, user: CurrentUser) -> None:
    """Delete a backtest with its result; one that runs is stopped."""
    await session.delete(await store.get(session, user.user_id, backtest_id, lock=True))


async def _request(session: AsyncSession, owner: UUID, asked: BacktestRequest) -> tuple[dict[str, Any], int | None]:
    """What the job's process reads, and the version of a stored flow."""
    spec, graph, flow_pk, version = asked.spec_fields(), asked.flow_json, None, None
    if asked.flow_id is not None:
        flow = await flows.get_flow(session, owner, asked.flow_id)
        stored = await flows.get_version(session, flow, asked.version or flow.current_version)
        graph, flow_pk, version = stored.graph, str(flow.id), stored.version
        if spec["cycle_interval"] is None:
            spec["cycle_interval"] = (await flows.get_schedule(session, flow)).cycle_interval
    if spec["cycle_interval"] == EACH_CANDLE:
        spec["cycle_interval"] = None
    named = [{"symbol": s.symbol, "interval": s.interval, "pool": s.pool is not None} for s in asked.data]
    request = {"flow_json": graph, "flow_pk": flow_pk, "name": asked.flow_id or "flow", "version": version or 1}
    return {**request, "spec": spec, "series": named}, version


async def _text(session: AsyncSession, owner: UUID, series: SeriesRequest) -> str:
    """The candles as CSV, so that later changes to a dataset do not change the backtest."""
    if series.dataset is None:
        text = series.csv or ""
        if not text.isascii():
            raise InvalidInput("invalid_candles", f"the data of {series.symbol} holds other than ASCII text")
        return text
    dataset = await datasets.get(session, owner, series.dataset)
    return await asyncio.to_thread(_candle_table, await datasets.row_texts(session, dataset))


def _candle_table(texts: Sequence[str]) -> str:
    """As CSV, made a row at a time, of no other columns than candles have: rows may name a million others."""
    return b"".join(write_pieces(lambda: map(_candle_row, texts), "csv")).decode()


def _candle_row(text: str) -> Row:
    row: Row = {}
    for name, value in json.loads(text).items():
        if (title := name.strip().lower()) in CANDLE_TITLES:
            row.setdefault(title, value)
    return row


def _http(parts: Parts, owner: UUID) -> HttpClient:
    if parts.around.http is None:
        raise DependencyUnavailable("http_unavailable", "this worker sends no requests")
    return parts.around.http.for_owner(owner)


async def _fetched(parts: Parts, owner: UUID, asked: BacktestRequest, series: SeriesRequest) -> str:
    """Candles of an exchange as CSV, or the history of a pool as JSON."""
    start, end = series.since or asked.start, asked.end
    if start is None or end is None or series.interval is None:
        raise InvalidInput("invalid_request", "`exchange` and `pool` need `from`, `to` and `interval`")
    if series.pool is not None:
        return await pool_history(parts.sessions, _chain(parts, series.chain_id), series.pool, start, end)
    first, last = (round(moment.timestamp() * 1000) for moment in (start, end))
    wanted = Wanted(series.exchange or "", series.symbol, series.interval, first, last, series.base_url)
    # No connection of the database is held while the exchange is asked.
    rows = await ExchangeHistory(parts.sessions, parts.clock, _http(parts, owner)).rows(wanted)
    return await asyncio.to_thread(_as_csv, rows)


def _chain(parts: Parts, chain_id: int | None) -> ChainClient:
    found = [client for known, client in parts.chains.items() if chain_id in (None, known)]
    if len(found) != 1:
        served = ", ".join(map(str, sorted(parts.chains))) or "none"
        raise InvalidInput("unknown_chain", f"say which of these chains the pool is on (`chain_id`): {served}")
    return found[0]


def _as_csv(rows: Sequence[Sequence[float]]) -> str:
    return "\n".join([",".join(COLUMNS), *(",".join(map(repr, row)) for row in rows)])


def _view(job: BacktestJob, now: datetime) -> BacktestView:
    rate = None
    if job.started_at is not None:
        seconds = ((job.finished_at or now) - job.started_at).total_seconds()
        rate = round(job.cycles_done / seconds, 1) if seconds > 0 else None
    failure = None
    if job.failure_code is not None:
        failure = Failure(error=job.failure_code, detail=job.failure_detail or "")
    return BacktestView(
        id=job.id,
        flow_id=job.flow_id,
        version=job.version,
        status=job.status,  # type: ignore[arg-type]
        attempt=job.attempt,
        progress=Progress(cycles_done=job.cycles_done, cycles_total=job.cycles_total, cycles_per_second=rate),
        figures=job.figures,
        failure=failure,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
    )
