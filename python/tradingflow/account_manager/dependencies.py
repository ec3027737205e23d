"""What a route may ask for. The transaction is here: opened before the route, committed after it, before the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.parts import Parts
from tradingflow.core.access_token import Principal
from tradingflow.web.auth import CurrentUser, require_scope


async def parts_of(request: Request) -> Parts:
    """Async although it waits for nothing: FastAPI sends plain functions through a thread pool."""
    parts: Parts = request.app.state.parts
    return parts


TheParts = Annotated[Parts, Depends(parts_of)]


async def _transaction(parts: TheParts) -> AsyncIterator[AsyncSession]:
    async with parts.sessions() as session, session.begin():
        yield session


async def _reads(parts: TheParts) -> AsyncIterator[AsyncSession]:
    async with parts.reads() as session:
        yield session


# scope="function": a client that was answered may rely on the commit.
Transaction = Annotated[AsyncSession, Depends(_transaction, scope="function")]
Reads = Annotated[AsyncSession, Depends(_reads, scope="function")]


async def _account_holder(user: CurrentUser) -> Principal:
    require_scope(user, "account")
    return user


# A person who signed in with a wallet: API keys do not get through.
AccountHolder = Annotated[Principal, Depends(_account_holder)]
