"""Runs one node task: inputs, time-out, retries, and the ending that its error policy gives it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from tradingflow.core.errors import InvalidInput, TradingFlowError
from tradingflow.core.logging import get_logger
from tradingflow.core.storable import storable_text
from tradingflow.db.failures import passing_failure
from tradingflow.py_worker.engine.cycle import Outcome, inputs_of
from tradingflow.py_worker.engine.graph import GraphNode
from tradingflow.py_worker.engine.spec import ERROR_HANDLE
from tradingflow.py_worker.kit import Incoming, Json, NodeContext
from tradingflow.py_worker.kit.registry import AnyNode
from tradingflow.py_worker.runtime.context import (
    BufferedState,
    CollectedLog,
    RunContext,
    RunRecorder,
    Surroundings,
)
from tradingflow.py_worker.runtime.journal import Journal, JournalingContext
from tradingflow.py_worker.runtime.live import LiveCycle
from tradingflow.py_worker.runtime.records import JournalText, LogLine
from tradingflow.py_worker.runtime.store import CycleStore

log = get_logger(__name__)

MAX_OUTPUT_BYTES = 1_000_000
# A failure that is routed travels twice in one message, which must stay far below what the broker takes.
MAX_DETAIL_CHARS = 10_000
# PostgreSQL cannot hold it in jsonb or text.
_NUL = b"\\u0000"
_encode = msgspec.json.Encoder().encode

Pause = Callable[[float], Awaitable[None]]
"""Waits so many seconds between two attempts; others may run meanwhile, so it may take longer."""


@dataclass(slots=True)
class Ended:
    """An outcome with what goes into the same transaction. `outputs` is `outcome.outputs` as JSON."""

    outcome: Outcome
    outputs: bytes
    logs: list[LogLine]
    state: Mapping[str, Json] = field(default_factory=dict)
    journal: JournalText | None = None


class NodeFailure(Exception):
    """Why a node task failed, in the words its owner reads."""

    def __init__(self, code: str, detail: str, *, retryable: bool = True) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail
        self.retryable = retryable

    def told(self) -> dict[str, str]:
        """As the task's error is stored and sent on, in a cycle and in its replay."""
        return {"error": storable_text(self.code), "detail": storable_text(self.detail)[:MAX_DETAIL_CHARS]}


async def execute_node(
    node_type: AnyNode, context: NodeContext, node: GraphNode, inputs: Mapping[str, Json]
) -> dict[str, Json]:
    """One attempt at a node: the signals it sends. Raises NodeFailure for whatever goes wrong in it."""
    try:
        async with asyncio.timeout(node.policy.timeout_s):
            outputs = await node_type.execute(context, node.config, inputs)
        return outputs.signals()
    except TimeoutError as error:
        raise NodeFailure("timeout", f"did not end within {node.policy.timeout_s:g} s") from error
    except InvalidInput as error:
        raise NodeFailure(error.code, error.detail, retryable=False) from error
    except TradingFlowError as error:
        raise NodeFailure(error.code, error.detail) from error
    except Exception as error:  # the engine's edge: user-supplied and third-party nodes end here, not the worker
        # Only what comes through SQLAlchemy is surely PostgreSQL's; a node has connections of its own to lose.
        if isinstance(error, SQLAlchemyError) and (passing := passing_failure(error)) is not None:
            raise NodeFailure(passing.code, passing.detail) from error
        log.exception("node defect", node_type=node.type, flow_id=context.flow_id, node_id=node.id)
        raise NodeFailure("node_defect", f"the node broke with {type(error).__name__}") from error


