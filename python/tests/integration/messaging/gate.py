"""A way to the broker that a test can block and cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class Gate:
    """Passes bytes on between whoever connects to `url` and the broker."""

    def __init__(self, broker_url: str) -> None:
        self._to = urlsplit(broker_url)
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._block_at: bytes | None = None
        self.came: asyncio.Queue[None] = asyncio.Queue()
        """One for each connection."""
        self.url = ""

    def block(self) -> None:
        """From now on nothing passes, and nobody is told."""
        self._open.clear()

    def block_at(self, words: bytes) -> None:
        """Block as soon as these bytes come by."""
        self._block_at = words

    def cut(self) -> None:
        """Break every connection. New ones pass."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        self._block_at = None
        self._open.set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Gate]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        self.url = self._to._replace(netloc=f"{self._to.username}:{self._to.password}@127.0.0.1:{port}").geturl()
        try:
            yield self
        finally:
            server.close()
            self.cut()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.came.put_nowait(None)
        far_reader, far_writer = await asyncio.open_connection(self._to.hostname, self._to.port)
        self._writers |= {writer, far_writer}
        await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                if self._block_at is not None and self._block_at in data:
                    self.block()
                await self._open.wait()
                writer.write(data)
        except OSError:
            return
        finally:
            writer.close()
