"""`make bench-monitor`: how fast the Monitor backfills, next to web3.py on the same chain and the same PostgreSQL.

Sizes by environment: EVENTS (200,000), EVENTS_PER_BLOCK (100), BASELINE_EVENTS (20,000), STORED (10,000,000; 0 leaves
that measurement out).
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.figure import Figures, progress
from bench.monitor_head import head_latencies
from devstack.anvil import CHAIN_ID, Anvil
from devstack.emitter import Emitter, swap_burst_contract, transfer_burst_contract, word
from devstack.private_servers import PrivateServers

REPOSITORY = Path(__file__).resolve().parents[2]
EVENTS = int(os.environ.get("EVENTS", "200000"))
EVENTS_PER_BLOCK = int(os.environ.get("EVENTS_PER_BLOCK", "100"))
BASELINE_EVENTS = int(os.environ.get("BASELINE_EVENTS", "20000"))
STORED = int(os.environ.get("STORED", "10000000"))
HEAD_BLOCKS = int(os.environ.get("HEAD_BLOCKS", "30"))
FINALITY_BLOCKS = 64
MEMORY_LIMIT_MB = 300


@dataclass(frozen=True)
class Work:
    """One kind of event to index. `target` is in events a second."""

    name: str
    kind: str
    event: str
    abi_types: tuple[tuple[str, str, bool], ...]
    code: bytes
    target: float

    @property
    def abi(self) -> list[dict[str, Any]]:
        inputs = [{"name": name, "type": type_, "indexed": indexed} for name, type_, indexed in self.abi_types]
        return [{"type": "event", "name": self.event, "anonymous": False, "inputs": inputs}]


TRANSFERS = Work(
    "erc20_transfer", "erc20", "Transfer",
    (("from", "address", True), ("to", "address", True), ("value", "uint256", False)),
    transfer_burst_contract(), 30_000,
)  # fmt: skip
SWAPS = Work(
    "uniswap_v3_swap", "uniswap_v3_pool", "Swap",
    (
        ("sender", "address", True), ("recipient", "address", True), ("amount0", "int256", False),
        ("amount1", "int256", False), ("sqrtPriceX96", "uint160", False), ("liquidity", "uint128", False),
        ("tick", "int24", False),
    ),
    swap_burst_contract(), 20_000,
)  # fmt: skip


def build_chain(emitter: Emitter, work: Work) -> tuple[str, int]:
    """Mine EVENTS events, EVENTS_PER_BLOCK a block; returns the contract and the first block with events."""
    contract = emitter.deploy(work.code)
    first = emitter.head + 1
    blocks = EVENTS // EVENTS_PER_BLOCK
    count = word(EVENTS_PER_BLOCK)
    emitter.send_many(contract, [count + word(block * EVENTS_PER_BLOCK) for block in range(blocks)])
    emitter.mine(FINALITY_BLOCKS)
    progress(f"{work.name}: {blocks} blocks of {EVENTS_PER_BLOCK} events mined")
    return contract, first


def child(module: str, job: dict[str, Any]) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", module, json.dumps(job)], check=True, stdout=subprocess.PIPE, text=True
    )
    outcome: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    progress(f"{module}: {outcome}")
    return outcome


def measure(figures: Figures, servers: PrivateServers, anvil: Anvil, work: Work) -> None:
    contract, first = build_chain(Emitter(anvil), work)
    job = {
        "rpc_url": anvil.url, "chain_id": CHAIN_ID, "address": contract, "kind": work.kind,
        "finality_blocks": FINALITY_BLOCKS, "abi": work.abi, "event": work.event, "first_block": first,
        "blocks": BASELINE_EVENTS // EVENTS_PER_BLOCK,
    }  # fmt: skip
    with servers.fresh_database() as url:
        # Not measured: the first run on a fresh server was the slowest each time (its log files are made then).
        child("bench.monitor_index", job | {"database_url": url})
    with servers.fresh_database() as url:
        ours = child("bench.monitor_index", job | {"database_url": url})
        theirs = child("bench.monitor_baseline", job | {"database_url": url})
    rate, baseline = ours["events"] / ours["seconds"], theirs["events"] / theirs["seconds"]
    figures.show(
        f"monitor_backfill_{work.name}", rate, "events/s",
        baseline="web3.py get_logs, insert a batch", baseline_value=baseline,
        target=f">= {work.target:,.0f} and >= 9 x baseline", ok=rate >= max(work.target, 9 * baseline),
        events=int(ours["events"]),
    )  # fmt: skip
    if STORED and work is TRANSFERS:
        measure_full_table(figures, servers, job, rate)
    figures.show(
        f"monitor_backfill_{work.name}_memory", ours["peak_mb"], "MB",
        target=f"<= {MEMORY_LIMIT_MB}", ok=ours["peak_mb"] <= MEMORY_LIMIT_MB,
    )  # fmt: skip


FILL = f"""
INSERT INTO contract_events (chain_id, block_number, log_index, block_hash, transaction_hash, address, kind, name, args,
    topics, data, block_time)
SELECT 1, n / 100, n % 100, sha256(int8send(n / 100)), sha256(int8send(n)), substr(sha256(int8send(n % 1000)), 1, 20),
    'erc20', 'Transfer', jsonb_build_object('value', n::text), ARRAY[sha256(int8send(n))], int8send(n), now()
FROM generate_series(1::bigint, {STORED}) AS n
"""  # noqa: S608 - STORED is a number


def measure_full_table(figures: Figures, servers: PrivateServers, job: dict[str, Any], rate: float) -> None:
    """The same work again, into a table that holds STORED events of another chain already."""
    with servers.fresh_database() as url:
        servers.postgres.execute(FILL, database=url.rpartition("/")[2])
        progress(f"{STORED} events filled in")
        outcome = child("bench.monitor_index", job | {"database_url": url})
    full = outcome["events"] / outcome["seconds"]
    figures.show(
        "monitor_backfill_into_a_full_table", full, "events/s", baseline="the same into an empty table",
        baseline_value=rate, target=">= 0.8 x baseline", ok=full >= 0.8 * rate, stored=STORED,
    )  # fmt: skip


def measure_head(figures: Figures, servers: PrivateServers, anvil: Anvil) -> None:
    with servers.fresh_database() as url, servers.fresh_virtual_host() as rabbitmq_url:
        latencies = asyncio.run(head_latencies(url, rabbitmq_url, anvil, CHAIN_ID, HEAD_BLOCKS))
    for name, values, limit_ms in (("stored", latencies.committed, 100), ("published", latencies.published, 150)):
        p50 = statistics.median(values)
        figures.show(
            f"monitor_head_{name}_p50", p50, "ms", target=f"<= {limit_ms}", ok=p50 <= limit_ms, blocks=len(values)
        )


def main() -> int:
    figures = Figures()
    with PrivateServers(REPOSITORY) as servers:
        for work in (TRANSFERS, SWAPS):
            with servers.fresh_chain() as anvil:
                measure(figures, servers, anvil, work)
        with servers.fresh_chain() as anvil:
            measure_head(figures, servers, anvil)
    return figures.exit_code


if __name__ == "__main__":
    sys.exit(main())
