"""Every exchange and queue, and who reads it. Durable and quorum throughout (RabbitMQ 4.x rules, also fine on 3.10).

cycles (direct)            -> cycle.partition.{0..P-1}   every message of one (flow, cycle) goes to one partition;
                              a single active consumer each, so joins need no remote state
cycles.dead (fanout)       -> cycles.dead                a cycle message that failed DELIVERY_TRIES times
trades (direct)            -> trade.requests             trades that wait for the executor
signals_exchange (topic)   observers of signals bind here
chain_events (topic)       {chain_id}.{contract_type}.{address}.{event_name}, as soon as stored; a reorg takes events
                              back with a chain_event_reverted message under the same key
chain_events_final (topic) the same keys, once a reorg can no longer take the event back
                           -> flow.triggers              bound to the keys of the contracts whose events start flows
"""

from __future__ import annotations

import hashlib

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel, FieldValue

CYCLES = "cycles"
CYCLES_DEAD = "cycles.dead"
TRADES = "trades"
TRADE_REQUESTS = "trade.requests"
SIGNALS = "signals_exchange"
CHAIN_EVENTS = "chain_events"
CHAIN_EVENTS_FINAL = "chain_events_final"
FLOW_TRIGGERS = "flow.triggers"

# AMQP 0-9-1 writes a routing key's length in one byte. A signal's key has at most 71 bytes around its names and 100 of
# the flow id, so four names of MAX_SHORT_NAME_BYTES always fit.
MAX_ROUTING_KEY_BYTES = 255
MAX_SHORT_NAME_BYTES = 20

# A message delivered this often without an ack is poison: it goes to the dead letters and its neighbours go on.
# The broker counts returns, hence one less in `x-delivery-limit`.
DELIVERY_TRIES = 5


def partition_queue(partition: int) -> str:
    """Both the name of a partition's queue and its routing key on CYCLES."""
    return f"cycle.partition.{partition}"


def signal_routing_key(
    flow_id: str, component: int, cycle: int, source: tuple[str, str], target: tuple[str, str]
) -> str:
    """The key observers bind to; `source` and `target` are (node id, handle).

    In a key that would have more than MAX_ROUTING_KEY_BYTES, each node id and handle of more than
    MAX_SHORT_NAME_BYTES is `~` and the first 16 hexadecimal digits of its SHA-256. The message has the full names.
    """
    key = _signal_routing_key(flow_id, component, cycle, (*source, *target))
    if len(key.encode()) <= MAX_ROUTING_KEY_BYTES:
        return key
    return _signal_routing_key(flow_id, component, cycle, tuple(map(_short_name, (*source, *target))))


def _signal_routing_key(flow_id: str, component: int, cycle: int, names: tuple[str, ...]) -> str:
    source, source_handle, target, target_handle = names
    return (
        f"flow.{flow_id}.component.{component}.cycle.{cycle}"
        f".from.{source}.handle.{source_handle}.to.{target}.handle.{target_handle}"
    )


def _short_name(name: str) -> str:
    encoded = name.encode()
    return name if len(encoded) <= MAX_SHORT_NAME_BYTES else f"~{hashlib.sha256(encoded).hexdigest()[:16]}"


def chain_event_routing_key(chain_id: int, contract_type: str, address: str, event_name: str) -> str:
    return f"{chain_id}.{contract_type}.{address}.{event_name}"


def chain_reorged_routing_key(chain_id: int) -> str:
    return f"{chain_id}.chain.reorged"


async def declare_topology(channel: AbstractChannel, partitions: int) -> None:
    """Declare everything; safe to repeat and to race. Each service does it at start, so start order is free."""
    for name, kind in (
        (CYCLES, ExchangeType.DIRECT),
        (CYCLES_DEAD, ExchangeType.FANOUT),
        (TRADES, ExchangeType.DIRECT),
        (SIGNALS, ExchangeType.TOPIC),
        (CHAIN_EVENTS, ExchangeType.TOPIC),
        (CHAIN_EVENTS_FINAL, ExchangeType.TOPIC),
    ):
        await channel.declare_exchange(name, kind, durable=True)
    await _quorum_queue(channel, CYCLES_DEAD, CYCLES_DEAD, {})
    await _quorum_queue(channel, TRADE_REQUESTS, TRADES, {"x-delivery-limit": 1000})
    # In order for one reader at a time; bound per contract by whoever waits for its events.
    await channel.declare_queue(
        FLOW_TRIGGERS, durable=True, arguments={"x-queue-type": "quorum", "x-single-active-consumer": True}
    )
    for partition in range(partitions):
        arguments: dict[str, FieldValue] = {
            "x-single-active-consumer": True,
            "x-delivery-limit": DELIVERY_TRIES - 1,
            "x-dead-letter-exchange": CYCLES_DEAD,
        }
        await _quorum_queue(channel, partition_queue(partition), CYCLES, arguments)


async def _quorum_queue(channel: AbstractChannel, name: str, exchange: str, arguments: dict[str, FieldValue]) -> None:
    queue = await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum", **arguments})
    await queue.bind(exchange, routing_key=name)
