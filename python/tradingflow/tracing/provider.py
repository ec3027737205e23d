"""The process's tracer provider: batches of spans to an OTLP endpoint over HTTP, in a thread of the SDK's own."""

from __future__ import annotations

from contextvars import ContextVar

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import SpanContext

from tradingflow import __version__
from tradingflow.core.config import PlatformSettings
from tradingflow.core.logging import REDACTED

_TRACES_PATH = "/v1/traces"
_URL_ATTRIBUTES = ("url.path", "url.query", "url.full")

given_span: ContextVar[SpanContext | None] = ContextVar("given_span", default=None)
"""The ids of the span that is started in this context; random ones without it."""


class GivenIds(IdGenerator):
    """Ids from `given_span`, so that a span told of twice is the same span."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()

    def generate_trace_id(self) -> int:
        given = given_span.get()
        return self._random.generate_trace_id() if given is None else given.trace_id

    def generate_span_id(self) -> int:
        given = given_span.get()
        return self._random.generate_span_id() if given is None else given.span_id


class WithoutUrls(SpanProcessor):
    """Blanks what FastAPI writes of a URL: a webhook's path is its secret, and queries are the users' own. The route
    stays."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        for name in _URL_ATTRIBUTES:
            if span.attributes and name in span.attributes:
                span.set_attribute(name, REDACTED)


def make_provider(
    settings: PlatformSettings, service: str, exporter: SpanExporter | None = None
) -> TracerProvider | None:
    """None while `OTEL_EXPORTER_OTLP_ENDPOINT` is not set. Shut the provider down at the end: it sends what is left.

    Whether a trace is kept follows from its id alone, so all services keep the same ones.
    """
    if settings.otel_exporter_otlp_endpoint is None:
        return None
    provider = TracerProvider(
        sampler=TraceIdRatioBased(settings.otel_traces_sample_ratio),
        resource=Resource.create(
            {"service.name": service, "service.namespace": "tradingflow", "service.version": __version__}
        ),
        id_generator=GivenIds(),
        shutdown_on_exit=False,
    )
    endpoint = settings.otel_exporter_otlp_endpoint.rstrip("/") + _TRACES_PATH
    provider.add_span_processor(WithoutUrls())
    provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter(endpoint=endpoint)))
    return provider
