"""Routes that are asked all the time: their answer is JSON already, and nothing else is made on the way.

FastAPI still describes such a route, from the endpoint's signature; what it would do at every request (solve the
dependencies one by one, validate and serialise the answer again) costs more than the work itself (docs/adr/0006).
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.types import Receive, Scope, Send

from tradingflow.web.auth import authenticated


class HotRoute(APIRoute):
    """For `APIRouter(route_class=HotRoute)`.

    The endpoint is a coroutine function of `user: CurrentUser`, `parts: TheParts` and maybe `query`, one pydantic model
    of all query parameters (unknown ones are refused); it returns the JSON. `response_model` describes that JSON.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self._query = _query_model(endpoint)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Errors are translated by the app's handlers, as everywhere."""
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        request = Request(scope, receive)
        user, parts = await authenticated(request), request.app.state.parts
        if self._query is None:
            body = await self.endpoint(user=user, parts=parts)
        else:
            body = await self.endpoint(user=user, parts=parts, query=_read_query(self._query, request))
        await Response(body, media_type="application/json")(scope, receive, send)


def _query_model(endpoint: Callable[..., Any]) -> type[BaseModel] | None:
    parameter = signature(endpoint, eval_str=True).parameters.get("query")
    return None if parameter is None else parameter.annotation.__origin__


def _read_query(model: type[BaseModel], request: Request) -> BaseModel:
    try:
        return model.model_validate(dict(request.query_params))
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError([{**p, "loc": ("query", *p["loc"])} for p in problems]) from error
