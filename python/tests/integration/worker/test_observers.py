"""Whoever binds to `signals_exchange` is told the signals, and telling never harms the flow."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aio_pika.abc import AbstractIncomingMessage

from tests.integration.worker.conftest import Client
from tests.integration.worker.nodes import edge, node
from tradingflow.messaging.broker import Broker
from tradingflow.messaging.topology import SIGNALS

LONGEST = 100

Told = asyncio.Queue[AbstractIncomingMessage]


@pytest.fixture
async def broker(rabbitmq_url: str) -> AsyncIterator[Broker]:
    async with Broker(rabbitmq_url, name="test", partitions=4) as broker:
        yield broker


async def _observe(broker: Broker, binding: str) -> Told:
    told: Told = asyncio.Queue()
    queue = await (await broker.channel(prefetch=10)).declare_queue(exclusive=True)
    await queue.bind(SIGNALS, binding)
    await queue.consume(told.put, no_ack=True)
    return told


async def _next(told: Told) -> Any:
    async with asyncio.timeout(60):
        return json.loads((await told.get()).body)


async def test_signals_of_the_longest_names_are_told_and_harm_nothing(client: Client, broker: Broker) -> None:
    flow, a, b = (letter * LONGEST for letter in "fab")
    told = await _observe(broker, f"flow.{flow}.#")
    await client.execute(flow, [node(a, "emit", {"value": 7}), node(b, "pass")], [edge(a, b)])
    signal = await _next(told)
    assert (signal["source_node"], signal["target_node"], signal["value"]) == (a, b, 7)
    assert (await client.cycle_end(flow))["status"] == "completed"
