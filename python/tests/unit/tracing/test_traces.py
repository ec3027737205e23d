"""A cycle is one trace, whoever tells of its parts and however often."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from tradingflow.core.config import PlatformSettings
from tradingflow.tracing import traces
from tradingflow.tracing.identity import cycle_span, node_span, trade_span
from tradingflow.tracing.provider import make_provider
from tradingflow.tracing.traces import Ended, Traces, link_to_cycle

FLOW = UUID(int=7)
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
ENDED = BEGAN + timedelta(milliseconds=250)


class Told:
    """Traces of one service, and what it exported."""

    def __init__(self, service: str, ratio: float = 1.0) -> None:
        self._exporter = InMemorySpanExporter()
        settings = PlatformSettings(otel_exporter_otlp_endpoint="http://nowhere", otel_traces_sample_ratio=ratio)
        self.traces = Traces(make_provider(settings, service, self._exporter))

    def spans(self) -> dict[str, ReadableSpan]:
        self.traces.close()
        return {span.name: span for span in self._exporter.get_finished_spans()}


@pytest.fixture
def worker() -> Iterator[Told]:
    told = Told("py_worker")
    yield told
    told.traces.close()


def tell_of_a_cycle(traces: Traces, cycle: int = 3) -> None:
    nodes = [Ended("price", BEGAN, ENDED, "completed"), Ended("buy", BEGAN, ENDED, "failed", "slippage")]
    traces.cycle(FLOW, cycle, Ended("cycle", BEGAN, ENDED, "failed"), nodes)


def test_node_tasks_are_below_their_cycle(worker: Told) -> None:
    tell_of_a_cycle(worker.traces)
    spans = worker.spans()
    cycle, price, buy = spans["cycle"], spans["price"], spans["buy"]
    assert cycle.parent is None
    assert price.parent is not None
    assert price.parent.span_id == cycle.context.span_id
    assert {span.context.trace_id for span in (cycle, price, buy)} == {cycle_span(FLOW, 3).trace_id}
    assert buy.status.status_code is StatusCode.ERROR
    assert buy.status.description == "slippage"
    assert price.end_time is not None
    assert price.start_time is not None
    assert price.end_time - price.start_time == 250_000_000


def test_another_service_tells_of_the_trade_below_the_node_that_asked_for_it(worker: Told) -> None:
    executor = Told("executor")
    tell_of_a_cycle(worker.traces)
    executor.traces.trade(FLOW, 3, "buy", "0x01", Ended("trade", BEGAN, ENDED, "completed"))
    trade, buy = executor.spans()["trade"], worker.spans()["buy"]
    assert trade.parent is not None
    assert (trade.context.trace_id, trade.parent.span_id) == (buy.context.trace_id, buy.context.span_id)
    assert trade.resource.attributes["service.name"] == "executor"


def test_telling_again_tells_of_the_same_spans() -> None:
    first, second = Told("a"), Told("b")
    for told in (first, second):
        tell_of_a_cycle(told.traces)
    assert {n: s.context for n, s in first.spans().items()} == {n: s.context for n, s in second.spans().items()}


def test_every_service_keeps_the_same_share_of_traces() -> None:
    kept = []
    for service in ("a", "b"):
        told = Told(service, ratio=0.5)
        for cycle in range(64):
            told.traces.cycle(FLOW, cycle, Ended(str(cycle), BEGAN, ENDED, "completed"), [])
        kept.append(set(told.spans()))
    assert kept[0] == kept[1]
    assert 0 < len(kept[0]) < 64


def test_without_an_endpoint_nothing_is_told() -> None:
    traces = Traces(make_provider(PlatformSettings(otel_exporter_otlp_endpoint=None), "py_worker"))
    assert not traces.enabled
    tell_of_a_cycle(traces)
    traces.close()


def test_a_request_points_to_the_cycle_it_started() -> None:
    exporter = InMemorySpanExporter()
    settings = PlatformSettings(otel_exporter_otlp_endpoint="http://nowhere")
    provider = make_provider(settings, "py_worker", exporter)
    assert provider is not None
    with provider.get_tracer("test").start_as_current_span("request"):
        link_to_cycle(FLOW, 3)
    provider.shutdown()
    [request] = exporter.get_finished_spans()
    [link] = request.links
    assert link.context == cycle_span(FLOW, 3)


def test_a_request_that_leaves_no_trace_hashes_no_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object) -> None:
        raise AssertionError("nobody reads it")

    monkeypatch.setattr(traces, "cycle_span", asked)
    link_to_cycle(FLOW, 3)


@given(st.uuids(), st.integers(0, 2**63 - 1), st.text(min_size=1))
def test_ids_are_valid_and_differ_by_kind(flow: UUID, cycle: int, name: str) -> None:
    spans = [cycle_span(flow, cycle), node_span(flow, cycle, name), trade_span(flow, cycle, name)]
    assert all(span.is_valid for span in spans)
    assert len({span.span_id for span in spans}) == 3
