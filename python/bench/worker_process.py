"""A worker process with the measuring nodes beside nothing else: `python -m bench.worker_process`."""

from __future__ import annotations

from uuid import UUID, uuid4

from bench.worker_nodes import BENCH_TYPES
from tradingflow.core.access_token import Principal
from tradingflow.core.config import WorkerSettings
from tradingflow.core.logging import configure_logging
from tradingflow.py_worker.server import create_app
from tradingflow.web.serve import serve


class UserIsToken:
    """The credential is the user id: a measurement needs no wallet."""

    async def authenticate(self, credential: str) -> Principal:
        return Principal(UUID(credential), "0x" + "00" * 20, uuid4())


if __name__ == "__main__":
    settings = WorkerSettings()
    configure_logging("py_worker", settings.log_level, json=True)
    app = create_app(settings, types=BENCH_TYPES, authenticator=UserIsToken())
    serve(app, settings.py_worker_host, settings.py_worker_port)
