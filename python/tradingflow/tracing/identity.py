"""Trace and span ids that follow from what they tell of (W3C Trace Context: 16 and 8 bytes, never all zero)."""

from __future__ import annotations

import hashlib
from uuid import UUID

from opentelemetry.trace import SpanContext, TraceFlags

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def cycle_span(flow_pk: UUID, cycle: int) -> SpanContext:
    """The root of a cycle's trace."""
    return SpanContext(
        _trace_id(flow_pk, cycle), _span_id(b"cycle", flow_pk, cycle), is_remote=True, trace_flags=_SAMPLED
    )


def node_span(flow_pk: UUID, cycle: int, node_id: str) -> SpanContext:
    """One node task, below its cycle."""
    span_id = _span_id(b"node", flow_pk, cycle, node_id.encode())
    return SpanContext(_trace_id(flow_pk, cycle), span_id, is_remote=True, trace_flags=_SAMPLED)


def trade_span(flow_pk: UUID, cycle: int, trade_id: str) -> SpanContext:
    """One trade, below the node task that asked for it."""
    span_id = _span_id(b"trade", flow_pk, cycle, trade_id.encode())
    return SpanContext(_trace_id(flow_pk, cycle), span_id, is_remote=True, trace_flags=_SAMPLED)


def _trace_id(flow_pk: UUID, cycle: int) -> int:
    return int.from_bytes(hashlib.blake2b(flow_pk.bytes + cycle.to_bytes(8), digest_size=16).digest())


def _span_id(kind: bytes, flow_pk: UUID, cycle: int, name: bytes = b"") -> int:
    digest = hashlib.blake2b(flow_pk.bytes + cycle.to_bytes(8) + name, digest_size=8, person=kind)
    return int.from_bytes(digest.digest())
