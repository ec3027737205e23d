"""What an operator may do to trades by hand. Holds no key: it changes rows, and the executor acts on them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import select

from tradingflow.account_manager.relayer import repository as transactions
from tradingflow.account_manager.relayer.steps import Reached, unheard
from tradingflow.account_manager.relayer.transitions import TradeStatus
from tradingflow.account_manager.trade import repository
from tradingflow.account_manager.trade.repository import Failure
from tradingflow.chain.client import ChainClient
from tradingflow.chain.transactions import head_number
from tradingflow.chain.vault import ExecutedTrade, VaultContract
from tradingflow.core.clock import Clock
from tradingflow.core.config import PlatformSettings
from tradingflow.core.errors import Conflict, InvalidInput, NotFound
from tradingflow.core.evm import parse_hash32
from tradingflow.db.clock import DatabaseClock
from tradingflow.db.engine import SessionFactory, make_engine, make_session_factory
from tradingflow.db.models import Trade, Transaction, Vault
from tradingflow.db.reruns import rerun_of_cycle
from tradingflow.tracing.traces import NO_TRACES, Traces

CANCELLED = Failure("cancelled_by_operator", "an operator called the trade off")


@dataclass(frozen=True)
class Difference:
    """One trade on which row and chain do not agree. `row` and `chain` say what each holds."""

    chain_id: int
    vault: str
    trade_id: str
    row: str
    chain: str


@dataclass(frozen=True)
class TradeDesk:
    """Reads and mends trades. The attributes are also what a settlement needs."""

    settings: PlatformSettings
    sessions: SessionFactory
    chains: Mapping[int, ChainClient]
    clock: Clock
    reached: Reached = unheard
    traces: Traces = NO_TRACES

    async def newest(self, status: str | None, limit: int) -> list[Trade]:
        """Newest first. Raises InvalidInput for an unknown status."""
        if status is not None and status not in list(TradeStatus):
            raise InvalidInput("invalid_status", f"a trade's status is one of {', '.join(TradeStatus)}")
        query = select(Trade).order_by(Trade.created_at.desc(), Trade.id).limit(limit)
        async with self.sessions() as session:
            return list(await session.scalars(query if status is None else query.where(Trade.status == status)))

    async def read(self, trade_id: str) -> tuple[Trade, list[Transaction]]:
        """A trade and every attempt for it, oldest first. Raises NotFound."""
        async with self.sessions() as session:
            trade = await repository.find(session, parse_hash32(trade_id))
            if trade is None:
                raise NotFound("trade", trade_id)
            return trade, await transactions.attempts_for(session, trade.id)

    async def retry(self, trade_id: str) -> None:
        """Queue a failed trade again under the same trade id, with a new quote.

        Whoever asks knows that the decision is old, and whether its flow still runs. Raises Conflict for any other
        trade, and for one whose cycle was rerun: that made it anew, under another id.
        """
        trade, _ = await self.read(trade_id)
        undone = dict.fromkeys(
            ("failure_code", "failure_detail", "min_amount_out", "transaction_hash", "block_number", "block_hash",
             "submitted_at", "settled_at", "finalized_at")
        )  # fmt: skip
        async with self.sessions() as session, session.begin():
            await repository.lock_schedule(session, trade.flow_pk)
            rerun = await rerun_of_cycle(session, trade.flow_pk, trade.cycle)
            if rerun is not None:
                raise Conflict(
                    "cycle_rerun", f"cycle {trade.cycle} was rerun as cycle {rerun}, which trades anew; see its trades"
                )
            row = await repository.lock(session, trade.id)
            if row.status != TradeStatus.FAILED:
                raise Conflict("not_failed", f"only a failed trade can be tried again; this one is {row.status}")
            now = self.clock.now()
            await repository.move(session, trade.id, TradeStatus.REQUESTED, retried_at=now, **undone)

    async def cancel(self, trade_id: str) -> str:
        """Call a trade off; says what that means. Raises Conflict for a trade that has ended.

        The executor ends it. One that was sent may still be mined: its nonce is taken by an empty transfer, and the
        chain decides; of one that waits the vault is asked whether an attempt nobody remembers executed it.
        """
        trade, _ = await self.read(trade_id)
        async with self.sessions() as session, session.begin():
            row = await repository.lock(session, trade.id)
            if row.status not in (TradeStatus.REQUESTED, TradeStatus.SUBMITTED):
                raise Conflict("trade_ended", f"only an open trade can be cancelled; this one is {row.status}")
            facts = {"failure_code": CANCELLED.code, "failure_detail": CANCELLED.detail}
            await repository.amend(session, trade.id, **facts)
        if row.status == TradeStatus.REQUESTED:
            return "called off: it will not be sent"
        return "being called off: the executor takes its nonce, unless it is mined first"

    async def reconcile(self, chain_id: int) -> list[Difference]:
        """Compare every known vault's trades with `TradeExecuted` on chain. Raises InvalidInput for another chain."""
        self.settings.chain(chain_id)
        head = await head_number(self.chains[chain_id])
        async with self.sessions() as session:
            vaults = list(await session.scalars(select(Vault).where(Vault.chain_id == chain_id)))
        return [difference for vault in vaults for difference in await self._reconcile_vault(vault, head)]

    async def _reconcile_vault(self, vault: Vault, head: int) -> list[Difference]:
        contract = VaultContract(self.chains[vault.chain_id], vault.address)
        executed = {trade.trade_id: trade for trade in await contract.executed_trades(vault.created_block, head)}
        query = select(Trade).where(Trade.chain_id == vault.chain_id, Trade.vault_address == vault.address)
        async with self.sessions() as session:
            rows = {trade.id: trade for trade in await session.scalars(query)}
        found = [(key, _row_says(rows.get(key)), _chain_says(executed.get(key))) for key in rows.keys() | executed]
        return [Difference(vault.chain_id, vault.address, key, row, chain) for key, row, chain in found if row != chain]


def _row_says(trade: Trade | None) -> str:
    if trade is None:
        return "unknown trade id"
    if trade.status != TradeStatus.COMPLETED:
        return "not executed"
    return f"executed: {trade.amount_out} out in {trade.transaction_hash}"


def _chain_says(executed: ExecutedTrade | None) -> str:
    return "not executed" if executed is None else f"executed: {executed.amount_out} out in {executed.transaction_hash}"


@asynccontextmanager
async def open_desk(settings: PlatformSettings) -> AsyncIterator[TradeDesk]:
    """A desk with connections of its own. Raises SQLAlchemyError or OSError when the database is away."""
    engine = make_engine(settings, application="trades-cli", pool_size=2)
    chains = {chain.chain_id: ChainClient(chain) for chain in settings.chains}
    try:
        clock = DatabaseClock(engine)
        await clock.look()
        yield TradeDesk(settings, make_session_factory(engine), chains, clock)
    finally:
        for client in chains.values():
            await client.close()
        await engine.dispose()
