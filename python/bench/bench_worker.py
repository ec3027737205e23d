"""`make bench-worker`: durable hops a second, next to raw aio-pika and Celery on the same servers.

Every node task and its signals are in PostgreSQL (fsync on) and every publish is confirmed by quorum queues.
Sizes by environment: CYCLES (2,000), RAW_CHAINS (1,000), CELERY_CHAINS (100), LONE (200), STORED (1,000,000).
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
from typing import Any

from bench.figure import Figures, progress
from bench.worker_baselines import HOPS, RawHops, celery_chain_rate
from bench.worker_nodes import chain, fan
from bench.worker_world import Driver, World, world

CYCLES = int(os.environ.get("CYCLES", "2000"))
RAW_CHAINS = int(os.environ.get("RAW_CHAINS", "1000"))
CELERY_CHAINS = int(os.environ.get("CELERY_CHAINS", "100"))
LONE = int(os.environ.get("LONE", "200"))
STORED = int(os.environ.get("STORED", "1000000"))
FAN_WIDTH = 100
MEMORY_CYCLES = 1_000
MEMORY_LIMIT_MB = 300


async def raw_baseline(url: str) -> tuple[float, float]:
    """Rate and lone p50 of the better of quorum and classic durable queues."""
    found = [(await RawHops(url, t).rate(RAW_CHAINS), await RawHops(url, t).lone_ms(50)) for t in ("quorum", "classic")]
    return max(rate for rate, _ in found), min(lone for _, lone in found)


async def rate(driver: Driver, graph: dict[str, Any], cycles: int) -> float:
    """Node tasks a second of `cycles` cycles opened at once."""
    flow = await driver.add_flow(graph)
    await driver.open_cycles(flow, 50)
    await driver.wait_for_end()
    numbers = await driver.open_cycles(flow, cycles)
    await driver.wait_for_end()
    return cycles * len(graph["nodes"]) / await driver.span_s(flow, numbers)


async def lone_ms(driver: Driver) -> float:
    """p50 from the start of the first node task to the end of the cycle, one cycle at a time."""
    flow = await driver.add_flow(chain(HOPS))
    times = []
    for _ in range(LONE):
        numbers = await driver.open_cycles(flow, 1)
        await driver.wait_for_end()
        times.append(await driver.span_s(flow, numbers) * 1000)
    return statistics.median(times)


async def with_one_worker(found: World, figures: Figures) -> float:
    raw_rate, raw_lone = await raw_baseline(found.rabbitmq.url)
    progress(f"raw aio-pika: {raw_rate:.0f} hops/s, {raw_lone:.1f} ms for a lone chain")
    celery_rate = await asyncio.to_thread(celery_chain_rate, found.environment, CELERY_CHAINS)
    progress(f"Celery chain: {celery_rate:.0f} tasks/s")
    driver = await Driver.connect(found)
    with found.worker() as worker:
        lone = await lone_ms(driver)
        hops = max([await rate(driver, chain(HOPS), CYCLES) for _ in range(3)])
        fanned = await rate(driver, fan(FAN_WIDTH), CYCLES * HOPS // FAN_WIDTH)
        await rate(driver, chain(HOPS), MEMORY_CYCLES)
        memory = worker.memory_mb()
    await driver.close()
    figures.show(
        "worker_chain_hops", hops, "hops/s", baseline="aio-pika raw durable hops", baseline_value=raw_rate,
        target=">= 2 x baseline", ok=hops >= 2 * raw_rate,
    )  # fmt: skip
    figures.show(
        "worker_chain_hops_celery", hops, "hops/s", baseline="Celery chain", baseline_value=celery_rate,
        target=">= 8 x baseline", ok=hops >= 8 * celery_rate,
    )  # fmt: skip
    figures.show(
        "worker_lone_cycle_p50", lone, "ms", baseline="aio-pika raw, 10 hops", baseline_value=raw_lone,
        target="<= 3 x baseline", ok=lone <= 3 * raw_lone,
    )  # fmt: skip
    figures.show(
        "worker_fan_out", fanned, "node tasks/s", baseline="worker_chain_hops", baseline_value=hops,
        target=">= 0.5 x baseline", ok=fanned >= 0.5 * hops,
    )  # fmt: skip
    figures.show(
        "worker_memory_1000_cycles", memory, "MB", target=f"<= {MEMORY_LIMIT_MB}", ok=memory <= MEMORY_LIMIT_MB
    )
    return hops


async def main() -> int:
    figures = Figures()
    with world() as found:
        await with_one_worker(found, figures)
    return figures.exit_code


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
