"""Signals while the broker is away."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from structlog.testing import capture_logs

from tradingflow.core.errors import DependencyUnavailable
from tradingflow.messaging.broker import Broker
from tradingflow.py_worker.runtime import signaller as signalling
from tradingflow.py_worker.runtime.signaller import Signaller


class AwayBroker:
    """Takes a message at the fifth try."""

    def __init__(self) -> None:
        self.tries = 0

    async def publish(self, exchange: str, routing_key: str, body: bytes, *, message_id: str) -> None:
        self.tries += 1
        if self.tries < 5:
            raise DependencyUnavailable("publish_failed", "away")


async def test_a_broker_that_is_away_is_tried_again_and_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signalling, "RETRY_S", 0.0)
    broker, confirmed = AwayBroker(), asyncio.Event()
    with capture_logs() as lines:
        Signaller(cast("Broker", broker)).send(0, b"1", confirmed.set)
        async with asyncio.timeout(30):
            await confirmed.wait()
    assert broker.tries == 5
    assert [line["event"] for line in lines] == ["publish is retried"]
