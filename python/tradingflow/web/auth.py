"""Who calls: `CurrentUser` as a parameter makes a route signed-in only."""

from __future__ import annotations

from typing import Annotated, Protocol

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from tradingflow.core.access_token import Principal
from tradingflow.core.errors import Forbidden, Unauthenticated

READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_bearer = HTTPBearer(auto_error=False, description="Access token from POST /auth/login")


class Authenticator(Protocol):
    """What `app.state.authenticator` must be: turns a bearer credential into the caller, or raises Unauthenticated."""

    async def authenticate(self, credential: str) -> Principal: ...


async def current_user(
    request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Principal:
    """The bearer scheme is a dependency for the sake of the OpenAPI document."""
    return await authenticated(request)


async def authenticated(request: Request) -> Principal:
    """The caller of a request. Raises Unauthenticated, or Forbidden for a key without the scope of its method."""
    scheme, _, credential = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not credential:
        raise Unauthenticated("missing_token", "send the access token as `Authorization: Bearer …`")
    authenticator: Authenticator = request.app.state.authenticator
    principal = await authenticator.authenticate(credential.strip())
    require_scope(principal, "read" if request.method in READING_METHODS else "trade")
    return principal


def require_scope(principal: Principal, scope: str) -> None:
    """Raises Forbidden when the caller's key was not given `scope`."""
    if scope not in principal.scopes:
        raise Forbidden("insufficient_scope", f"this credential was not given the scope `{scope}`")


CurrentUser = Annotated[Principal, Depends(current_user)]
