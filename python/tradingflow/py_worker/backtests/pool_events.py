"""The history of a pool out of the events that the Monitor stored."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import Integer, Numeric, Select, case, func, or_, select, tuple_, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.chain.amm.concentrated import ConcentratedPool, TickLiquidity
from tradingflow.chain.amm.constant_product import ConstantProductPool
from tradingflow.chain.client import ChainClient
from tradingflow.chain.pool_math import default_base
from tradingflow.chain.uniswap import Pool, UniswapReader
from tradingflow.core.errors import InvalidInput
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import ChainBlock, ContractEvent, MonitoredContract
from tradingflow.py_worker.simulation.pool_history import PoolBlock, PoolEvent, PoolHistory, write_history

# Tens of megabytes in a worker that trades beside it; the busiest pools move as often in a week, others in a year.
MAX_EVENTS = 50_000
# The events that a pool's state is made of, and their arguments that tell it.
USED: Mapping[str, Mapping[str, Sequence[str]]] = {
    "v3": {
        "Initialize": ("sqrtPriceX96", "tick"),
        "Mint": ("tickLower", "tickUpper", "amount"),
        "Burn": ("tickLower", "tickUpper", "amount"),
        "Swap": ("amount0", "amount1", "sqrtPriceX96", "tick", "liquidity"),
    },
    "v2": {
        "Sync": ("reserve0", "reserve1"),
        "Mint": (),
        "Burn": (),
        "Swap": ("amount0In", "amount1In", "amount0Out", "amount1Out"),
    },
}


class Log(NamedTuple):
    """One stored event of a pool."""

    block_number: int
    block_time: datetime
    name: str
    args: Mapping[str, Any]


async def pool_history(
    sessions: SessionFactory, client: ChainClient, address: str, start: datetime, end: datetime
) -> str:
    """The pool as it stood at `start`, and its moves until `end`, as JSON for the backtest's process.

    Raises Refused("not_a_pool"), InvalidInput where the Monitor has not stored that history, DependencyUnavailable.
    """
    pool, spacing = await UniswapReader(client).pool(address), 0
    if pool.kind == "v3":
        spacing = int(await client.call("UniswapV3Pool", pool.address, "tickSpacing"))
    stored = _stored(client.chain_id, pool)
    async with sessions() as session:
        await _require_stored(session, client.chain_id, pool.address, end)
        state = await _state(session, stored.where(ContractEvent.block_time <= start), pool, spacing)
        if state is None:
            raise InvalidInput(
                "no_price_yet",
                f"no event stored before {start:%Y-%m-%dT%H:%M:%SZ} tells the price of {pool.address}: begin later, or "
                f"have the Monitor follow it from its creation as a Uniswap {pool.kind.upper()} pool",
            )
        chosen = stored.where(ContractEvent.block_time > start, ContractEvent.block_time <= end)
        await _require_few(session, chosen)
        logs = [Log(*row) for row in await session.execute(chosen)]
    base = default_base(pool.token0, pool.token1, client.settings.quote_token)
    start_ms, end_ms = (round(moment.timestamp() * 1000) for moment in (start, end))

    def written() -> str:
        decimals = pool.decimals0, pool.decimals1
        blocks = list(_blocks(pool, logs))
        history = PoolHistory(client.chain_id, pool.address, *decimals, base, state, start_ms, end_ms, blocks)
        return write_history(history).decode()

    return await asyncio.to_thread(written)


async def _require_stored(session: AsyncSession, chain_id: int, address: str, end: datetime) -> None:
    contract = await session.get(MonitoredContract, (chain_id, address))
    if contract is None:
        raise InvalidInput(
            "contract_not_monitored", f"the Monitor does not follow {address} on chain {chain_id}; add it there first"
        )
    reads_past = contract.history_next is not None and contract.history_next < (contract.live_from or 0)
    if contract.live_from is None or reads_past:
        raise InvalidInput("history_incomplete", f"the Monitor still reads the past of {address}; ask again later")
    newest = await session.scalar(select(func.max(ChainBlock.timestamp)).where(ChainBlock.chain_id == chain_id))
    if newest is None or newest < end:
        told = "none" if newest is None else f"of {newest:%Y-%m-%dT%H:%M:%SZ}"
        raise InvalidInput("history_incomplete", f"`to` lies after the newest block the Monitor has stored ({told})")


async def _require_few(session: AsyncSession, chosen: Select[Any]) -> None:
    count = await session.scalar(select(func.count()).select_from(chosen.order_by(None).subquery())) or 0
    if count > MAX_EVENTS:
        raise InvalidInput(
            "too_many_events", f"the pool moved {count:,} times in that time, at most {MAX_EVENTS:,}: take less of it"
        )


def _stored(chain_id: int, pool: Pool) -> Select[Any]:
    event = ContractEvent
    chosen = select(event.block_number, event.block_time, event.name, event.args).where(
        event.chain_id == chain_id, event.address == pool.address, event.name.in_(USED[pool.kind])
    )
    return chosen.order_by(event.block_number, event.log_index)


async def _state(
    session: AsyncSession, stored: Select[Any], pool: Pool, spacing: int
) -> ConcentratedPool | ConstantProductPool | None:
    """The pool after all stored events; None where none of them tells a price.

    A V3 pool is the sum of all its events, so they must reach back to its creation; a V2 pair tells its whole state
    each time it moves. Raises InvalidInput("history_incomplete").
    """
    names = ("Sync",) if pool.kind == "v2" else ("Initialize", "Swap")
    newest_first = (ContractEvent.block_number.desc(), ContractEvent.log_index.desc())
    chosen = stored.where(ContractEvent.name.in_(names)).order_by(None).order_by(*newest_first).limit(1)
    row = (await session.execute(chosen.add_columns(ContractEvent.log_index))).first()
    if row is None:
        return None
    *fields, log_index = row
    newest = Log(*fields)
    told = newest.args
    if pool.kind == "v2":
        reserves = int(told["reserve0"]), int(told["reserve1"])
        return ConstantProductPool(pool.token0, pool.token1, *reserves, pool.fee)
    if (await session.execute(stored.where(ContractEvent.name == "Initialize").limit(1))).first() is None:
        raise _incomplete(pool, "the events stored of it begin after its creation")
    ticks, at = await _ticks(session, stored), int(told["tick"])
    liquidity = _active(ticks, at)
    position = tuple_(ContractEvent.block_number, ContractEvent.log_index)
    since = await _ticks(session, stored.where(position > tuple_(newest.block_number, log_index)))
    expected = int(told.get("liquidity", 0)) + _active(since, at)
    # More cannot have been taken out at a tick than was put in there.
    if liquidity != expected or any(known.gross < abs(known.net) for known in ticks.values()):
        raise _incomplete(pool, "its stored mints and burns do not add up to the liquidity its swaps tell")
    price = int(told["sqrtPriceX96"])
    return ConcentratedPool(pool.token0, pool.token1, pool.fee, spacing, price, at, liquidity, ticks)


def _incomplete(pool: Pool, why: str) -> InvalidInput:
    return InvalidInput(
        "history_incomplete",
        f"{why}: have the Monitor follow {pool.address} from its creation as a Uniswap V3 pool",
    )


def _active(ticks: Mapping[int, TickLiquidity], at: int) -> int:
    """What is active is what begins less what ends at or below the current tick."""
    return sum(known.net for tick, known in ticks.items() if tick <= at)


async def _ticks(session: AsyncSession, stored: Select[Any]) -> dict[int, TickLiquidity]:
    """What all these mints and burns have left at each tick, summed where they are stored: they can be millions."""
    moved = stored.where(ContractEvent.name.in_(("Mint", "Burn"))).order_by(None).subquery()
    amount = moved.c.args["amount"].astext.cast(Numeric)
    signed = case((moved.c.name == "Mint", amount), else_=-amount)
    lower, upper = (moved.c.args[name].astext.cast(Integer) for name in ("tickLower", "tickUpper"))
    ends = union_all(
        select(lower.label("tick"), signed.label("gross"), signed.label("net")),
        select(upper, signed, -signed),
    ).subquery()
    gross, net = func.sum(ends.c.gross), func.sum(ends.c.net)
    summed = select(ends.c.tick, gross, net).group_by(ends.c.tick).having(or_(gross != 0, net != 0))
    rows = await session.execute(summed)
    return {tick: TickLiquidity(int(total), int(change)) for tick, total, change in rows}


def _blocks(pool: Pool, logs: Iterable[Log]) -> Iterable[PoolBlock]:
    for (number, time), found in groupby(logs, lambda log: (log.block_number, log.block_time)):
        events = [PoolEvent(pool.address, log.name, _used(pool, log)) for log in found]
        yield PoolBlock(number, int(time.timestamp()), _with_reserves(events) if pool.kind == "v2" else events)


def _used(pool: Pool, log: Log) -> dict[str, Any]:
    return {name: log.args[name] for name in USED[pool.kind][log.name]}


def _with_reserves(events: Sequence[PoolEvent]) -> list[PoolEvent]:
    """A pair logs the reserves just before what moved them; a `Sync` alone stays one."""
    found: list[PoolEvent] = []
    for event in events:
        if event.name != "Sync" and found and found[-1].name == "Sync":
            found[-1] = PoolEvent(event.pool, event.name, {**found[-1].args, **event.args})
        else:
            found.append(event)
    return found
