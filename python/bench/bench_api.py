"""`make bench-api`: signed-in requests to the Account Manager next to bare FastAPI and asyncpg with the same one query.

Both run under the same uvicorn settings on the same database; rounds alternate between them and the median counts.
Sizes by environment: USERS (10,000, with 100 trades each), SMALL_USERS (10), SECONDS (4), ROUNDS (3), CONNECTIONS (16).
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from uuid import UUID

import httpx

from bench.api_load import Load, Result, run
from bench.api_world import BENCH_CHAIN, USER, fill
from bench.figure import Figures, progress
from devstack.ports import free_port
from devstack.private_servers import PrivateServers
from tradingflow.core.access_token import Principal, TokenSigner
from tradingflow.core.clock import SystemClock
from tradingflow.core.config import LOCAL_JWT_SEED
from tradingflow.core.evm import address_from_bytes

REPOSITORY = Path(__file__).resolve().parents[2]
USERS = int(os.environ.get("USERS", "10000"))
SMALL_USERS = int(os.environ.get("SMALL_USERS", "10"))
SECONDS = float(os.environ.get("SECONDS", "4"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
CONNECTIONS = int(os.environ.get("CONNECTIONS", "16"))
ROUTES = {"users_me": "/users/me", "portfolio": "/portfolio", "trades": "/trades?limit=50"}
LISTS = ("portfolio", "trades")
LEAST_RATIO = 0.6
LEAST_KEPT = 0.9
P99_LIMIT_MS = 50


@dataclass(frozen=True)
class Server:
    port: int
    bearer: str = ""

    def peak(self, path: str) -> Result:
        return run(Load(self.port, path, CONNECTIONS, SECONDS, self.bearer))

    def at_rate(self, path: str, rate: float) -> Result:
        return run(Load(self.port, path, CONNECTIONS, SECONDS, self.bearer, rate))


@contextmanager
def started(module: str, probe: str, environment: dict[str, str], port: int) -> Iterator[None]:
    """A server process that answers `probe`; ended afterwards."""
    command = [sys.executable, "-m", module]
    with subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.DEVNULL) as process:
        try:
            _wait_for(f"http://127.0.0.1:{port}{probe}", process)
            yield
        finally:
            process.terminate()
            process.wait(30)


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"no answer from {url}")


@contextmanager
def account_manager(servers: PrivateServers, database: str) -> Iterator[Server]:
    port = free_port()
    chain = [{"chain_id": BENCH_CHAIN, "name": "bench", "rpc_urls": ["http://127.0.0.1:1"]}]
    with servers.fresh_redis() as redis, servers.fresh_virtual_host() as rabbitmq:
        environment = {
            "DATABASE_URL": database,
            "REDIS_URL": redis,
            "RABBITMQ_URL": rabbitmq,
            "ACCOUNT_MANAGER_PORT": str(port),
            "CHAINS": json.dumps(chain),
            "REQUEST_LIMIT": "1000000000/minute",
            "LOG_LEVEL": "WARNING",
        }
        with started("tradingflow.account_manager.server", "/health", environment, port):
            yield Server(port, _token())


@contextmanager
def baseline(database: str) -> Iterator[Server]:
    port = free_port()
    environment = {"DATABASE_URL": database, "BENCH_USER": str(USER), "PORT": str(port)}
    with started("bench.api_baseline", "/users/me", environment, port):
        yield Server(port)


def _token() -> str:
    signer = TokenSigner(LOCAL_JWT_SEED, "tradingflow", 3600, SystemClock())
    return signer.sign(Principal(USER, address_from_bytes((1).to_bytes(20)), UUID(int=2)))


def median_peaks(servers: dict[str, Server], path: str) -> dict[str, float]:
    """Requests a second of each, in rounds that alternate."""
    peaks: dict[str, list[float]] = {name: [] for name in servers}
    for _ in range(ROUNDS):
        for name, server in servers.items():
            peaks[name].append(server.peak(path).rate)
    return {name: median(rates) for name, rates in peaks.items()}


def median_latencies(server: Server, path: str, rate: float) -> tuple[float, float]:
    """p50 and p99 in milliseconds at `rate`, each the median of the rounds."""
    rounds = [server.at_rate(path, rate) for _ in range(ROUNDS)]
    return median(found.p50_ms for found in rounds), median(found.p99_ms for found in rounds)


def measure(figures: Figures, ours: Server, bare: Server, small: Server) -> None:
    for name, path in ROUTES.items():
        progress(f"{path} …")
        peaks = median_peaks({"ours": ours, "bare": bare, "small": small}, path)
        figures.show(
            f"api_{name}",
            peaks["ours"],
            "requests/s",
            baseline="bare FastAPI + asyncpg",
            baseline_value=peaks["bare"],
            target=f">= {LEAST_RATIO} x baseline",
            ok=peaks["ours"] >= LEAST_RATIO * peaks["bare"],
        )
        rate = peaks["ours"] / 2
        halves = {label: median_latencies(server, path, rate) for label, server in (("ours", ours), ("bare", bare))}
        p50, p99 = halves["ours"]
        figures.show(
            f"api_{name}_p99_at_half_peak",
            p99,
            "ms",
            baseline="bare FastAPI + asyncpg at the same rate",
            baseline_value=halves["bare"][1],
            target=f"<= {P99_LIMIT_MS} ms",
            ok=p99 <= P99_LIMIT_MS,
            p50_ms=round(p50, 2),
            rate=round(rate),
        )
        if name in LISTS:
            figures.show(
                f"api_{name}_at_scale",
                peaks["ours"],
                "requests/s",
                baseline=f"{SMALL_USERS} users",
                baseline_value=peaks["small"],
                target=f">= {LEAST_KEPT} x baseline",
                ok=peaks["ours"] >= LEAST_KEPT * peaks["small"],
                users=USERS,
            )


def main() -> int:
    figures = Figures()
    with ExitStack() as stack:
        servers = stack.enter_context(PrivateServers(REPOSITORY))
        large, small = (stack.enter_context(servers.fresh_database()) for _ in range(2))
        for database, users in ((small, SMALL_USERS), (large, USERS)):
            trades = asyncio.run(fill(database.replace("+asyncpg", ""), users))
            progress(f"{users} users, {trades} trades")
        ours = stack.enter_context(account_manager(servers, large))
        bare = stack.enter_context(baseline(large))
        measure(figures, ours, bare, stack.enter_context(account_manager(servers, small)))
    return figures.exit_code


if __name__ == "__main__":
    sys.exit(main())
