"""The vault's spending caps, checked by us as well before anything is signed.

The vault enforces its caps on what is mined; this ledger holds what we have signed for. A trade takes its amount from
the day's cap in the transaction that takes its nonce, so no two executors can sign for the same room under a cap.
"""

from __future__ import annotations

from datetime import date

from sqlalchemy import func, literal, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.chain.vault import TokenPolicy
from tradingflow.core.errors import Refused
from tradingflow.db.models import Trade, VaultSpend
from tradingflow.db.types import BaseUnits


async def reserve(session: AsyncSession, trade: Trade, day: date, policy: TokenPolicy) -> None:
    """Take the trade's amount from the day's cap, or raise Refused with the vault's own code for that.

    What the chain says was spent counts where it is more: the vault may have been traded by others.
    """
    amount = trade.amount_in
    if amount > policy.per_trade_cap:
        raise Refused("per_trade_cap_exceeded", f"{amount} is more than a trade may sell; cap: {policy.per_trade_cap}")
    room = policy.per_day_cap - amount
    known = func.greatest(VaultSpend.spent, literal(policy.spent_today, BaseUnits))
    taken = await session.execute(
        insert(VaultSpend)
        .values(
            chain_id=trade.chain_id,
            vault_address=trade.vault_address,
            token=trade.token_in,
            day=day,
            spent=policy.spent_today + amount,
        )
        .on_conflict_do_update(
            index_elements=["chain_id", "vault_address", "token", "day"],
            set_={"spent": known + literal(amount, BaseUnits)},
            where=known <= literal(room, BaseUnits),
        )
        .returning(VaultSpend.spent)
    )
    if taken.first() is None or policy.spent_today > room:
        raise Refused("per_day_cap_exceeded", f"{amount} is more than is left of today's cap of {policy.per_day_cap}")


async def release(session: AsyncSession, trade: Trade) -> None:
    """Give back what a trade took that was not executed after all."""
    await _change(session, trade, -trade.amount_in)


async def take_again(session: AsyncSession, trade: Trade) -> None:
    """Take what was given back for a failure that a reorg has undone: whatever the cap says, it may be mined."""
    await _change(session, trade, trade.amount_in)


async def _change(session: AsyncSession, trade: Trade, by: int) -> None:
    if trade.submitted_at is None:
        return
    await session.execute(
        update(VaultSpend)
        .where(
            VaultSpend.chain_id == trade.chain_id,
            VaultSpend.vault_address == trade.vault_address,
            VaultSpend.token == trade.token_in,
            VaultSpend.day == trade.submitted_at.date(),
        )
        .values(spent=func.greatest(VaultSpend.spent + literal(by, BaseUnits), 0))
    )