class NodeRunner:
    def __init__(self, types: Mapping[str, AnyNode], around: Surroundings, store: CycleStore) -> None:
        self._types = types
        self._around = around
        self._store = store

    async def run(self, live: LiveCycle, index: int, started_at: datetime, pause: Pause) -> Ended:
        """The ending of a node task. Raises only CancelledError: whatever a node does is an outcome."""
        node = live.graph.nodes[index]
        try:
            return await self._run(live, node, started_at, pause)
        except Exception as error:  # the engine's edge: without an ending the node would seem to run for ever
            log.exception("ending of a node not kept", node_type=node.type, flow_id=live.flow_id, node_id=node.id)
            broken = NodeFailure("node_defect", f"what the node left could not be kept: {type(error).__name__}")
            return self._failed(node, broken, 1, started_at, self._recorder(live, node, self._log()))

    async def _run(self, live: LiveCycle, node: GraphNode, started_at: datetime, pause: Pause) -> Ended:
        arrivals = live.state.arrivals(node.index)
        inputs = inputs_of(node, arrivals)
        incoming = [
            Incoming(live.graph.nodes[a.source].id, a.source_handle, a.target_handle, a.value) for a in arrivals
        ]
        told = self._log()
        attempt = 1
        while True:
            recorder = self._recorder(live, node, told)
            try:
                outputs = await self._attempt(live, node, inputs, incoming, recorder)
                return self._completed(outputs, attempt, started_at, recorder)
            except NodeFailure as failure:
                told.add("ERROR", f"{failure.code}: {failure.detail}", {"attempt": attempt})
                if attempt >= node.policy.retry.max_attempts or not failure.retryable:
                    return self._failed(node, failure, attempt, started_at, recorder)
            await pause(node.policy.retry.pause_s(attempt))
            attempt += 1

    def _log(self) -> CollectedLog:
        return CollectedLog(self._around.clock, "node")

    def _recorder(self, live: LiveCycle, node: GraphNode, told: CollectedLog) -> RunRecorder:
        return RunRecorder(told, BufferedState(lambda key: self._read_state(live, node, key)), Journal())

    async def _attempt(
        self,
        live: LiveCycle,
        node: GraphNode,
        inputs: Mapping[str, Json],
        incoming: list[Incoming],
        recorder: RunRecorder,
    ) -> dict[str, Json]:
        context = RunContext(self._around, live, node.index, incoming, recorder)
        journaled = cast("NodeContext", JournalingContext(context, recorder.journal))
        return await execute_node(self._types[node.type], journaled, node, inputs)

    def _completed(self, outputs: dict[str, Json], attempt: int, started_at: datetime, recorder: RunRecorder) -> Ended:
        encoded = encoded_json(outputs)
        encoded_json(recorder.state.writes)
        outcome = Outcome("completed", outputs, None, attempt, started_at, self._around.clock.now())
        return Ended(outcome, encoded, recorder.log.lines(), recorder.state.writes, recorder.journal.text())

    def _failed(
        self, node: GraphNode, failure: NodeFailure, attempt: int, started_at: datetime, recorder: RunRecorder
    ) -> Ended:
        error = failure.told()
        outputs: dict[str, Any] = {ERROR_HANDLE: error} if node.policy.on_error == "route" else {}
        outcome = Outcome("failed", outputs, error, attempt, started_at, self._around.clock.now())
        return Ended(outcome, _encode(outputs), recorder.log.lines(), journal=recorder.journal.text())

    async def _read_state(self, live: LiveCycle, node: GraphNode, key: str) -> Json:
        return await self._store.node_state(live.key[0], node.id, key)


def encoded_json(values: Mapping[str, Json]) -> bytes:
    """JSON that PostgreSQL can hold; raises NodeFailure otherwise."""
    try:
        encoded = _encode(values)
    except (TypeError, ValueError, OverflowError, UnicodeEncodeError) as error:
        raise NodeFailure("invalid_output", "an output is not JSON", retryable=False) from error
    if len(encoded) > MAX_OUTPUT_BYTES:
        raise NodeFailure("output_too_large", f"outputs have at most {MAX_OUTPUT_BYTES} bytes as JSON", retryable=False)
    if _NUL in encoded:
        raise NodeFailure("invalid_output", "an output holds the character NUL", retryable=False)
    return encoded
