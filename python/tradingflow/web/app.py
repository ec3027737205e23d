"""The app every service starts from: errors, health, metrics, request ids, body limit, security headers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import lru_cache
from uuid import uuid4

import structlog
from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tradingflow import __version__
from tradingflow.core.logging import get_logger
from tradingflow.web.docs_page import install_docs_page
from tradingflow.web.errors import error_responses, install_error_handlers, internal_error

log = get_logger(__name__)

MAX_BODY_BYTES = 1_000_000
READINESS_TIMEOUT_S = 3.0
SECURITY_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
    # Answers are data: whatever a browser is made to show of them may load nothing and run nothing.
    b"content-security-policy": b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}
HTTPS_ONLY = {b"strict-transport-security": b"max-age=31536000"}

Check = Callable[[], Awaitable[None]]
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

REQUESTS = Counter("http_requests_total", "Requests answered", ["method", "route", "status"])
LATENCY = Histogram("http_request_duration_seconds", "Time from request to answer", ["method", "route"])


class Health(BaseModel):
    status: str


class Readiness(BaseModel):
    """`checks` maps what the service needs to "ok" or to what is wrong with it."""

    status: str
    checks: dict[str, str]


def make_app(
    *,
    title: str,
    description: str,
    lifespan: Lifespan,
    readiness: dict[str, Check],
    routes: Sequence[BaseRoute] = (),
    tracer_provider: TracerProvider | None = None,
    https_only: bool = False,
) -> FastAPI:
    """An app with the platform's edges in place.

    `routes` are the service's own (`routes_of`). `readiness` names what it needs; a check raises when that is not
    there. Checks may be added to the dict later, for parts that only exist once the lifespan has started. Without a
    `tracer_provider` requests leave no traces; a given one is shut down with the app. `https_only` tells browsers to
    come over https from now on.
    """
    app = FastAPI(
        title=title,
        description=description,
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan if tracer_provider is None else _sending_the_rest(lifespan, tracer_provider),
        responses=error_responses(422),
        telemetry={
            "tracing": tracer_provider is not None,
            "tracer_provider": tracer_provider,
            "metrics": False,
            "logs": False,
        },
    )
    install_error_handlers(app)
    _install_health(app, readiness)
    install_docs_page(app)
    app.router.routes.extend(routes)
    app.add_middleware(EdgeMiddleware, headers=SECURITY_HEADERS | (HTTPS_ONLY if https_only else {}))
    return app


def routes_of(routers: Iterable[APIRouter]) -> Sequence[BaseRoute]:
    """The routes of a service, for all apps a process makes: FastAPI builds them once, at their first requests.

    That takes a third of a second for a whole service, and every test has an app of its own.
    """
    service = APIRouter(responses=error_responses(422))
    for router in routers:
        service.include_router(router)
    return service.routes


def _sending_the_rest(lifespan: Lifespan, tracer_provider: TracerProvider) -> Lifespan:
    @asynccontextmanager
    async def both(app: FastAPI) -> AsyncIterator[None]:
        try:
            async with lifespan(app):
                yield
        finally:
            await asyncio.to_thread(tracer_provider.shutdown)

    return both


def _install_health(app: FastAPI, readiness: dict[str, Check]) -> None:
    @app.get("/health", tags=["operation"])
    async def health() -> Health:
        """The process is alive. Says nothing of what it needs: see /health/ready."""
        return Health(status="ok")

    @app.get("/health/ready", tags=["operation"], responses={503: {"model": Readiness}})
    async def ready() -> JSONResponse:
        """Everything this service needs answers; 503 names what does not."""
        answers = await asyncio.gather(*(_ask(check) for check in readiness.values()))
        checks = dict(zip(readiness, answers, strict=True))
        healthy = all(answer == "ok" for answer in answers)
        body = Readiness(status="ok" if healthy else "unavailable", checks=checks)
        return JSONResponse(body.model_dump(), 200 if healthy else 503)

    @app.get("/metrics", tags=["operation"], response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Prometheus text format."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


async def _ask(check: Check) -> str:
    try:
        async with asyncio.timeout(READINESS_TIMEOUT_S):
            await check()
    except TimeoutError:
        return f"no answer within {READINESS_TIMEOUT_S:g} s"
    except Exception as error:  # noqa: BLE001 (the edge: whatever is wrong, readiness says so and lives on)
        log.debug("readiness check failed", error=error)  # whoever asked is told; probes come every second
        return type(error).__name__
    return "ok"


class EdgeMiddleware:
    """Pure ASGI: request id in logs and answer, body limit, security headers, metrics."""

    def __init__(self, app: ASGIApp, headers: Mapping[bytes, bytes]) -> None:
        self._app = app
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = uuid4().hex
        started = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                present = {name.lower() for name, _ in message["headers"]}
                extra = [(n, v) for n, v in self._headers.items() if n not in present]
                message["headers"] = [*message["headers"], *extra, (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            if _declared_length(scope) > MAX_BODY_BYTES:
                await _too_large(scope, receive, send_with_headers)
                return
            with structlog.contextvars.bound_contextvars(request_id=request_id):
                await self._app(scope, _limited(receive), send_with_headers)
        except Exception:
            # The framework's own answer to what nobody expected would pass by this edge; it still logs it.
            if not status:
                await internal_error()(scope, receive, send_with_headers)
            raise
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            requests, latency = _meters(scope["method"], route, status)
            requests.inc()
            latency.observe(time.perf_counter() - started)


@lru_cache(maxsize=1024)
def _meters(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    """Prometheus looks a series up under a lock at every call of `labels`."""
    return REQUESTS.labels(method, route, status), LATENCY.labels(method, route)


def _declared_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


def _limited(receive: Receive) -> Receive:
    """Count what actually arrives: a chunked body declares no length."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MAX_BODY_BYTES:
            raise HTTPException(413, f"a request body may have at most {MAX_BODY_BYTES} bytes")
        return message

    return counted


async def _too_large(scope: Scope, receive: Receive, send: Send) -> None:
    body = {"error": "body_too_large", "detail": f"a request body may have at most {MAX_BODY_BYTES} bytes"}
    await JSONResponse(body, 413)(scope, receive, send)
