"""The queue through which contract events reach the flows they trigger.

It is bound to the keys of those contracts only: what no flow waits for never leaves the exchange.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass

import msgspec
from aio_pika.abc import AbstractIncomingMessage

from tradingflow.core.errors import DependencyUnavailable
from tradingflow.core.logging import get_logger
from tradingflow.messaging.broker import LOST, Broker, stuck_is_lost, to_its_end
from tradingflow.messaging.chain_messages import ChainMessage, decode_chain_message
from tradingflow.messaging.consuming import consume_in_order
from tradingflow.messaging.topology import CHAIN_EVENTS, CHAIN_EVENTS_FINAL, FLOW_TRIGGERS

log = get_logger(__name__)

REBIND_PERIOD_S = 60.0


@dataclass(frozen=True, slots=True)
class ContractEvents:
    """Which events: of one contract, of one name or (None) of any; seen at once or once final."""

    chain_id: int
    address: str
    event: str | None
    final: bool

    @property
    def exchange(self) -> str:
        return CHAIN_EVENTS_FINAL if self.final else CHAIN_EVENTS

    @property
    def routing_key(self) -> str:
        return f"{self.chain_id}.*.{self.address}.{self.event or '*'}"


Handle = Callable[[ChainMessage, bool], Awaitable[None]]
"""Takes a message and whether it came as final. Raises DependencyUnavailable to get it again."""


async def bind_contract_events(broker: Broker, wanted: Iterable[ContractEvents]) -> None:
    """From now on these events are kept for `consume_contract_events`. Binding twice does no harm.

    Raises DependencyUnavailable when the broker is away.
    """
    try:
        with stuck_is_lost():
            channel = await broker.channel(prefetch=1)
            queue = await channel.get_queue(FLOW_TRIGGERS, ensure=False)
            for events in wanted:
                await queue.bind(events.exchange, events.routing_key)
            await channel.close()
    except LOST as error:
        raise DependencyUnavailable("rabbitmq_unavailable", "the contract's events cannot be subscribed to") from error


async def keep_bound(broker: Broker, all_wanted: Callable[[], Awaitable[Collection[ContractEvents]]]) -> None:
    """Bind again and again until cancelled: a broker may have lost its data."""
    while True:
        try:
            if wanted := await all_wanted():
                await to_its_end(bind_contract_events(broker, wanted))
        except DependencyUnavailable as error:
            log.warning("contract events are bound later", error=error)
        await asyncio.sleep(REBIND_PERIOD_S)


async def consume_contract_events(broker: Broker, handle: Handle) -> None:
    """Hand every event to `handle` until cancelled, as `consume_in_order` does: a reorg's word that an event is
    taken back never overtakes the event."""

    async def receive(message: AbstractIncomingMessage) -> None:
        try:
            decoded = decode_chain_message(message.body)
        except msgspec.MsgspecError as error:
            log.warning("not a chain message; dropped", message_id=message.message_id, error=error)
            return
        await handle(decoded, message.exchange == CHAIN_EVENTS_FINAL)

    await consume_in_order(broker, FLOW_TRIGGERS, receive)
