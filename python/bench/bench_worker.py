"""`make bench-worker`: durable hops a second, next to raw aio-pika and Celery on the same servers.

Every node task and its signals are in PostgreSQL (fsync on) and every publish is confirmed by quorum queues.
Sizes by environment: CYCLES (2,000), RAW_CHAINS (1,000), CELERY_CHAINS (100), LONE (200), IO_CYCLES (3,000),
SCHEDULES (10,000, due within DUE_S = 60 s), STORED (1,000,000). ONLY names what to measure, of
chain,scaling,schedules,growth: all of them by default.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

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
IO_SLOTS = 20
IO_CYCLES = int(os.environ.get("IO_CYCLES", "3000"))
SCHEDULES = int(os.environ.get("SCHEDULES", "10000"))
DUE_S = int(os.environ.get("DUE_S", "60"))
ONLY = os.environ.get("ONLY", "chain,scaling,schedules,growth").split(",")


async def raw_baseline(url: str) -> tuple[float, dict[str, float]]:
    """Rate of the better of quorum and classic durable queues, and the lone p50 of both, in milliseconds.

    A classic queue hands a message on before it is flushed, a quorum queue after: what a lone chain waits for is not
    the same, so the engine's quorum queues are held against quorum queues, and the other is shown beside.
    """
    rates, lones = {}, {}
    for kind in ("quorum", "classic"):
        rates[kind] = await RawHops(url, kind).rate(RAW_CHAINS)
        lones[kind] = await RawHops(url, kind).lone_ms(50)
    return max(rates.values()), lones


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


async def with_one_worker(found: World, figures: Figures) -> None:
    raw_rate, raw_lone = await raw_baseline(found.rabbitmq.url)
    progress(f"raw aio-pika: {raw_rate:.0f} hops/s, {raw_lone['quorum']:.1f} ms for a lone chain")
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
    # Once more, and the better one counts: on a shared machine the load of a moment must not flatter us.
    rate_after, lone_after = await raw_baseline(found.rabbitmq.url)
    raw_rate = max(raw_rate, rate_after)
    raw_lone = {kind: min(raw_lone[kind], lone_after[kind]) for kind in raw_lone}
    figures.show(
        "worker_chain_hops", hops, "hops/s", baseline="aio-pika raw durable hops", baseline_value=raw_rate,
        target=">= 2 x baseline", ok=hops >= 2 * raw_rate,
    )  # fmt: skip
    figures.show(
        "worker_chain_hops_celery", hops, "hops/s", baseline="Celery chain", baseline_value=celery_rate,
        target=">= 8 x baseline", ok=hops >= 8 * celery_rate,
    )  # fmt: skip
    figures.show(
        "worker_lone_cycle_p50", lone, "ms", baseline="aio-pika raw, 10 hops over a quorum queue",
        baseline_value=raw_lone["quorum"], target="<= 3 x baseline", ok=lone <= 3 * raw_lone["quorum"],
        classic_queue_ms=round(raw_lone["classic"], 3),
    )  # fmt: skip
    figures.show(
        "worker_fan_out", fanned, "node tasks/s", baseline="worker_chain_hops", baseline_value=hops,
        target=">= 0.5 x baseline", ok=fanned >= 0.5 * hops,
    )  # fmt: skip
    figures.show(
        "worker_memory_1000_cycles", memory, "MB", target=f"<= {MEMORY_LIMIT_MB}", ok=memory <= MEMORY_LIMIT_MB
    )


async def waiting_rate(found: World, workers: int) -> float:
    """Node tasks a second of nodes that wait 50 ms, with IO_SLOTS of them at a time in each worker."""
    driver = await Driver.connect(found)
    graph = chain(2, "wait")
    async with AsyncExitStack() as stack:
        for _ in range(workers):
            # One user, which the driver is, has half of a worker's slots.
            started = await asyncio.to_thread(found.spawn_worker, MAX_NODES_IN_FLIGHT=str(2 * IO_SLOTS))
            stack.push_async_callback(asyncio.to_thread, started.stop)
            await asyncio.to_thread(started.wait_until_ready)
        flow = await driver.add_flow(graph)
        await balanced(driver, flow, workers)
        numbers = await driver.open_cycles(flow, IO_CYCLES)
        await driver.wait_for_end(600)
        span = await driver.span_s(flow, numbers)
    await driver.close()
    return IO_CYCLES * len(graph["nodes"]) / span


async def balanced(driver: Driver, flow: UUID, workers: int) -> None:
    """Until as many workers as there are share the work evenly."""
    async with asyncio.timeout(120):
        while True:
            numbers = await driver.open_cycles(flow, 160)
            await driver.wait_for_end()
            shares = await driver.fetch(
                "SELECT worker_id, count(*) AS n FROM node_tasks WHERE flow_pk = $1 AND cycle >= $2 GROUP BY worker_id",
                flow,
                numbers[0],
            )
            if len(shares) == workers and min(share["n"] for share in shares) >= 320 / workers * 0.7:
                return
            await asyncio.sleep(1)


async def show_scaling(found: World, figures: Figures) -> None:
    one = await waiting_rate(found, 1)
    two = await waiting_rate(found, 2)
    figures.show(
        "worker_two_workers_io", two, "node tasks/s", baseline="one worker", baseline_value=one,
        target=">= 1.9 x baseline", ok=two >= 1.9 * one, slots_each=IO_SLOTS,
    )  # fmt: skip


async def best_rate(found: World, driver: Driver) -> float:
    with found.worker():
        return max([await rate(driver, chain(HOPS), CYCLES) for _ in range(3)])


async def show_growth(found: World, figures: Figures) -> None:
    """The chain rate with STORED node tasks in the table, next to the rate right before they were there."""
    driver = await Driver.connect(found)
    empty = await best_rate(found, driver)
    flow = await driver.add_flow(chain(HOPS))
    await driver.store_history(flow, STORED, HOPS)
    full = await best_rate(found, driver)
    await driver.close()
    figures.show(
        "worker_growth", full, "hops/s", baseline="rate with few stored node tasks", baseline_value=empty,
        target=">= 0.9 x baseline", ok=full >= 0.9 * empty, stored=STORED,
    )  # fmt: skip


async def show_schedules(found: World, figures: Figures) -> None:
    """SCHEDULES flows due within DUE_S seconds: how late their cycles begin."""
    driver = await Driver.connect(found)
    with found.worker():
        await driver.add_due_flows(chain(1), SCHEDULES, DUE_S)
        await asyncio.sleep(DUE_S)
        async with asyncio.timeout(120):
            while await driver.pending_schedules():  # noqa: ASYNC110 - a row in a database sets no event
                await asyncio.sleep(0.2)
        await driver.wait_for_end()
        lag = await driver.schedule_lag_p99_s()
    await driver.close()
    figures.show(
        "worker_schedule_lag_p99", lag, "s", target="<= 2", ok=lag <= 2, schedules=SCHEDULES, due_within_s=DUE_S
    )


MEASUREMENTS = {
    "chain": with_one_worker,
    "scaling": show_scaling,
    "schedules": show_schedules,
    "growth": show_growth,
}


async def main() -> int:
    figures = Figures()
    with world() as found:
        for name in ONLY:
            await MEASUREMENTS[name](found, figures)
    return figures.exit_code


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
