"""The Monitor as its own process, as an operator starts it."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import httpx

from devstack.anvil import CHAIN_ID
from devstack.ports import free_port

PYTHON = Path(__file__).resolve().parents[1]
STOP_TIMEOUT_S = 20


class MonitorProcess:
    """`python -m tradingflow.monitor.server`, its port, and its end."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"

    async def kill(self) -> None:
        """SIGKILL, as the kernel does when memory is short."""
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def terminate(self) -> str:
        """SIGTERM; returns all it logged, once it is gone."""
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(STOP_TIMEOUT_S):
            output, _ = await self.process.communicate()
        return output.decode()

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.url) as client:
            return await client.get(path)


@asynccontextmanager
async def monitor_process(
    database_url: str, rabbitmq_url: str, *rpc_urls: str, output: Path | None = None, **chain: object
) -> AsyncIterator[MonitorProcess]:
    """A started Monitor; killed at the end if it still runs. Its log is kept in memory, or added to `output`."""
    port = free_port()
    settings = {"chain_id": CHAIN_ID, "name": "local", "rpc_urls": rpc_urls, "poll_interval_s": 0.05} | chain
    environment = os.environ | {
        "DATABASE_URL": database_url,
        "RABBITMQ_URL": rabbitmq_url,
        "MONITOR_PORT": str(port),
        "CHAINS": json.dumps([settings]),
    }
    log: int | IO[bytes] = asyncio.subprocess.PIPE if output is None else output.open("ab")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tradingflow.monitor.server",
        cwd=PYTHON, env=environment, stdout=log,
    )  # fmt: skip
    monitor = MonitorProcess(process, port)
    try:
        yield monitor
    finally:
        await monitor.kill()
        if not isinstance(log, int):
            log.close()
