"""A load generator that costs little itself: keep-alive connections, one request in flight on each."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import uvloop


@dataclass(frozen=True)
class Load:
    """`rate` None asks as fast as answers come; otherwise so many requests a second, evenly spaced."""

    port: int
    path: str
    connections: int
    seconds: float
    bearer: str = ""
    rate: float | None = None


@dataclass(frozen=True)
class Result:
    """Requests a second, and latencies in milliseconds from when a request was due."""

    rate: float
    p50_ms: float
    p99_ms: float


def run(load: Load) -> Result:
    """Raises RuntimeError when an answer is not a 200."""
    return uvloop.run(_run(load))


async def _run(load: Load) -> Result:
    latencies: list[float] = []
    started = time.perf_counter()
    await asyncio.gather(*(_connection(load, number, started, latencies) for number in range(load.connections)))
    spent = time.perf_counter() - started
    latencies.sort()
    at = [latencies[min(int(len(latencies) * q), len(latencies) - 1)] * 1000 for q in (0.5, 0.99)]
    return Result(len(latencies) / spent, at[0], at[1])


async def _connection(load: Load, number: int, started: float, latencies: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", load.port)
    authorization = f"Authorization: Bearer {load.bearer}\r\n" if load.bearer else ""
    request = f"GET {load.path} HTTP/1.1\r\nHost: bench\r\n{authorization}\r\n".encode()
    gap = load.connections / load.rate if load.rate else 0.0
    due = started + gap * number / load.connections
    while due < started + load.seconds and time.perf_counter() < started + load.seconds:
        if gap:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        else:
            due = time.perf_counter()
        writer.write(request)
        await _read_answer(reader)
        latencies.append(time.perf_counter() - due)
        due += gap
    writer.close()
    await writer.wait_closed()


async def _read_answer(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(head.decode())
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.split(b":")[1]))
