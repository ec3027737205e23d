from __future__ import annotations

import pytest

from tests.integration.worker.conftest import StartWorker
from tests.integration.wrong_clock import is_now, step_ahead


async def test_a_worker_on_a_machine_a_day_ahead_goes_by_the_database(
    start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    step_ahead(monkeypatch)
    async with start_worker() as app:
        assert is_now(app.state.parts.clock.now())
