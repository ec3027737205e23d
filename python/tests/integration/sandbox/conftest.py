"""One walled-in sandbox for all tests of a module; building it takes root, as in production."""

from collections.abc import AsyncIterator

import pytest

from tradingflow.py_worker.sandbox.runner import Sandbox, SandboxPlan


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    sandbox = Sandbox(SandboxPlan(processes=2))
    await sandbox.start()
    if sandbox.refusal is not None:
        await sandbox.close()
        pytest.skip(f"this machine cannot build the sandbox wall: {sandbox.refusal}")
    yield sandbox
    await sandbox.close()
