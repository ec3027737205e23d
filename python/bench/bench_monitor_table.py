"""`make bench-monitor-table`: what the questions asked of `contract_events` cost once it is full, and other layouts.

The plans go to standard error. Sizes by environment: STORED (10,000,000), ADDED (200,000).
"""

import asyncio
import os
import sys
import time
from pathlib import Path

import asyncpg

from bench.figure import Figures, progress
from devstack.private_servers import PrivateServers

REPOSITORY = Path(__file__).resolve().parents[2]
# Every query below is made of this file's constants.
# ruff: noqa: S608
STORED = int(os.environ.get("STORED", "10000000"))
ADDED = int(os.environ.get("ADDED", "200000"))
EVENTS_PER_BLOCK = 100
CONTRACTS = 1000
UNDECODED_EVERY = 10_000
PARTITIONS = 10
RUNS = 5
BLOCKS = STORED // EVENTS_PER_BLOCK

ROWS = f"""
SELECT 1 AS chain_id, n / {EVENTS_PER_BLOCK} AS block_number, (n % {EVENTS_PER_BLOCK})::integer AS log_index,
    sha256(int8send(n / {EVENTS_PER_BLOCK})) AS block_hash, sha256(int8send(n)) AS transaction_hash,
    substr(sha256(int8send(n % {CONTRACTS})), 1, 20) AS address, 'erc20' AS kind,
    CASE WHEN n % {UNDECODED_EVERY} > 0 THEN 'Transfer' END AS name,
    CASE WHEN n % {UNDECODED_EVERY} > 0 THEN jsonb_build_object('from', '0x' || encode(sha256(int8send(n)), 'hex'),
        'to', '0x' || encode(sha256(int8send(n)), 'hex'), 'value', n::text) END AS args,
    CASE WHEN n % {UNDECODED_EVERY} = 0 THEN 'no event of erc20 fits' END AS undecoded_reason,
    ARRAY[sha256(int8send(n)), sha256(int8send(n)), sha256(int8send(n))] AS topics, sha256(int8send(n)) AS data,
    to_timestamp(1700000000 + n / {EVENTS_PER_BLOCK}) AS block_time
FROM generate_series($1::bigint, $2::bigint) AS n
"""
CONTRACT = "substr(sha256(int8send(7)), 1, 20)"
# Name, the most it may take in milliseconds, and the question as a service asks it.
QUESTIONS = {
    "newest_page_of_a_contract": (20, f"""
        SELECT * FROM contract_events WHERE chain_id = 1 AND address = {CONTRACT}
        ORDER BY block_number DESC, log_index DESC LIMIT 100"""),
    "page_of_a_contract_from_the_middle": (20, f"""
        SELECT * FROM contract_events WHERE chain_id = 1 AND address = {CONTRACT}
        AND block_number <= {BLOCKS // 2} ORDER BY block_number DESC, log_index DESC LIMIT 100"""),
    "blocks_to_announce": (20, f"""
        SELECT block_number, count(*) FROM contract_events WHERE chain_id = 1
        AND block_number >= {BLOCKS // 2} AND block_number < {BLOCKS // 2 + 50} GROUP BY block_number
        ORDER BY block_number"""),
    "rows_a_deep_reorg_removes": (50, f"""
        SELECT * FROM contract_events WHERE chain_id = 1 AND block_number > {BLOCKS - 64}"""),
    "undecoded_count": (50, "SELECT count(*) FROM contract_events WHERE chain_id = 1 AND name IS NULL"),
}  # fmt: skip
BY_BLOCKS = f"""
SELECT count(*) FROM contract_events WHERE chain_id = 1 AND block_number BETWEEN {BLOCKS // 2} AND {BLOCKS // 2 + 1000}
"""


async def best_ms(connection: asyncpg.Connection, query: str) -> float:
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        await connection.fetch(query)
        times.append(1000 * (time.perf_counter() - started))
    return min(times)


async def show_plan(connection: asyncpg.Connection, name: str, query: str) -> None:
    lines = await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) {query}")
    progress("\n    ".join([f"plan of {name}:", *(line[0] for line in lines)]))


