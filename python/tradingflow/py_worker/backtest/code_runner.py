"""Code nodes in a backtest: the worker's own sandbox, asked without an event loop in the thread that asks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from threading import Thread

from tradingflow.py_worker.kit import CodeResult, CodeRunner, Json
from tradingflow.py_worker.sandbox.runner import Sandbox, SandboxPlan


class BlockingCode:
    """`CodeRunner` whose runs end before the node's coroutine goes on, so that nothing in a backtest suspends."""

    def __init__(self, runner: CodeRunner, loop: asyncio.AbstractEventLoop) -> None:
        self._runner = runner
        self._loop = loop

    async def run(
        self,
        code: str,
        inputs: Mapping[str, Json],
        outputs: Sequence[str],
        *,
        timeout_s: float,
        now: datetime,
        seed: str,
        strict: bool = True,
    ) -> CodeResult:
        asked = self._runner.run(code, inputs, outputs, timeout_s=timeout_s, now=now, seed=seed, strict=strict)
        return asyncio.run_coroutine_threadsafe(asked, self._loop).result()


@contextmanager
def code_sandbox(plan: SandboxPlan = SandboxPlan()) -> Iterator[CodeRunner]:  # noqa: B008 (it is frozen)
    """A sandbox of one interpreter, otherwise as planned. Where its wall cannot be built, code nodes are refused."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, name="backtest-sandbox")
    thread.start()
    sandbox = Sandbox(replace(plan, processes=1, processes_per_owner=1))
    try:
        asyncio.run_coroutine_threadsafe(sandbox.start(), loop).result()
        yield BlockingCode(sandbox.for_owner("backtest"), loop)
    finally:
        asyncio.run_coroutine_threadsafe(sandbox.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
