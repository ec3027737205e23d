"""The HTTP edge every service shares: errors that speak, readiness that names what is missing, bounded bodies."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY
from pydantic import BaseModel

from tradingflow.core.errors import DependencyUnavailable, InvalidInput, NotFound, TooManyRequests
from tradingflow.web.app import MAX_BODY_BYTES, make_app
from tradingflow.web.auth import CurrentUser


class Order(BaseModel):
    amount: int


@asynccontextmanager
async def _no_lifespan(_: FastAPI) -> AsyncIterator[None]:
    yield


async def _fine() -> None:
    return None


async def _broken() -> None:
    raise ConnectionRefusedError("redis://:secret@host")


@pytest.fixture
def readiness() -> dict[str, object]:
    return {"postgres": _fine}


@pytest.fixture
def app(readiness: dict[str, object]) -> FastAPI:
    app = make_app(title="t", description="", lifespan=_no_lifespan, readiness=readiness)  # type: ignore[arg-type]

    @app.post("/orders")
    async def order(body: Order) -> Order:
        return body

    @app.get("/raise/{what}")
    async def fail(what: str) -> None:
        raise {
            "input": InvalidInput("bad_word", "only good words are allowed"),
            "missing": NotFound("flow", 7),
            "busy": TooManyRequests("slow_down", "5 a minute are allowed", 12),
            "away": DependencyUnavailable("db_away", "PostgreSQL does not answer"),
            "bug": RuntimeError("secret internals"),
        }[what]

    @app.get("/mine")
    async def mine(user: CurrentUser) -> None:
        return None

    return app


@pytest.fixture
def client(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://t")


@pytest.mark.parametrize(
    ("what", "status", "code"),
    [
        ("input", 422, "bad_word"),
        ("missing", 404, "not_found"),
        ("busy", 429, "slow_down"),
        ("away", 503, "db_away"),
        ("bug", 500, "internal_error"),
    ],
)
async def test_each_error_becomes_a_code_and_a_detail(
    client: httpx.AsyncClient, what: str, status: int, code: str
) -> None:
    answer = await client.get(f"/raise/{what}")
    assert answer.status_code == status
    assert answer.json()["error"] == code
    assert set(answer.json()) == {"error", "detail"}
    assert "secret internals" not in answer.text


async def test_too_many_requests_says_when_to_come_back(client: httpx.AsyncClient) -> None:
    assert (await client.get("/raise/busy")).headers["retry-after"] == "12"


async def test_a_bad_body_names_the_field_and_keeps_the_value_to_itself(client: httpx.AsyncClient) -> None:
    answer = await client.post("/orders", json={"amount": "hunter2"})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("amount: ")
    assert "hunter2" not in answer.text


async def test_an_unknown_path_and_method_speak_like_every_error(client: httpx.AsyncClient) -> None:
    assert (await client.get("/nowhere")).json()["error"] == "not_found"
    assert (await client.delete("/orders")).json()["error"] == "method_not_allowed"


async def test_a_route_for_users_asks_for_a_token(client: httpx.AsyncClient) -> None:
    answer = await client.get("/mine")
    assert answer.status_code == 401
    assert answer.json()["error"] == "missing_token"
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_body_over_the_limit_is_refused_when_declared(client: httpx.AsyncClient) -> None:
    answer = await client.post("/orders", content=b"x" * (MAX_BODY_BYTES + 1))
    assert answer.status_code == 413
    assert answer.json()["error"] == "body_too_large"


async def test_a_body_over_the_limit_is_refused_when_streamed(client: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 100_000 + 1):
            yield b"x" * 100_000

    answer = await client.post("/orders", content=chunks(), headers={"content-type": "application/json"})
    assert answer.status_code == 413


async def test_ready_when_everything_needed_answers(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health/ready")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "checks": {"postgres": "ok"}})


async def test_not_ready_names_what_is_missing_without_its_address(
    client: httpx.AsyncClient, readiness: dict[str, object]
) -> None:
    readiness["redis"] = _broken
    answer = await client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["checks"] == {"postgres": "ok", "redis": "ConnectionRefusedError"}
    assert "secret" not in answer.text
    assert (await client.get("/health")).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/nowhere", "/raise/input", "/raise/bug", "/mine", "/openapi.json"])
async def test_every_answer_has_a_request_id_and_security_headers(client: httpx.AsyncClient, path: str) -> None:
    headers = (await client.get(path)).headers
    assert len(headers["x-request-id"]) == 32
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "strict-transport-security" not in headers


async def test_a_body_refused_by_its_length_has_the_headers_too(client: httpx.AsyncClient) -> None:
    answer = await client.post("/orders", content=b"x" * (MAX_BODY_BYTES + 1))
    assert answer.status_code == 413
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_browsers_are_told_to_come_over_https_only_where_clients_do() -> None:
    app = make_app(title="t", description="", lifespan=_no_lifespan, readiness={}, https_only=True)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t") as client:
        assert (await client.get("/health")).headers["strict-transport-security"] == "max-age=31536000"


async def test_what_nobody_expected_is_counted_as_a_500(client: httpx.AsyncClient) -> None:
    labels = {"method": "GET", "route": "/raise/{what}", "status": "500"}
    before = REGISTRY.get_sample_value("http_requests_total", labels) or 0.0
    await client.get("/raise/bug")
    assert REGISTRY.get_sample_value("http_requests_total", labels) == before + 1


async def test_the_docs_page_loads_what_the_service_itself_serves_and_its_policy_allows(
    client: httpx.AsyncClient,
) -> None:
    page = await client.get("/docs")
    policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert re.findall(r"<script(?! src=)", page.text) == []
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) == 4
    for address in loaded:
        assert "://" not in address
        asset = await client.get(f"/{address}")
        assert asset.status_code == 200
        assert asset.headers["cache-control"] == "public, max-age=86400"
    assert (await client.get("/docs/swagger-ui-bundle.js")).headers["content-type"].startswith("text/javascript")
    assert (await client.get("/docs/../app.py")).status_code == 404
    assert (await client.get("/redoc")).status_code == 404


async def test_metrics_count_by_route_and_not_by_path(client: httpx.AsyncClient) -> None:
    await client.get("/raise/missing")
    text = (await client.get("/metrics")).text
    assert 'route="/raise/{what}",status="404"' in text
    assert "/raise/missing" not in text
