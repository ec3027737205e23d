"""Runs queued backtests, one at a time in each worker, each in a process of its own.

A process that breaks ends its backtest as failed; a worker that dies leaves its lease to pass, and another begins
again.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import orjson
from sqlalchemy.exc import SQLAlchemyError

from tradingflow.core.clock import Clock
from tradingflow.core.logging import get_logger
from tradingflow.db.engine import SessionFactory
from tradingflow.py_worker.backtests import store
from tradingflow.py_worker.backtests.job import sandbox_fields
from tradingflow.py_worker.backtests.store import Claim
from tradingflow.py_worker.sandbox.runner import SandboxPlan

log = get_logger(__name__)

TICK_S = 1.0
RENEW_S = 1.0
MAX_RUN_S = 1_800.0
_IMPORT_ROOT = Path(__file__).resolve().parents[3]


class BacktestRunner:
    def __init__(self, sessions: SessionFactory, clock: Clock, sandbox: SandboxPlan) -> None:
        self._sessions = sessions
        self._clock = clock
        self._sandbox = sandbox

    async def run(self) -> None:
        """Serve the queue until cancelled."""
        while True:
            try:
                while await self.run_one():
                    pass
            except (SQLAlchemyError, OSError) as error:
                log.warning("backtests interrupted", error=error)
            await asyncio.sleep(TICK_S)

    async def run_one(self) -> bool:
        """Claim and run the next; False when there was none."""
        async with self._sessions.begin() as session:
            claimed = await store.claim(session, self._clock.now())
        if claimed is None:
            return False
        try:
            await self._run(claimed)
        except asyncio.CancelledError:
            with suppress(SQLAlchemyError, OSError):
                async with self._sessions.begin() as session:
                    await store.release(session, claimed)
            raise
        return True

    async def _run(self, claimed: Claim) -> None:
        with tempfile.TemporaryDirectory(prefix="tradingflow-backtest-") as name:
            folder = Path(name)
            async with self._sessions() as session:
                files = await store.candles(session, claimed)
            request = {**claimed.request, "sandbox": sandbox_fields(self._sandbox)}
            files["request.json"] = json.dumps(request).encode()
            await asyncio.to_thread(_fill, folder, files)
            async with _process(folder) as process:
                if not await self._watch(claimed, process):
                    return
            await self._finish(claimed, folder, process.returncode)

    async def _watch(self, claimed: Claim, process: Process) -> bool:
        """Renew the lease until the process ends; False when the attempt counts no more, or has ended here."""
        progress = _Progress()
        reading = asyncio.create_task(progress.read(process))
        limit = asyncio.timeout(MAX_RUN_S)
        try:
            async with limit:
                while not (await asyncio.wait([reading], timeout=RENEW_S))[0]:
                    async with self._sessions.begin() as session:
                        if not await store.renew(session, claimed, self._clock.now(), progress.done):
                            return False
                await process.wait()
        except TimeoutError:
            if not limit.expired():
                raise
            detail = f"a backtest may take {MAX_RUN_S:.0f} seconds; take fewer candles or a longer cycle_interval"
            await self._fail(claimed, "backtest_too_long", detail)
            return False
        finally:
            reading.cancel()
        return True

    async def _finish(self, claimed: Claim, folder: Path, code: int | None) -> None:
        failure = folder / "failure.json"
        if failure.exists():
            found = orjson.loads(failure.read_bytes())
            await self._fail(claimed, found["error"], found["detail"])
        elif code != 0:
            log.error("a backtest's process broke", number=claimed.number, exit_code=code)
            await self._fail(claimed, "backtest_broke", "the process of the backtest broke, perhaps for want of memory")
        else:
            figures = orjson.loads((folder / "figures.json").read_bytes())
            files = await asyncio.to_thread(_results, folder)
            async with self._sessions.begin() as session:
                await store.complete(session, claimed, self._clock.now(), figures, files)

    async def _fail(self, claimed: Claim, code: str, detail: str) -> None:
        async with self._sessions.begin() as session:
            await store.fail(session, claimed, self._clock.now(), code, detail)


class _Progress:
    """Cycles done, as the process told last."""

    def __init__(self) -> None:
        self.done = 0

    async def read(self, process: Process) -> None:
        """Until the process closes its output."""
        assert process.stdout is not None  # noqa: S101 (it was asked for)
        async for line in process.stdout:
            done, _, _ = line.partition(b" ")
            self.done = int(done) if done.isdigit() else self.done


@asynccontextmanager
async def _process(folder: Path) -> AsyncIterator[Process]:
    """Killed where it is left before it ended; it ends by itself where this process does."""
    # Nothing of this process's environment, which holds secrets.
    environment = {"PATH": os.defpath, "PYTHONPATH": str(_IMPORT_ROOT)}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tradingflow.py_worker.backtests.job",
        str(folder),
        cwd=folder,
        env=environment,
        stdin=PIPE,
        stdout=PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _results(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in store.RESULTS.values()}


def _fill(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)
