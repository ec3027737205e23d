"""Any HTTP request to a public address."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, ClassVar, Literal
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field

from tradingflow.core.errors import InvalidInput
from tradingflow.py_worker.kit import Json, Node, NodeContext, NodeInputs, NodeOutputs, NodeParams, Secret
from tradingflow.py_worker.kit.providers import accept

SHOWN_HEADERS = frozenset({"content-type", "date", "etag", "last-modified", "location", "retry-after", "x-request-id"})


class Params(NodeParams):
    url: str = Field(max_length=4000, description="Public http or https address")
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"] = Field(default="GET", description="HTTP method")
    headers: dict[str, str] = Field(default_factory=dict, max_length=50, description="Headers to send")
    query: dict[str, str] = Field(default_factory=dict, max_length=50, description="Query parameters to add")
    authorization: Secret | None = Field(
        default=None, description='Value of the Authorization header, as {"$secret": "name"}'
    )
    fail_on_error: bool = Field(default=True, description="Fail on a status of 400 and above, instead of sending it on")
    timeout_s: float = Field(default=10, gt=0, le=60, description="Seconds until the answer must be there")
    max_body_bytes: int = Field(default=1_000_000, ge=1, le=5_000_000, description="Largest answer, in bytes")


class Inputs(NodeInputs):
    body: Json = Field(default=None, description="Sent as JSON; text is sent as it is")
    trigger: Json = Field(default=None, description="Anything; the request is sent when it arrives")


class Response(BaseModel):
    model_config = ConfigDict(frozen=True)

    status: int
    headers: dict[str, str]
    body: Any


class Outputs(NodeOutputs):
    response: Response = Field(description="Status, some headers, and the body: JSON where it is JSON, else text")


class HttpRequestNode(Node[Params, Inputs, Outputs]):
    type = "http_request_node"
    title = "HTTP request"
    description = "Sends an HTTP request to a public address and gives the answer."
    category = "integration"
    default_timeout = timedelta(seconds=75)  # the longest `timeout_s` fits
    example: ClassVar[dict[str, Any]] = {"url": "https://api.example.com/v1/status"}

    async def run(self, ctx: NodeContext, params: Params, inputs: Inputs) -> Outputs:
        response = await ctx.http.request(
            params.method,
            with_query(params.url, params.query),
            headers=await _headers(ctx, params, inputs.body),
            content=encode_body(inputs.body),
            timeout_s=params.timeout_s,
            max_body_bytes=params.max_body_bytes,
        )
        if params.fail_on_error:
            accept(response, "the server")
        headers = {name: value for name, value in response.headers.items() if name in SHOWN_HEADERS}
        return Outputs(response=Response(status=response.status, headers=headers, body=read_body(response.body)))


async def _headers(ctx: NodeContext, params: Params, body: Json) -> dict[str, str]:
    headers = {name.lower(): value for name, value in params.headers.items()}
    if params.authorization is not None:
        headers["authorization"] = await ctx.secrets.reveal(params.authorization)
    if body is not None and not isinstance(body, str):
        headers.setdefault("content-type", "application/json")
    if params.method not in ("GET", "HEAD"):
        headers.setdefault("idempotency-key", ctx.idempotency_key)
    return headers


def with_query(url: str, query: dict[str, str]) -> str:
    if not query:
        return url
    if "#" in url:
        raise InvalidInput("invalid_url", "a URL with query parameters to add has no fragment")
    return f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"


def encode_body(body: Json) -> bytes | None:
    if body is None:
        return None
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def read_body(body: bytes) -> Json:
    """JSON where it is JSON, else text; never raises."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body.decode("utf-8", "replace")
