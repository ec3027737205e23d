"""One backfill by the Monitor's own parts in a process of its own, so that its memory is its own too.

Called with a JSON object (rpc_url, database_url, address, kind, finality_blocks); prints seconds, events and the most
memory the process ever held.
"""

import json
import resource
import sys
import time
from typing import Any

import uvloop
from pydantic import SecretStr
from sqlalchemy import func, insert, select

from tradingflow.chain.registry import AbiRegistry
from tradingflow.core.config import ChainSettings, PlatformSettings
from tradingflow.core.evm import parse_address
from tradingflow.core.logging import configure_logging
from tradingflow.db.engine import make_engine
from tradingflow.db.models.chain import ContractEvent, MonitoredContract
from tradingflow.monitor.server import collect_garbage_rarely, follow_chain


async def index(job: dict[str, Any]) -> dict[str, float]:
    engine = make_engine(PlatformSettings(database_url=SecretStr(job["database_url"])), application="bench")
    chain = ChainSettings(
        chain_id=job["chain_id"], name="bench", rpc_urls=(job["rpc_url"],), finality_blocks=job["finality_blocks"]
    )
    contract = {"chain_id": chain.chain_id, "address": parse_address(job["address"]), "kind": job["kind"]}
    async with engine.begin() as connection:
        await connection.execute(insert(MonitoredContract), [contract | {"from_block": 0}])
    async with follow_chain(chain, engine, AbiRegistry()) as follower:
        started = time.perf_counter()
        cpu_started = time.process_time()
        while not await follower.round():
            pass
        seconds = time.perf_counter() - started
        cpu_seconds = time.process_time() - cpu_started
    async with engine.connect() as connection:
        count = select(func.count()).select_from(ContractEvent).where(ContractEvent.chain_id == chain.chain_id)
        events = await connection.scalar(count)
    await engine.dispose()
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "events": float(events or 0), "peak_mb": peak_mb}


if __name__ == "__main__":
    configure_logging("bench", "WARNING")
    collect_garbage_rarely()
    print(json.dumps(uvloop.run(index(json.loads(sys.argv[1])))))
