"""The Worker with the test nodes as a process: `python -m tests.integration.worker.served`."""

from __future__ import annotations

from tests.integration.worker.conftest import UserIsToken
from tests.integration.worker.nodes import TEST_TYPES
from tradingflow.core.config import WorkerSettings
from tradingflow.core.logging import configure_logging
from tradingflow.py_worker.server import create_app
from tradingflow.web.serve import serve

if __name__ == "__main__":
    settings = WorkerSettings()
    configure_logging("py_worker", settings.log_level, json=True)
    serve(
        create_app(settings, types=TEST_TYPES, authenticator=UserIsToken()),
        settings.py_worker_host,
        settings.py_worker_port,
    )
