"""What people do with web3.py: `contract.events.X().get_logs` over block ranges, block times, an insert a batch.

Called like `monitor_index`; reads at most `blocks` blocks from `first_block` on and prints seconds and events.
"""

import asyncio
import json
import sys
import time
from typing import Any

import asyncpg
from web3 import Web3
from web3.contract.contract import ContractEvent

BLOCKS_PER_BATCH = 100
TABLE = """
CREATE TABLE IF NOT EXISTS baseline_events (
    block_number bigint, log_index integer, block_hash bytea, transaction_hash bytea, address text, name text,
    args jsonb, block_time timestamptz, PRIMARY KEY (block_number, log_index))
"""
INSERT = "INSERT INTO baseline_events VALUES ($1, $2, $3, $4, $5, $6, $7, to_timestamp($8))"


def rows(web3: Web3, event: ContractEvent, first: int, last: int) -> list[tuple[Any, ...]]:
    logs = event.get_logs(from_block=first, to_block=last)
    times = {number: web3.eth.get_block(number)["timestamp"] for number in {log["blockNumber"] for log in logs}}
    return [
        (
            log["blockNumber"], log["logIndex"], bytes(log["blockHash"]), bytes(log["transactionHash"]),
            log["address"], log["event"], json.dumps({key: str(value) for key, value in log["args"].items()}),
            times[log["blockNumber"]],
        )
        for log in logs
    ]  # fmt: skip


async def index(job: dict[str, Any]) -> dict[str, float]:
    web3 = Web3(Web3.HTTPProvider(job["rpc_url"]))
    contract = web3.eth.contract(address=web3.to_checksum_address(job["address"]), abi=job["abi"])
    event = contract.events[job["event"]]()
    connection = await asyncpg.connect(job["database_url"].replace("+asyncpg", ""))
    await connection.execute(TABLE)
    count, started = 0, time.perf_counter()
    for first in range(job["first_block"], job["first_block"] + job["blocks"], BLOCKS_PER_BATCH):
        batch = rows(web3, event, first, first + BLOCKS_PER_BATCH - 1)
        async with connection.transaction():
            await connection.executemany(INSERT, batch)
        count += len(batch)
    seconds = time.perf_counter() - started
    await connection.close()
    return {"seconds": seconds, "events": float(count)}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(index(json.loads(sys.argv[1])))))