async def add(connection: asyncpg.Connection, table: str, first: int, last: int) -> float:
    """Insert rows; returns how many a second."""
    started = time.perf_counter()
    await connection.execute(f"INSERT INTO {table} {_numbered(first, last)}")
    return (last - first + 1) / (time.perf_counter() - started)


def _numbered(first: int, last: int) -> str:
    return ROWS.replace("$1", str(first)).replace("$2", str(last))


async def size_mb(connection: asyncpg.Connection, relation: str) -> float:
    return float(await connection.fetchval("SELECT pg_relation_size($1::regclass)", relation)) / 2**20


async def measure(url: str, figures: Figures) -> None:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""), command_timeout=1800)
    empty = await add(connection, "contract_events", 0, ADDED - 1)
    await add(connection, "contract_events", ADDED, STORED - 1)
    await connection.execute("VACUUM (ANALYZE) contract_events")
    progress(f"{STORED} events stored, {await size_mb(connection, 'contract_events'):,.0f} MB")
    for name, (limit_ms, query) in QUESTIONS.items():
        await show_plan(connection, name, query)
        took = await best_ms(connection, query)
        figures.show(f"monitor_table_{name}", took, "ms", target=f"<= {limit_ms}", ok=took <= limit_ms, stored=STORED)
    full = await add(connection, "contract_events", STORED, STORED + ADDED - 1)
    figures.show("monitor_table_insert_when_full", full, "rows/s", baseline="into the empty table",
                 baseline_value=empty, target=">= 0.8 x baseline", ok=full >= 0.8 * empty)  # fmt: skip
    await measure_brin(connection, figures)
    await measure_partitions(connection, figures, full)
    await connection.close()


async def measure_brin(connection: asyncpg.Connection, figures: Figures) -> None:
    """A BRIN index of block numbers beside the primary key: the same question answered by each."""
    by_key, key_mb = await best_ms(connection, BY_BLOCKS), await size_mb(connection, "pk_contract_events")
    await connection.execute("CREATE INDEX brin ON contract_events USING brin (block_number)")
    await connection.execute("SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_seqscan = off")
    await connection.execute("ALTER TABLE contract_events DROP CONSTRAINT pk_contract_events")
    await show_plan(connection, "a range of blocks by BRIN", BY_BLOCKS)
    by_brin, brin_mb = await best_ms(connection, BY_BLOCKS), await size_mb(connection, "brin")
    await connection.execute("RESET ALL")
    sizes = {"key": round(key_mb, 1), "brin": round(brin_mb, 3)}
    figures.show("monitor_table_range_by_brin", by_brin, "ms", baseline="by primary key", baseline_value=by_key,
                 target="for the record", ok=True, index_mb=sizes)  # fmt: skip


async def measure_partitions(connection: asyncpg.Connection, figures: Figures, plain: float) -> None:
    """The same rows in a table partitioned by block range: what its newest partition takes a second."""
    await connection.execute("CREATE TABLE parted (LIKE contract_events) PARTITION BY RANGE (block_number)")
    await connection.execute("ALTER TABLE parted ADD PRIMARY KEY (chain_id, block_number, log_index)")
    await connection.execute("CREATE INDEX ON parted (chain_id, address, block_number)")
    step = BLOCKS // PARTITIONS
    for place in range(PARTITIONS + 1):
        bounds = f"FROM ({place * step}) TO ({(place + 1) * step})"
        await connection.execute(f"CREATE TABLE parted_{place} PARTITION OF parted FOR VALUES {bounds}")
    await add(connection, "parted", STORED - ADDED, STORED - 1)
    rate = await add(connection, "parted", STORED, STORED + ADDED - 1)
    figures.show("monitor_table_insert_into_partition", rate, "rows/s", baseline="into the one full table",
                 baseline_value=plain, target="for the record", ok=True)  # fmt: skip


def main() -> int:
    figures = Figures()
    with PrivateServers(REPOSITORY) as servers, servers.fresh_database() as url:
        asyncio.run(measure(url, figures))
    return figures.exit_code


if __name__ == "__main__":
    sys.exit(main())
