"""The one translator from errors to HTTP answers: `{"error": code, "detail": what was wrong and what is allowed}`."""

from __future__ import annotations

from typing import Any

import asyncpg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from tradingflow.core.errors import TooManyRequests, TradingFlowError
from tradingflow.core.logging import get_logger
from tradingflow.db.failures import passing_failure

log = get_logger(__name__)

DRIVER_ERRORS = (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)


class ErrorBody(BaseModel):
    """Every answer that is not a success."""

    error: str
    detail: str


ERROR_RESPONSES: dict[int, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": text}
    for status, text in {
        401: "No valid access token",
        403: "The credential was not given the scope this needs",
        404: "It does not exist, or it is not yours",
        409: "It conflicts with what is there, or a rule refuses it",
        422: "The request is not valid; `detail` says what is allowed",
        429: "Too many requests; see Retry-After",
        503: "A service this needs does not answer; try again",
    }.items()
}


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route's OpenAPI entry says of these statuses."""
    return {status: ERROR_RESPONSES[status] for status in statuses}


def install_error_handlers(app: FastAPI) -> None:
    app.add_exception_handler(TradingFlowError, _ours)
    for kind in DRIVER_ERRORS:
        app.add_exception_handler(kind, _driver)
    app.add_exception_handler(Exception, _unexpected)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"error": "invalid_request", "detail": describe(error)}, 422)

    @app.exception_handler(HTTPException)
    async def framework(_: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 400:
            return JSONResponse({"error": "invalid_request", "detail": str(error.detail)}, 422)
        words = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}
        code = words.get(error.status_code, "http_error")
        return JSONResponse({"error": code, "detail": str(error.detail)}, error.status_code, error.headers)


async def _ours(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, TradingFlowError)  # noqa: S101 (Starlette's signature knows no better)
    if error.retryable and error.status_code >= 500:
        log.warning("request failed", code=error.code, detail=error.detail)
    elif error.status_code >= 500:
        log.error("request failed", code=error.code, detail=error.detail, exc_info=error)
    headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, TooManyRequests) else None
    if error.status_code == 401:
        headers = {"WWW-Authenticate": "Bearer"}
    return JSONResponse(error.as_body(), error.status_code, headers)


async def _driver(request: Request, error: Exception) -> JSONResponse:
    """A server that is away is no fault of ours: 503, and no trace of it a request."""
    passing = passing_failure(error)
    if passing is None:
        return await _unexpected(request, error)
    log.warning("request failed", code=passing.code, error=error)
    return JSONResponse(passing.as_body(), passing.status_code)


async def _unexpected(_: Request, error: Exception) -> JSONResponse:
    log.error("unexpected error", exc_info=error)
    return internal_error()


def internal_error() -> JSONResponse:
    """The answer to what nobody expected."""
    return JSONResponse({"error": "internal_error", "detail": "something broke here; it has been logged"}, 500)


def describe(error: RequestValidationError) -> str:
    """One sentence a field. The rejected value is left out: it may be a secret."""
    parts = []
    for problem in error.errors():
        place = ".".join(str(step) for step in problem["loc"] if step != "body") or "body"
        parts.append(f"{place}: {problem['msg']}")
    return "; ".join(parts)
