"""`POST /flows/{id}/cycles/{n}/replay`: what the cycle did, and what another version would have done."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tradingflow.core.errors import InvalidInput
from tradingflow.db.models import JournalEntry
from tradingflow.py_worker.engine.cycle import Outcome
from tradingflow.py_worker.engine.graph import build_graph
from tradingflow.py_worker.flows import store
from tradingflow.py_worker.flows.cursor import decode_cursor, encode_cursor
from tradingflow.py_worker.flows.endpoints import OwnFlow
from tradingflow.py_worker.flows.schemas import Cursor, CycleNumber, FlowId, Limit, Page, StorableJson
from tradingflow.py_worker.parts import TheParts, Transaction
from tradingflow.py_worker.replay.replay import NodeDifference, Replay, Replayed
from tradingflow.py_worker.replay.store import read_recording
from tradingflow.web.auth import CurrentUser
from tradingflow.web.errors import error_responses

router = APIRouter(prefix="/flows", tags=["cycles"], responses=error_responses(401, 404, 422))
MAX_VERSION = 2**31 - 1
LONGEST_S = 60.0


class ReplayRequest(BaseModel):
    """Which graph to run: the version the cycle ran, another `version`, or one that is not stored (`flow_json`)."""

    model_config = ConfigDict(extra="forbid")

    version: int | None = Field(None, ge=1, le=MAX_VERSION)
    flow_json: StorableJson | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.version is not None and self.flow_json is not None:
            raise ValueError("give `version` or `flow_json`, not both")
        return self


class OutcomeView(BaseModel):
    status: str
    outputs: dict[str, Any]
    error: dict[str, Any] | None


class NodeDifferenceView(BaseModel):
    """`same` or `changed`; `added` or `removed` by the other graph; `kept`: ended from outside, left as recorded.

    `trade` is the swap the node asked for. `unanswered` names what it asked now that the cycle had not asked.
    """

    node_id: str
    verdict: Literal["same", "changed", "added", "removed", "kept"]
    recorded: OutcomeView | None
    replayed: OutcomeView | None
    recorded_trade: dict[str, Any] | None
    replayed_trade: dict[str, Any] | None
    unanswered: list[str]


class ReplayView(BaseModel):
    """`version` is what was replayed, null for a graph that is not stored."""

    flow_id: str
    cycle: int
    mode: str
    recorded_version: int
    version: int | None
    equal: bool
    recorded_status: str
    replayed_status: str
    nodes: list[NodeDifferenceView]


class JournalView(BaseModel):
    """What came in to one node from outside, in order: which part was asked, what, and what it answered."""

    node_id: str
    entries: list[dict[str, Any]]
    is_cut: bool


@router.post("/{flow_id}/cycles/{cycle}/replay", responses=error_responses(409, 429))
async def replay_cycle(
    flow_id: FlowId,
    cycle: CycleNumber,
    user: CurrentUser,
    parts: TheParts,
    request: Annotated[ReplayRequest | None, Body()] = None,
) -> ReplayView:
    """Run an ended cycle again from its journal. Nothing outside is asked, nothing is traded, nothing is stored.

    One replay of yours at a time, of at most 60 s.
    """
    wanted = request or ReplayRequest(version=None, flow_json=None)
    with parts.replays.place(user.user_id):
        async with parts.sessions() as session:
            flow = await store.get_flow(session, user.user_id, flow_id)
            found = await store.get_cycle(session, flow, cycle)
            recording = await read_recording(session, flow, found)
            version = None if wanted.flow_json is not None else wanted.version or found.version
            stored = None if version is None else await store.get_version(session, flow, version)
        graph = build_graph((wanted.flow_json or {}) if stored is None else stored.graph, parts.specs)
        sandbox = parts.around.code.for_owner(flow.user_id) if parts.around.code else None
        replayed = await _run(Replay(recording, graph, parts.types, sandbox))
    return ReplayView(
        flow_id=flow.flow_id,
        cycle=cycle,
        mode=found.mode,
        recorded_version=found.version,
        version=version,
        equal=replayed.is_equal,
        recorded_status=found.status,
        replayed_status=replayed.ending,
        nodes=[_view(node) for node in replayed.nodes],
    )


@router.get("/{flow_id}/cycles/{cycle}/journal")
async def cycle_journal(flow: OwnFlow, cycle: CycleNumber, session: Transaction) -> list[JournalView]:
    """What came in from outside in a cycle, by node. Secrets are named, never shown."""
    await store.get_cycle(session, flow, cycle)
    rows = await store.journal(session, flow, cycle)
    return [_journal_view(row) for row in rows]


class DivergenceView(BaseModel):
    """Where a live cycle and its shadow on paper went apart: in a `decision`, a `refusal`, or a `fill`."""

    id: int
    cycle: int
    node_id: str
    kind: str
    live: dict[str, Any]
    paper: dict[str, Any]
    deviation_bps: int | None
    bound_bps: int
    created_at: datetime


@router.get("/{flow_id}/divergences")
async def list_divergences(
    flow: OwnFlow, session: Transaction, limit: Limit = 100, cursor: Cursor = None
) -> Page[DivergenceView]:
    """Where the flow's live cycles differed from their shadows beyond the bound, newest first."""
    rows = await store.divergences(session, flow, decode_cursor(cursor, int), limit + 1)
    page = [DivergenceView.model_validate(row, from_attributes=True) for row in rows[:limit]]
    return Page(items=page, next_cursor=encode_cursor(page[-1].id) if len(rows) > limit else None)


async def _run(replay: Replay) -> Replayed:
    """Raises InvalidInput for one that takes too long."""
    try:
        async with asyncio.timeout(LONGEST_S):
            return await replay.run()
    except TimeoutError as error:
        raise InvalidInput(
            "replay_too_long", f"a replay may take {LONGEST_S:g} s; replay a graph with less code to run again"
        ) from error


def _view(node: NodeDifference) -> NodeDifferenceView:
    return NodeDifferenceView(
        node_id=node.node_id,
        verdict=node.verdict,
        recorded=_outcome(node.recorded),
        replayed=_outcome(node.replayed),
        recorded_trade=_shown(node.recorded_intent),
        replayed_trade=_shown(node.replayed_intent),
        unanswered=list(node.unanswered),
    )


def _outcome(outcome: Outcome | None) -> OutcomeView | None:
    if outcome is None:
        return None
    error = None if outcome.error is None else dict(outcome.error)
    return OutcomeView(status=outcome.status, outputs=dict(outcome.outputs), error=error)


def _shown(intent: Any) -> dict[str, Any] | None:
    """An intent with its amount as a string, as every amount on the API."""
    return None if intent is None else {**intent, "amount_in": str(intent["amount_in"])}


def _journal_view(row: JournalEntry) -> JournalView:
    return JournalView(node_id=row.node_id, entries=row.entries, is_cut=row.is_cut)
