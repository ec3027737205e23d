"""What an operator adds to what the Monitor knows: ABIs, factory rules, contracts."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncEngine

from tradingflow.chain.decoder import MAX_NAME_CHARS, EventSpec, check_names, event_from_abi
from tradingflow.chain.registry import WILDCARD, built_in_events
from tradingflow.core.errors import InvalidInput, NotFound
from tradingflow.db.models.chain import ContractAbi, MonitoredContract
from tradingflow.db.models.chain import FactoryRule as FactoryRuleRow
from tradingflow.monitor.discovery import FactoryRule


async def keep_abi(engine: AsyncEngine, kind: str, text: bytes) -> int:
    """Keep a JSON ABI under a kind, in the place of what it had; returns how many events it has. Raises InvalidInput.

    Only the wildcard may replace what is built in: it says what else any contract may log.
    """
    if kind in built_in_events() and kind != WILDCARD:
        raise InvalidInput("built_in_kind", f"{kind} is built in; call this one something else")
    if len(kind) > MAX_NAME_CHARS:
        raise InvalidInput("invalid_kind", f"a kind has at most {MAX_NAME_CHARS} characters")
    entries = _entries(text)
    row = {"kind": kind, "user_id": None, "entries": entries}
    statement = upsert(ContractAbi).values(row)
    statement = statement.on_conflict_do_update(
        index_elements=["kind"], set_={"entries": entries, "created_at": func.now()}
    )
    async with engine.begin() as connection:
        await connection.execute(statement)
    return len(entries)


def _entries(text: bytes) -> list[dict[str, object]]:
    try:
        entries = msgspec.json.decode(text, type=list[dict[str, object]])
    except msgspec.MsgspecError as error:
        raise InvalidInput("invalid_abi", "an ABI is a JSON list of objects") from error
    events = [entry for entry in entries if entry.get("type") == "event"]
    for entry in events:
        check_names(event_from_abi(entry))
    if not events:
        raise InvalidInput("invalid_abi", "there is no event in this ABI")
    return events


async def keep_rule(engine: AsyncEngine, rule: FactoryRule) -> None:
    """Keep a factory rule. Raises InvalidInput where its ABIs cannot mean it, NotFound for a kind that has none."""
    await _events(engine, rule.child_kind)
    named = [event for event in await _events(engine, rule.factory_kind) if event.name == rule.event]
    if not named:
        raise InvalidInput("unknown_event", f"{rule.factory_kind} has no event {rule.event}")
    if not any(param.name == rule.argument and param.type == "address" for event in named for param in event.params):
        raise InvalidInput("unknown_argument", f"{rule.event} has no address called {rule.argument}")
    values = {"argument": rule.argument, "child_kind": rule.child_kind}
    statement = upsert(FactoryRuleRow).values(factory_kind=rule.factory_kind, event=rule.event, **values)
    async with engine.begin() as connection:
        await connection.execute(statement.on_conflict_do_update(index_elements=["factory_kind", "event"], set_=values))


async def follow(engine: AsyncEngine, chain_id: int, address: str, kind: str, from_block: int) -> bool:
    """Have a contract followed from a block on; False when it is already, and stays as it is. Raises NotFound."""
    await _events(engine, kind)
    row = {"chain_id": chain_id, "address": address, "kind": kind, "from_block": from_block}
    async with engine.begin() as connection:
        added = await connection.execute(upsert(MonitoredContract).values(row).on_conflict_do_nothing())
    return added.rowcount == 1


async def _events(engine: AsyncEngine, kind: str) -> Sequence[EventSpec]:
    if kind in built_in_events():
        return built_in_events()[kind]
    async with engine.connect() as connection:
        entries = await connection.scalar(select(ContractAbi.entries).where(ContractAbi.kind == kind))
    if entries is None:
        raise NotFound("kind", kind)
    return [event_from_abi(entry) for entry in entries]
