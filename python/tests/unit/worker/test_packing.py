"""A pack of messages stays far below what the broker takes: a larger one would close the channel, again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import cast

from tradingflow.db.outbox import OutgoingMessage
from tradingflow.messaging.broker import Broker
from tradingflow.messaging.messages import MAX_PACKED, MAX_PACKED_BYTES, packable
from tradingflow.messaging.topology import CYCLES
from tradingflow.py_worker.runtime.signaller import Signaller
from tradingflow.py_worker.server import _packing_publish

LARGE = b'"' + b"x" * 999_998 + b'"'
ENVELOPE = MAX_PACKED + 1  # commas and brackets


class FakeBroker:
    """Keeps the sizes of what is published."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    async def publish(self, exchange: str, routing_key: str, body: bytes, *, message_id: str) -> None:
        self.sizes.append(len(body))

    async def publish_all(self, messages: Sequence[tuple[str, str, str, bytes]]) -> None:
        self.sizes += [len(body) for *_, body in messages]


def test_a_pack_is_bounded_in_number_and_in_bytes_and_has_at_least_one() -> None:
    assert packable([]) == 0
    assert packable([b"1"] * (MAX_PACKED + 1)) == MAX_PACKED
    assert packable([b"1"] * 3) == 3
    half = b"x" * (MAX_PACKED_BYTES // 2)
    assert packable([half, half, b"1"]) == 2
    assert packable([b"x" * (MAX_PACKED_BYTES + 1), b"1"]) == 1
    assert packable([b"1", b"x" * (MAX_PACKED_BYTES + 1)]) == 1


async def test_large_signals_leave_in_packs_of_few_and_in_order() -> None:
    broker = FakeBroker()
    signaller = Signaller(cast("Broker", broker))
    confirmed: asyncio.Queue[int] = asyncio.Queue()
    for number in range(MAX_PACKED):
        signaller.send(0, LARGE, partial(confirmed.put_nowait, number))
    async with asyncio.timeout(30):
        assert [await confirmed.get() for _ in range(MAX_PACKED)] == list(range(MAX_PACKED))
    assert max(broker.sizes) <= MAX_PACKED_BYTES + ENVELOPE
    assert len(broker.sizes) == MAX_PACKED * len(LARGE) // MAX_PACKED_BYTES


async def test_large_messages_of_the_outbox_leave_in_packs_of_few() -> None:
    broker = FakeBroker()
    messages = [OutgoingMessage(CYCLES, "cycle.partition.0", str(number), LARGE) for number in range(MAX_PACKED)]
    await _packing_publish(cast("Broker", broker))(messages)
    assert sum(broker.sizes) >= MAX_PACKED * len(LARGE)
    assert max(broker.sizes) <= MAX_PACKED_BYTES + ENVELOPE
