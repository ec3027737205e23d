"""From a request to the nodes of the cycle it starts, as an OTLP collector receives it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.integration.local_server import LocalServer, server
from tests.integration.worker.conftest import Client, StartWorker

__all__ = ["server"]

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def received(collector: LocalServer) -> list[Span]:
    """Every span that reached the collector."""
    requests = [ExportTraceServiceRequest.FromString(body) for body in collector.bodies]
    scopes = [scope for request in requests for part in request.resource_spans for scope in part.scope_spans]
    return [span for scope in scopes for span in scope.spans]


async def test_a_request_points_to_the_cycle_and_the_cycle_holds_its_nodes(
    start_worker: StartWorker, server: LocalServer, add_user: Callable[[], Any]
) -> None:
    nodes = [{"id": "first", "type": "emit"}, {"id": "second", "type": "pass"}]
    edges = [{"source": "first", "source_handle": "value", "target": "second", "target_handle": "value"}]
    async with start_worker(otel_exporter_otlp_endpoint=server.url("").rstrip("/")) as app:
        transport = httpx.ASGITransport(app=app)
        headers = {"traceparent": CALLER}
        async with httpx.AsyncClient(transport=transport, base_url="http://worker", headers=headers) as http:
            client = Client(http, await add_user())
            await client.execute("traced", nodes, edges)
            await client.cycle_end("traced")
            await client.ok("POST", "/flows/traced/cycles?key=hidden", {})
            await client.cycle_end("traced", 1)

    spans = received(server)
    request = next(span for span in spans if span.name == "POST /flows/{flow_id}/cycles")
    [link] = [link for span in spans if span.trace_id == request.trace_id for link in span.links]
    cycle = next(span for span in spans if (span.trace_id, span.span_id) == (link.trace_id, link.span_id))
    tasks = {span.name: span for span in spans if span.parent_span_id == cycle.span_id}
    assert request.trace_id.hex() == CALLER.split("-")[1]
    assert b"hidden" not in b"".join(server.bodies)
    assert (cycle.name, set(tasks)) == ("cycle", {"first", "second"})
    assert {span.trace_id for span in tasks.values()} == {cycle.trace_id}
    assert cycle.start_time_unix_nano == tasks["first"].start_time_unix_nano
    assert cycle.end_time_unix_nano == tasks["second"].end_time_unix_nano
