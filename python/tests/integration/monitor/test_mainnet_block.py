"""One real Ethereum block, replayed by a small node: every token transfer as another indexer decoded it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncEngine

from tradingflow.chain.registry import AbiRegistry
from tradingflow.core.config import ChainSettings
from tradingflow.core.evm import parse_address
from tradingflow.monitor.server import follow_chain

from .stored import Stored, catch_up

DATA = Path(__file__).resolve().parents[4].parent / "shared/data/mainnet-block-17173049"
NUMBER = 17_173_049
TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"

pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the recorded block (../shared/data) is not here")


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text().splitlines()]


def as_sent_by_a_node(log: dict[str, Any]) -> dict[str, Any]:
    return {
        "address": log["address"], "topics": log["topics"], "data": log["data"],
        "blockNumber": hex(log["block_number"]), "blockHash": log["block_hash"],
        "transactionHash": log["transaction_hash"], "logIndex": hex(log["log_index"]), "removed": False,
    }  # fmt: skip


class Replay:
    """Answers what the Monitor asks for, from the recording."""

    def __init__(self) -> None:
        (self._block,) = lines("blocks.jsonl")
        self._logs = [as_sent_by_a_node(log) for log in lines("logs.jsonl")]

    def answer(self, call: dict[str, Any]) -> object:
        if call["method"] == "eth_chainId":
            return "0x1"
        if call["method"] == "eth_getBlockByNumber":
            wanted = call["params"][0]
            return self._header if wanted in {"latest", hex(NUMBER)} else None
        if call["method"] == "eth_getBlockReceipts":
            return [{"logs": self._logs}]
        if call["method"] == "eth_getStorageAt":
            return "0x" + "00" * 32
        addresses = call["params"][0]["address"]
        return [log for log in self._logs if log["address"] in addresses]

    @property
    def _header(self) -> dict[str, Any]:
        block = self._block
        return {
            "number": hex(NUMBER), "hash": block["hash"], "parentHash": block["parent_hash"],
            "timestamp": hex(block["timestamp"]), "logsBloom": block["logs_bloom"],
        }  # fmt: skip

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        async def handle(request: web.Request) -> web.Response:
            calls = await request.json()
            many = calls if isinstance(calls, list) else [calls]
            answers = [{"jsonrpc": "2.0", "id": call["id"], "result": self.answer(call)} for call in many]
            return web.json_response(answers if isinstance(calls, list) else answers[0])

        app = web.Application()
        app.router.add_post("/", handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        await runner.cleanup()


async def test_every_token_transfer_of_a_real_block_is_stored_as_it_was(engine: AsyncEngine) -> None:
    stored = Stored(engine, 1)
    for address in sorted({log["address"] for log in lines("logs.jsonl")}):
        await stored.monitor(parse_address(address), "token", NUMBER)
    async with Replay().serving() as url:
        chain = ChainSettings(chain_id=1, name="mainnet", rpc_urls=(url,), start_block=NUMBER)
        async with follow_chain(chain, engine, AbiRegistry()) as follower:
            await catch_up(follower)

    events = await stored.events()
    transfers = [event for event in events if event.name == "Transfer"]
    ours = [
        {
            "token_address": event.address.lower(), "from_address": event.args["from"].lower(),
            "to_address": event.args["to"].lower(), "log_index": event.log_index,
            "value": int(event.args.get("value", event.args.get("tokenId"))),
        }
        for event in transfers
    ]  # fmt: skip
    theirs = [{key: transfer[key] for key in ours[0]} for transfer in lines("token_transfers.jsonl")]
    assert ours == sorted(theirs, key=lambda transfer: transfer["log_index"])
    assert sum("tokenId" in event.args for event in transfers) == 8
    assert len(events) == 271, "what is no token event is stored, too"
    assert all(event.undecoded_reason for event in events if event.name is None)
