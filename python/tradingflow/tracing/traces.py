"""Telling of cycles, node tasks and trades once they have ended. Attributes are names and numbers, never values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, set_span_in_context

from tradingflow.tracing.identity import cycle_span, node_span, trade_span
from tradingflow.tracing.provider import given_span


@dataclass(frozen=True)
class Ended:
    """Something that began, ended and has a status; `error` is the code of what went wrong."""

    name: str
    started_at: datetime
    finished_at: datetime
    status: str
    error: str | None = None
    attributes: Mapping[str, str | int] = field(default_factory=dict)


class Traces:
    """Writes ended spans to a provider; without one it costs a comparison."""

    def __init__(self, provider: TracerProvider | None) -> None:
        self._provider = provider
        self._tracer = None if provider is None else provider.get_tracer("tradingflow")

    @property
    def enabled(self) -> bool:
        return self._tracer is not None

    def cycle(self, flow_pk: UUID, cycle: int, ended: Ended, nodes: Iterable[Ended]) -> None:
        """A cycle and its node tasks, named by node id."""
        root = cycle_span(flow_pk, cycle)
        self._write(root, None, ended)
        for node in nodes:
            self._write(node_span(flow_pk, cycle, node.name), root, node)

    def trade(self, flow_pk: UUID, cycle: int, node_id: str, trade_id: str, ended: Ended) -> None:
        """A settled trade."""
        self._write(trade_span(flow_pk, cycle, trade_id), node_span(flow_pk, cycle, node_id), ended)

    def close(self) -> None:
        """Send what is left."""
        if self._provider is not None:
            self._provider.shutdown()

    def _write(self, span: SpanContext, parent: SpanContext | None, ended: Ended) -> None:
        copy_context().run(self._write_here, span, parent, ended)

    def _write_here(self, span: SpanContext, parent: SpanContext | None, ended: Ended) -> None:
        if self._tracer is None:
            return
        given_span.set(span)
        written = self._tracer.start_span(
            ended.name,
            context=set_span_in_context(NonRecordingSpan(parent), _EMPTY) if parent else _EMPTY,
            kind=SpanKind.INTERNAL,
            start_time=_nanoseconds(ended.started_at),
            attributes={**ended.attributes, "tradingflow.status": ended.status},
        )
        if ended.status == "failed":
            written.set_status(Status(StatusCode.ERROR, ended.error))
        written.end(_nanoseconds(max(ended.started_at, ended.finished_at)))


NO_TRACES = Traces(None)


def link_to_cycle(flow_pk: UUID, cycle: int) -> None:
    """Let the request that is being answered point to the cycle it started; without traces it costs a comparison."""
    request = trace.get_current_span()
    if request.is_recording():
        request.add_link(cycle_span(flow_pk, cycle))


_EMPTY = trace.set_span_in_context(trace.INVALID_SPAN)


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000) * 1_000
