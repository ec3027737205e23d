"""Running an app under uvicorn with our logs and a bounded, graceful stop."""

from __future__ import annotations

import sys

import uvicorn
from fastapi import FastAPI

from tradingflow.core.logging import get_logger

log = get_logger(__name__)

# Shorter than the containers' stop grace period, so that uvicorn and not the kernel ends the process.
GRACEFUL_STOP_S = 20


def serve(app: FastAPI, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; open requests get GRACEFUL_STOP_S to end. Exits 1 when it cannot start."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACEFUL_STOP_S,
    )
    server = uvicorn.Server(config)
    # Answers without end have to end by themselves, or the process waits for them in vain.
    app.state.is_stopping = lambda: server.should_exit
    server.run()
    if not server.started:
        log.error("could not start", host=host, port=port)
        sys.exit(1)
