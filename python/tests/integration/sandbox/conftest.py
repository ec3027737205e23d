"""One walled-in sandbox for all tests of a module; building it takes root, as in production."""

import os
from collections.abc import AsyncIterator

import pytest

from tradingflow.py_worker.sandbox.runner import Sandbox, SandboxPlan


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    sandbox = Sandbox(SandboxPlan(processes=2))
    await sandbox.start()
    try:
        if os.geteuid() != 0 and sandbox.refusal is not None:
            pytest.skip(f"without root this machine cannot build the sandbox wall: {sandbox.refusal}")
        assert sandbox.refusal is None
        yield sandbox
    finally:
        await sandbox.close()
