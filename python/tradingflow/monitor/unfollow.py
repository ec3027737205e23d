"""Which contracts nobody wants any more, and how an operator ends following one.

What users add stays followed when they remove it: others may read its events by then. So it is a person who ends it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import (
    Select,
    SQLColumnExpression,
    delete,
    func,
    insert,
    literal,
    not_,
    select,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from tradingflow.core.errors import Conflict, NotFound
from tradingflow.db.models import (
    ChainCursor,
    ContractEvent,
    EventSubscription,
    Flow,
    FlowLog,
    MonitoredContract,
    NotificationDelivery,
    Schedule,
    UserContract,
    Vault,
)
from tradingflow.monitor.contracts import Contract
from tradingflow.monitor.store import CONTRACT_FIELDS, ChainStore

# Small transactions, so that nobody waits for them.
FORGOTTEN_AT_ONCE = 10_000

_ADDRESS = Schedule.trigger["address"].astext
Number = int | SQLColumnExpression[int]
Text = str | SQLColumnExpression[str]


async def unwanted(engine: AsyncEngine, chain_id: int, configured: Collection[str]) -> Sequence[Contract]:
    """Followed contracts that no user registered, waits for with a flow or is told of, no factory announced and CHAINS
    does not name, oldest first.

    What an operator followed is among them, too.
    """
    here = MonitoredContract.chain_id, MonitoredContract.address
    wanted = (_of(table, *here) for table in (UserContract, EventSubscription, Vault))
    query = (
        select(*CONTRACT_FIELDS)
        .where(
            MonitoredContract.chain_id == chain_id,
            MonitoredContract.discovered_by.is_(None),
            MonitoredContract.address.not_in(configured),
            *(not_(each.exists()) for each in wanted),
        )
        .order_by(MonitoredContract.from_block, MonitoredContract.address)
    )
    async with engine.connect() as connection:
        waited_for = set(await connection.scalars(_waiting(chain_id).with_only_columns(_ADDRESS).distinct()))
        contracts = [Contract(*row) for row in await connection.execute(query)]
    return [contract for contract in contracts if contract.address not in waited_for]


async def unfollow(
    engine: AsyncEngine, store: ChainStore, chain_id: int, address: str, configured: Collection[str], *, users_too: bool
) -> int:
    """Forget a contract with its events; returns how many there were. With `users_too` also where users want it.

    A running Monitor sees it at its next block. Events that a reorg may still take back stay until they are final: the
    same again forgets them. Raises NotFound, and Conflict where it would come back or is still wanted.
    """
    async with engine.begin() as connection:
        was_followed = await _require_endable(connection, chain_id, address, configured)
        if was_followed:
            await _take_from_users(connection, chain_id, address, users_too=users_too)
            await store.end_following(connection, address)
    forgotten = 0
    while gone := await _forget_some(engine, chain_id, address):
        forgotten += gone
    if not was_followed and not forgotten:
        raise NotFound("monitored contract", address)
    return forgotten


async def _require_endable(
    connection: AsyncConnection, chain_id: int, address: str, configured: Collection[str]
) -> bool:
    """False where it is not followed, or no more. Raises Conflict."""
    ours = (MonitoredContract.chain_id == chain_id, MonitoredContract.address == address)
    found = (await connection.execute(select(MonitoredContract.discovered_by).where(*ours))).one_or_none()
    if found is None:
        return False
    if address in configured or found.discovered_by is not None:
        by = "CHAINS" if address in configured else f"the factory {found.discovered_by}"
        raise Conflict("still_followed", f"{by} names {address}, which would be followed again")
    if await connection.scalar(select(_of(Vault, chain_id, address).exists())):
        raise Conflict("is_vault", f"{address} is a user's vault")
    return True


async def _take_from_users(connection: AsyncConnection, chain_id: int, address: str, *, users_too: bool) -> None:
    flows = _waiting(chain_id).where(address == _ADDRESS)
    wanted = (_of(UserContract, chain_id, address), flows, _of(EventSubscription, chain_id, address))
    counts = [await connection.scalar(select(func.count()).select_from(each.subquery())) for each in wanted]
    if any(counts) and not users_too:
        registered, waiting, told = counts
        said = (
            f"{registered} users have registered it, {waiting} flows wait for its events, {told} channels hear of them"
        )
        raise Conflict("still_wanted", f"{address}: {said}; --users-too takes it from them")
    for table in (UserContract, EventSubscription):
        await connection.execute(delete(table).where(table.chain_id == chain_id, table.address == address))
    line = f"the operator follows {address} on chain {chain_id} no more: the events this flow waits for will not come"
    lines = flows.with_only_columns(
        Schedule.flow_pk, Schedule.next_cycle, literal("WARNING"), literal("system"), literal(line)
    )
    columns = ["flow_pk", "cycle", "log_level", "log_source", "message"]
    await connection.execute(insert(FlowLog).from_select(columns, lines))


async def _forget_some(engine: AsyncEngine, chain_id: int, address: str) -> int:
    """Some of the events no reorg takes back and no notice still hangs on: it would be taken back, too."""
    key = (ContractEvent.chain_id, ContractEvent.block_number, ContractEvent.log_index)
    final = select(ChainCursor.next_final_block).where(ChainCursor.chain_id == chain_id).scalar_subquery()
    open_notices = select(func.min(NotificationDelivery.block_number))
    until = func.least(final, open_notices.where(NotificationDelivery.chain_id == chain_id).scalar_subquery())
    again = select(MonitoredContract.address).where(  # followed anew meanwhile: its events are others
        MonitoredContract.chain_id == chain_id, MonitoredContract.address == address
    )
    some = (
        select(*key)
        .where(
            ContractEvent.chain_id == chain_id,
            ContractEvent.address == address,
            ContractEvent.block_number < until,
            not_(again.exists()),
        )
        .limit(FORGOTTEN_AT_ONCE)
    )
    async with engine.begin() as connection:
        return int((await connection.execute(delete(ContractEvent).where(tuple_(*key).in_(some)))).rowcount)


def _of(table: type[UserContract | EventSubscription | Vault], chain_id: Number, address: Text) -> Select[Any]:
    return select(table.id).where(table.chain_id == chain_id, table.address == address)


def _waiting(chain_id: int) -> Select[Any]:
    """Schedules of flows that contract events start."""
    return (
        select(Schedule.flow_pk)
        .join(Flow, Flow.id == Schedule.flow_pk)
        .where(
            Schedule.trigger.has_key("address"),
            Schedule.trigger["chain_id"].as_integer() == chain_id,
            Flow.status != "stopped",
        )
    )
