"""Talking to a provider of data or messages: one place that knows what its failures mean."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import httpx

from tradingflow.core.errors import DependencyUnavailable, TooManyRequests
from tradingflow.outbound.client import HttpResponse
from tradingflow.py_worker.kit.context import HttpClient, NodeContext
from tradingflow.py_worker.kit.handles import Json
from tradingflow.py_worker.kit.node import NodeFailed

DEFAULT_RETRY_AFTER_S = 5
LONGEST_EXCERPT = 300


def join_url(base: str, *path: str, query: Mapping[str, Any] | None = None) -> str:
    """`base` and path segments, each quoted, so that no segment can change the path or add a query."""
    url = "/".join([base.rstrip("/"), *(quote(segment, safe="") for segment in path)])
    given = {key: value for key, value in (query or {}).items() if value is not None}
    return f"{url}?{urlencode(given)}" if given else url


async def ask_json(
    ctx: NodeContext,
    provider: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: Json = None,
    timeout_s: float = 15.0,
    max_body_bytes: int = 2_000_000,
) -> Json:
    """GET, or POST when there is a body, and read JSON. See `accept` for what it raises."""
    sent = {"accept": "application/json", **(headers or {})}
    content = None
    if body is not None:
        sent["content-type"], content = "application/json", json.dumps(body).encode()
    response = await ctx.http.request(
        "GET" if content is None else "POST",
        url,
        headers=sent,
        content=content,
        timeout_s=timeout_s,
        max_body_bytes=max_body_bytes,
    )
    accept(response, provider)
    return parse_json(response, provider)


def accept(response: HttpResponse, provider: str) -> None:
    """Raises TooManyRequests (429), DependencyUnavailable (5xx), NodeFailed (any other refusal, with its words)."""
    if response.status == 429:
        raise TooManyRequests("provider_busy", f"{provider} asks us to slow down", retry_after_s(response))
    if response.status >= 500:
        raise DependencyUnavailable("provider_failed", f"{provider} answers {response.status}")
    if response.status >= 300:
        raise NodeFailed("provider_refused", f"{provider} answers {response.status}: {excerpt(response.body)}")


def parse_json(response: HttpResponse, provider: str) -> Json:
    """Raises DependencyUnavailable for a body that is no JSON."""
    try:
        return json.loads(response.body)
    except (ValueError, RecursionError) as error:
        raise malformed(provider, "its answer is no JSON") from error


def malformed(provider: str, what: str) -> DependencyUnavailable:
    """The provider answered, but not in its own format."""
    return DependencyUnavailable("provider_malformed", f"{provider}: {what}")


def retry_after_s(response: HttpResponse) -> int:
    """Whole seconds of the Retry-After header; the date form and nonsense count as the default."""
    text = response.headers.get("retry-after", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else DEFAULT_RETRY_AFTER_S


def excerpt(body: bytes) -> str:
    text = body[: 4 * LONGEST_EXCERPT].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else " " for c in text)[:LONGEST_EXCERPT]


class ContextTransport(httpx.AsyncBaseTransport):
    """Lets a library built on httpx send through the node's guarded client, and through nothing else."""

    def __init__(self, http: HttpClient, *, timeout_s: float, max_body_bytes: int = 2_000_000) -> None:
        self._http = http
        self._timeout_s = timeout_s
        self._max_body_bytes = max_body_bytes

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        content = await request.aread()
        answer = await self._http.request(
            request.method,
            str(request.url),
            headers={name: value for name, value in request.headers.items() if name not in _HOP_HEADERS},
            content=content or None,
            timeout_s=self._timeout_s,
            max_body_bytes=self._max_body_bytes,
        )
        headers = {name: value for name, value in answer.headers.items() if name not in _HOP_HEADERS}
        return httpx.Response(answer.status, headers=headers, content=answer.body, request=request)


_HOP_HEADERS = frozenset({"host", "connection", "content-length", "transfer-encoding", "accept-encoding"})
