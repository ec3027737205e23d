"""Who calls: `CurrentUser` as a parameter makes a route signed-in only."""

from __future__ import annotations

from typing import Annotated, Protocol

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from tradingflow.core.access_token import Principal
from tradingflow.core.errors import Unauthenticated

_bearer = HTTPBearer(auto_error=False, description="Access token from POST /auth/login")


class Authenticator(Protocol):
    """What `app.state.authenticator` must be: turns a bearer credential into the caller, or raises Unauthenticated."""

    async def authenticate(self, credential: str) -> Principal: ...


async def current_user(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Principal:
    if credentials is None:
        raise Unauthenticated("missing_token", "send the access token as `Authorization: Bearer …`")
    authenticator: Authenticator = request.app.state.authenticator
    return await authenticator.authenticate(credentials.credentials)


CurrentUser = Annotated[Principal, Depends(current_user)]
