"""The parts of the running worker, wired once in `server.py` and handed to routes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.chain.client import ChainClient
from tradingflow.core.clock import Clock
from tradingflow.core.config import WorkerSettings
from tradingflow.db.engine import SessionFactory
from tradingflow.py_worker.backtests.exchange_history import download_places
from tradingflow.py_worker.contract_triggers import ContractTriggers
from tradingflow.py_worker.engine.spec import NodeSpec
from tradingflow.py_worker.kit.registry import AnyNode
from tradingflow.py_worker.places import Places
from tradingflow.py_worker.preflight.service import Preflight, preflight_places
from tradingflow.py_worker.replay.replay import replay_places
from tradingflow.py_worker.runtime.context import Surroundings
from tradingflow.py_worker.runtime.worker import Worker
from tradingflow.py_worker.scheduler import Scheduler

# A stream asks the database four times a second as long as it is open.
MAX_STREAMS = 100
MAX_STREAMS_OF_USER = 10


def stream_places() -> Places:
    allowed = f"{MAX_STREAMS_OF_USER} of one user, {MAX_STREAMS} in all"
    return Places(MAX_STREAMS, "too_many_streams", f"{allowed} may be open; they are", each=MAX_STREAMS_OF_USER)


@dataclass(frozen=True)
class Parts:
    settings: WorkerSettings
    clock: Clock
    sessions: SessionFactory
    chains: Mapping[int, ChainClient]
    types: Mapping[str, AnyNode]
    around: Surroundings
    specs: Mapping[str, NodeSpec]
    catalog: list[dict[str, Any]]
    scheduler: Scheduler
    worker: Worker
    contract_triggers: ContractTriggers
    preflight: Preflight
    streams: Places = field(default_factory=stream_places)
    downloads: Places = field(default_factory=download_places)
    replays: Places = field(default_factory=replay_places)
    preflights: Places = field(default_factory=preflight_places)


def parts_of(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


TheParts = Annotated[Parts, Depends(parts_of)]


async def _transaction(parts: TheParts) -> AsyncIterator[AsyncSession]:
    async with parts.sessions() as session, session.begin():
        yield session


# scope="function": a client that was answered may rely on the commit.
Transaction = Annotated[AsyncSession, Depends(_transaction, scope="function")]
