"""New heads by WebSocket (`eth_subscribe newHeads`), as a wake-up only.

What is read after a wake-up is the same as after a poll, so a socket that is slow, silent or wrong costs latency and
nothing else.
"""

from __future__ import annotations

import asyncio

import aiohttp
import msgspec

from tradingflow.chain.rpc import node_name
from tradingflow.core.logging import get_logger

log = get_logger(__name__)

RECONNECT_S = 1.0
HEARTBEAT_S = 15.0
# While the socket delivers, polling is only the safety net for a head it swallowed.
CONNECTED_POLL_S = 5.0


class _Answer(msgspec.Struct):
    id: int | None = None
    method: str | None = None
    result: msgspec.Raw = msgspec.Raw(b"null")


class NewHeads:
    """Wakes whoever waits when the node at `url` announces a block of this chain. Run it beside the follower."""

    def __init__(self, url: str, chain_id: int) -> None:
        self._url = url
        self._name = node_name(url)
        self._chain_id = chain_id
        self._arrived = asyncio.Event()
        self.connected = False

    async def wait(self, poll_s: float) -> None:
        """Until the next head, or for `poll_s` (longer while the socket delivers)."""
        timeout_s = max(poll_s, CONNECTED_POLL_S) if self.connected else poll_s
        try:
            await asyncio.wait_for(self._arrived.wait(), timeout_s)
        except TimeoutError:
            return
        finally:
            self._arrived.clear()

    async def run(self) -> None:
        """Listen until cancelled, connecting anew after every failure."""
        while True:
            try:
                await self._listen()
            except (aiohttp.ClientError, msgspec.MsgspecError, OSError, TimeoutError) as error:
                log.warning("head socket lost", node=self._name, chain_id=self._chain_id, error=type(error).__name__)
            self.connected = False
            await asyncio.sleep(RECONNECT_S)

    async def _listen(self) -> None:
        async with aiohttp.ClientSession() as session, session.ws_connect(self._url, heartbeat=HEARTBEAT_S) as socket:
            await self._request(socket, 1, "eth_chainId", [])
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    await self._take(socket, msgspec.json.decode(message.data, type=_Answer))

    async def _take(self, socket: aiohttp.ClientWebSocketResponse, answer: _Answer) -> None:
        if answer.method == "eth_subscription":
            self._arrived.set()
        elif answer.id == 1:
            if msgspec.json.decode(answer.result) != hex(self._chain_id):
                log.error("head socket serves another chain", node=self._name, chain_id=self._chain_id)
                await socket.close()
                return
            await self._request(socket, 2, "eth_subscribe", ["newHeads"])
        elif answer.id == 2:
            self.connected = True
            self._arrived.set()

    async def _request(
        self, socket: aiohttp.ClientWebSocketResponse, number: int, method: str, params: list[str]
    ) -> None:
        await socket.send_json({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
