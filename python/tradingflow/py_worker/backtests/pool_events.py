"""The history of a pool out of the events that the Monitor stored."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import Executable, Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.chain.amm.concentrated import ConcentratedPool, TickLiquidity
from tradingflow.chain.amm.constant_product import ConstantProductPool
from tradingflow.chain.client import ChainClient
from tradingflow.chain.uniswap import Pool, UniswapReader
from tradingflow.core.errors import InvalidInput
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import ChainBlock, ContractEvent, MonitoredContract
from tradingflow.py_worker.simulation.pool_history import PoolBlock, PoolEvent, PoolHistory, write_history

# About 100 MB as JSON; a busy pool moves as often in a month.
MAX_EVENTS = 300_000
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
        before = await _logs(session, _that_tell_state(stored.where(ContractEvent.block_time <= start), pool))
        chosen = stored.where(ContractEvent.block_time > start, ContractEvent.block_time <= end)
        await _require_few(session, chosen)
        since = await _logs(session, chosen)
    base = pool.token1 if pool.token0 == client.settings.quote_token else pool.token0
    return await asyncio.to_thread(_told, client.chain_id, pool, spacing, base, (start, end), (before, since))


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


def _that_tell_state(stored: Select[Any], pool: Pool) -> Executable:
    """Of all that came before, the last price and every move of liquidity; of a pair, the last reserves."""
    newest_first = stored.order_by(None).order_by(ContractEvent.block_number.desc(), ContractEvent.log_index.desc())
    if pool.kind == "v2":
        return newest_first.where(ContractEvent.name == "Sync").limit(1)
    priced = newest_first.where(ContractEvent.name.in_(("Initialize", "Swap"))).limit(1).subquery()
    moved = stored.order_by(None).where(ContractEvent.name.in_(("Mint", "Burn"))).subquery()
    return select(priced).union_all(select(moved))


async def _logs(session: AsyncSession, chosen: Executable) -> list[Log]:
    return [Log(*row) for row in await session.execute(chosen)]


def _told(
    chain_id: int,
    pool: Pool,
    spacing: int,
    base: str,
    bounds: tuple[datetime, datetime],
    logs: tuple[Sequence[Log], Sequence[Log]],
) -> str:
    before, since = logs
    state = _pair_at(pool, before) if pool.kind == "v2" else _pool_at(pool, spacing, before)
    if state is None:
        raise InvalidInput(
            "no_price_yet",
            f"no event stored before {bounds[0]:%Y-%m-%dT%H:%M:%SZ} tells the price of {pool.address}: begin later, or "
            f"have the Monitor follow it from its creation as a Uniswap {pool.kind.upper()} pool",
        )
    start_ms, end_ms = (round(moment.timestamp() * 1000) for moment in bounds)
    blocks = list(_blocks(pool, since))
    found = PoolHistory(chain_id, pool.address, pool.decimals0, pool.decimals1, base, state, start_ms, end_ms, blocks)
    return write_history(found).decode()


def _pair_at(pool: Pool, logs: Sequence[Log]) -> ConstantProductPool | None:
    for log in logs:
        reserves = int(log.args["reserve0"]), int(log.args["reserve1"])
        return ConstantProductPool(pool.token0, pool.token1, *reserves, pool.fee)
    return None


def _pool_at(pool: Pool, spacing: int, logs: Sequence[Log]) -> ConcentratedPool | None:
    """Active liquidity is the sum of what begins less what ends at or below the current tick."""
    ticks: dict[int, TickLiquidity] = {}
    price: Mapping[str, Any] | None = None
    for log in logs:
        if log.name in ("Mint", "Burn"):
            amount = int(log.args["amount"]) * (1 if log.name == "Mint" else -1)
            for tick, net in ((int(log.args["tickLower"]), amount), (int(log.args["tickUpper"]), -amount)):
                known = ticks.get(tick, TickLiquidity(0, 0))
                ticks[tick] = TickLiquidity(known.gross + amount, known.net + net)
        else:
            price = log.args
    if price is None:
        return None
    at = int(price["tick"])
    liquidity = sum(told.net for tick, told in ticks.items() if tick <= at)
    left = {tick: told for tick, told in ticks.items() if told.gross}
    return ConcentratedPool(
        pool.token0, pool.token1, pool.fee, spacing, int(price["sqrtPriceX96"]), at, liquidity, left
    )


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
