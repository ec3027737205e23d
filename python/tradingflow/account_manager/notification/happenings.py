"""What happened to users lately: trades and deployments that ended, cycles that failed, deposits and withdrawals.

A moment that is written in a transaction is seen only when that commits, so each look goes back a while before the
last one. Keys make that harmless: a channel is told of a key once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from tradingflow.account_manager.relayer.transitions import ENDED_DEPLOYMENTS
from tradingflow.db.models import ContractEvent, Cycle, Flow, NotificationChannel, Trade, Vault, VaultDeployment

VAULT_TOPICS = {"UserDeposit": "vault.deposit", "UserWithdraw": "vault.withdrawal"}


@dataclass(frozen=True)
class Happening:
    """`key` names it once and for all; `payload` is JSON for the channel."""

    user_id: UUID
    key: str
    topic: str
    at: datetime
    payload: dict[str, Any]


async def ended_trades(session: AsyncSession, since: datetime, limit: int) -> list[Happening]:
    statement = (
        select(Trade, Flow.flow_id)
        .join(Flow, Flow.id == Trade.flow_pk)
        .where(Trade.settled_at > since, Trade.status.in_(("completed", "failed")), _has_channel(Trade.user_id))
        .order_by(Trade.settled_at)
        .limit(limit)
    )
    return [_trade(trade, flow_id) for trade, flow_id in await session.execute(statement)]


def _trade(trade: Trade, flow_id: str) -> Happening:
    payload = {
        "trade_id": trade.id,
        "flow_id": flow_id,
        "cycle": trade.cycle,
        "node_id": trade.node_id,
        "chain_id": trade.chain_id,
        "vault": trade.vault_address,
        "status": trade.status,
        "token_in": trade.token_in,
        "token_out": trade.token_out,
        "amount_in": str(trade.amount_in),
        "amount_out": None if trade.amount_out is None else str(trade.amount_out),
        "transaction_hash": trade.transaction_hash,
        "failure_code": trade.failure_code,
        "failure_detail": trade.failure_detail,
    }
    at = trade.settled_at or trade.updated_at
    return Happening(trade.user_id, f"trade:{trade.id}:{trade.status}", f"trade.{trade.status}", at, payload)


async def ended_deployments(session: AsyncSession, since: datetime, limit: int) -> list[Happening]:
    statement = (
        select(VaultDeployment)
        .where(
            VaultDeployment.updated_at > since,
            VaultDeployment.status.in_(ENDED_DEPLOYMENTS),
            _has_channel(VaultDeployment.user_id),
        )
        .order_by(VaultDeployment.updated_at)
        .limit(limit)
    )
    return [_deployment(row) for row in await session.scalars(statement)]


def _deployment(row: VaultDeployment) -> Happening:
    payload = {
        "task_id": str(row.id),
        "chain_id": row.chain_id,
        "vault": row.predicted_address,
        "owner": row.owner_address,
        "transaction_hash": row.transaction_hash,
        "failure_code": row.failure_code,
        "failure_detail": row.failure_detail,
    }
    topic = "vault.deployed" if row.status == "verified" else "vault.deployment_failed"
    return Happening(row.user_id, f"deployment:{row.id}:{row.status}", topic, row.updated_at, payload)


async def failed_cycles(session: AsyncSession, since: datetime, limit: int) -> list[Happening]:
    statement = (
        select(Cycle, Flow)
        .join(Flow, Flow.id == Cycle.flow_pk)
        .where(Cycle.status == "failed", Cycle.finished_at > since, _has_channel(Flow.user_id))
        .order_by(Cycle.finished_at)
        .limit(limit)
    )
    return [_cycle(cycle, flow) for cycle, flow in await session.execute(statement)]


def _cycle(cycle: Cycle, flow: Flow) -> Happening:
    payload = {"flow_id": flow.flow_id, "version": cycle.version, "cycle": cycle.cycle, "mode": flow.mode}
    at = cycle.finished_at or cycle.started_at
    return Happening(flow.user_id, f"cycle:{flow.id}:{cycle.cycle}:failed", "flow.failed", at, payload)


async def vault_movements(
    session: AsyncSession, chain_id: int, first: int, until: int, limit: int
) -> tuple[list[Happening], int]:
    """Deposits and withdrawals in blocks [first, until), and the block up to which these are all of them.

    At least `limit` if there are as many: a block that is begun is read to its end, however much is in it.
    """
    statement = (
        select(Vault.user_id, ContractEvent)
        .join(
            ContractEvent,
            (ContractEvent.chain_id == Vault.chain_id) & (ContractEvent.address == Vault.address),
        )
        .where(
            Vault.chain_id == chain_id,
            ContractEvent.block_number >= first,
            ContractEvent.block_number < until,
            ContractEvent.name.in_(VAULT_TOPICS),
            _has_channel(Vault.user_id),
        )
        .order_by(ContractEvent.block_number)
        .fetch(limit, with_ties=True)
    )
    rows: Sequence[Any] = (await session.execute(statement)).all()
    rows = sorted(rows, key=lambda row: (row[1].block_number, row[1].log_index))
    complete = until if len(rows) < limit else rows[-1][1].block_number + 1
    return [_movement(user_id, event) for user_id, event in rows], complete


def _movement(user_id: UUID, event: ContractEvent) -> Happening:
    key = f"vault:{event.chain_id}:{event.block_hash}:{event.log_index}"
    return Happening(user_id, key, VAULT_TOPICS[str(event.name)], event.block_time, event_payload(event))


def event_payload(event: ContractEvent) -> dict[str, Any]:
    """A contract event as receivers get it; `event_id` is the same as on the message bus."""
    return {
        "event_id": f"{event.chain_id}:{event.block_hash}:{event.log_index}",
        "chain_id": event.chain_id,
        "block_number": event.block_number,
        "block_hash": event.block_hash,
        "block_time": event.block_time.isoformat(),
        "transaction_hash": event.transaction_hash,
        "log_index": event.log_index,
        "address": event.address,
        "kind": event.kind,
        "name": event.name,
        "args": event.args,
        "topics": ["0x" + topic.hex() for topic in event.topics],
        "data": "0x" + event.data.hex(),
    }


def _has_channel(user_id: InstrumentedAttribute[UUID]) -> ColumnElement[bool]:
    return exists().where(NotificationChannel.user_id == user_id, NotificationChannel.status == "active")
