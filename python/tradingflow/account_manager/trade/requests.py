"""From the queue `trade.requests` to the Celery task `trade.advance`.

A message is acknowledged once the broker has confirmed the task, so it is always in one of the two queues. In both,
after a crash, the task runs twice, which changes nothing.
"""

from __future__ import annotations

from typing import Any

import msgspec
from celery import bootsteps
from celery.worker.consumer import Consumer as WorkerConsumer
from kombu import Consumer, Exchange, Queue
from kombu.exceptions import OperationalError
from kombu.message import Message

from tradingflow.core.logging import get_logger
from tradingflow.messaging.messages import decode_trade_request
from tradingflow.messaging.topology import TRADE_REQUESTS, TRADES

log = get_logger(__name__)

PREFETCH = 50
ADVANCE_TASK = "trade.advance"

REQUESTS = Queue(
    TRADE_REQUESTS,
    Exchange(TRADES, type="direct", durable=True),
    routing_key=TRADE_REQUESTS,
    queue_arguments={"x-queue-type": "quorum", "x-delivery-limit": 1000},
)


class TradeRequests(bootsteps.ConsumerStep):
    """Consumes trade requests in the worker's main process."""

    def __init__(self, parent: WorkerConsumer, **options: Any) -> None:
        super().__init__(parent, **options)
        self._app = parent.app

    def get_consumers(self, channel: Any) -> list[Consumer]:
        # The body is ours to decode: kombu shall not look at it.
        consumer = Consumer(channel, queues=[REQUESTS], on_message=self.on_message, accept=None)
        consumer.qos(prefetch_count=PREFETCH)
        return [consumer]

    def on_message(self, message: Message) -> None:
        try:
            requested = decode_trade_request(_raw(message.body))
        except msgspec.MsgspecError:
            log.warning("malformed trade request dropped", message_id=message.properties.get("message_id"))
            message.reject()
            return
        try:
            self._app.send_task(ADVANCE_TASK, [requested.trade_id], ignore_result=True)
        except (OperationalError, OSError) as error:
            log.warning("trade request kept", trade_id=requested.trade_id, error=error)
            message.requeue()
            return
        message.ack()


def _raw(body: str | bytes | None) -> bytes:
    return body.encode() if isinstance(body, str) else body or b""
