"""The parts of the running worker, wired once in `server.py` and handed to routes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.core.clock import Clock
from tradingflow.core.config import WorkerSettings
from tradingflow.db.engine import SessionFactory
from tradingflow.py_worker.engine.spec import NodeSpec
from tradingflow.py_worker.runtime.worker import Worker
from tradingflow.py_worker.scheduler import Scheduler


@dataclass(frozen=True)
class Parts:
    settings: WorkerSettings
    clock: Clock
    sessions: SessionFactory
    specs: Mapping[str, NodeSpec]
    catalog: list[dict[str, Any]]
    scheduler: Scheduler
    worker: Worker


def parts_of(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


TheParts = Annotated[Parts, Depends(parts_of)]


async def _transaction(parts: TheParts) -> AsyncIterator[AsyncSession]:
    async with parts.sessions() as session, session.begin():
        yield session


# scope="function": a client that was answered may rely on the commit.
Transaction = Annotated[AsyncSession, Depends(_transaction, scope="function")]
