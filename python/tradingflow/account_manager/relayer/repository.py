"""Rows of signers and transactions. The commit is the caller's."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.relayer.transitions import DECIDED, UNMINED, TransactionStatus, transaction_sources
from tradingflow.chain.transactions import Receipt
from tradingflow.db.models import Signer, Trade, Transaction

FILLER = "nonce_filler"


async def register_signers(session: AsyncSession, chain_ids: Iterable[int], addresses: Iterable[str]) -> None:
    """Make sure each key has its row on each chain; one that is there stays as it is."""
    rows = [{"chain_id": c, "address": a} for a in addresses for c in chain_ids]
    if rows:
        await session.execute(insert(Signer).values(rows).on_conflict_do_nothing())


async def hold_signers(session: AsyncSession, chain_ids: Collection[int], addresses: Collection[str]) -> None:
    """Note that these are the keys an executor holds for these chains: every other one there is retired."""
    await register_signers(session, chain_ids, addresses)
    here, ours = Signer.chain_id.in_(chain_ids), Signer.address.in_(addresses)
    await session.execute(update(Signer).where(here, ours, Signer.retired_at.is_not(None)).values(retired_at=None))
    retired = update(Signer).where(here, ~ours, Signer.retired_at.is_(None))
    await session.execute(retired.values(retired_at=func.clock_timestamp()))


async def next_nonce(session: AsyncSession, chain_id: int, address: str) -> int | None:
    return await session.scalar(select(Signer.next_nonce).where(Signer.chain_id == chain_id, Signer.address == address))


async def begin_nonces(session: AsyncSession, chain_id: int, address: str, first: int) -> None:
    """Set the first nonce of a signer that has none; otherwise nothing changes."""
    await register_signers(session, [chain_id], [address])
    await session.execute(
        update(Signer)
        .where(Signer.chain_id == chain_id, Signer.address == address, Signer.next_nonce.is_(None))
        .values(next_nonce=first)
    )


async def take_nonce(session: AsyncSession, chain_id: int, address: str) -> int:
    """The signer's next nonce. Its row stays locked until the caller commits, and a rollback gives the nonce back."""
    taken = await session.execute(
        update(Signer)
        .where(Signer.chain_id == chain_id, Signer.address == address, Signer.next_nonce.is_not(None))
        .values(next_nonce=Signer.next_nonce + 1)
        .returning(Signer.next_nonce - 1)
    )
    return int(taken.scalar_one() or 0)


async def pledged(session: AsyncSession, chain_id: int, signer: str, first: int) -> int:
    """The most that what is signed from the nonce `first` on may cost, in wei; mined meanwhile or not.

    Until the caller commits, nobody else takes a nonce of the signer.
    """
    await session.execute(
        select(Signer.next_nonce).where(Signer.chain_id == chain_id, Signer.address == signer).with_for_update()
    )
    newest = (
        select((Transaction.gas_limit * Transaction.max_fee_per_gas).label("cost"))
        .where(
            Transaction.chain_id == chain_id,
            Transaction.signer == signer,
            Transaction.nonce >= first,
            Transaction.status != TransactionStatus.REPLACED,
        )
        .order_by(Transaction.nonce, Transaction.attempt.desc())
        .ext(distinct_on(Transaction.nonce))
        .subquery()
    )
    return int(await session.scalar(select(func.coalesce(func.sum(newest.c.cost), 0))) or 0)


async def raise_next_nonce(session: AsyncSession, chain_id: int, address: str, at_least: int) -> None:
    await session.execute(
        update(Signer)
        .where(Signer.chain_id == chain_id, Signer.address == address, Signer.next_nonce < at_least)
        .values(next_nonce=at_least)
    )


async def least_busy(session: AsyncSession, chain_id: int, addresses: Sequence[str]) -> str:
    """The signer with the fewest unmined transactions."""
    waiting = (
        select(Transaction.signer, func.count().label("waiting"))
        .where(Transaction.chain_id == chain_id, Transaction.status.in_(UNMINED))
        .group_by(Transaction.signer)
    )
    counts: dict[str, int] = {row.signer: row.waiting for row in await session.execute(waiting)}
    return min(addresses, key=lambda address: counts.get(address, 0))


async def slot_attempts(session: AsyncSession, purpose: str, purpose_id: str) -> list[Transaction]:
    """The attempts of the newest slot, oldest first; empty when nothing was signed yet."""
    newest = (
        select(Transaction.chain_id, Transaction.signer, Transaction.nonce)
        .where(Transaction.purpose == purpose, Transaction.purpose_id == purpose_id)
        .order_by(Transaction.id.desc())
        .limit(1)
        .subquery()
    )
    found = await session.scalars(
        select(Transaction)
        .join(
            newest,
            (Transaction.chain_id == newest.c.chain_id)
            & (Transaction.signer == newest.c.signer)
            & (Transaction.nonce == newest.c.nonce),
        )
        .order_by(Transaction.attempt)
    )
    return list(found)


async def attempts_for(session: AsyncSession, purpose_id: str) -> list[Transaction]:
    """Every attempt of every slot, also of those that only fill their nonce by now, oldest first."""
    found = await session.scalars(
        select(Transaction).where(Transaction.purpose_id == purpose_id).order_by(Transaction.id)
    )
    return list(found)


async def attempts_at(session: AsyncSession, chain_id: int, signer: str, nonce: int) -> list[Transaction]:
    """The attempts of one slot, oldest first."""
    found = await session.scalars(
        select(Transaction)
        .where(Transaction.chain_id == chain_id, Transaction.signer == signer, Transaction.nonce == nonce)
        .order_by(Transaction.attempt)
    )
    return list(found)


async def covered_nonces(session: AsyncSession, chain_id: int, signer: str, first: int) -> set[int]:
    """Nonces from `first` on with an attempt that may take them, or did."""
    found = await session.scalars(
        select(Transaction.nonce).where(
            Transaction.chain_id == chain_id,
            Transaction.signer == signer,
            Transaction.nonce >= first,
            Transaction.status != TransactionStatus.REPLACED,
        )
    )
    return set(found)


async def unwatched_decided(session: AsyncSession, chain_id: int, signer: str, first: int) -> list[Transaction]:
    """What we hold for mined from the nonce `first` on, in order, but for what ended a trade that is not final.

    An earlier slot of such a trade, which was tried again since, is followed by nobody.
    """
    decided = await session.scalars(
        select(Transaction)
        .where(
            Transaction.chain_id == chain_id,
            Transaction.signer == signer,
            Transaction.nonce >= first,
            Transaction.status.in_(DECIDED),
        )
        .order_by(Transaction.nonce)
    )
    found = decided.all()
    trades = [transaction.purpose_id for transaction in found if transaction.purpose == "trade"]
    ends = select(Trade.transaction_hash).where(Trade.id.in_(trades), Trade.finalized_at.is_(None))
    watched = set(await session.scalars(ends))
    return [transaction for transaction in found if transaction.hash not in watched]


async def unmined_since(session: AsyncSession, chain_id: int, signer: str, before: datetime) -> list[Transaction]:
    """The newest attempt of each slot whose first attempt is older than `before` and that is not mined yet."""
    found = await session.scalars(
        select(Transaction)
        .where(
            Transaction.chain_id == chain_id,
            Transaction.signer == signer,
            Transaction.status.in_(UNMINED),
            Transaction.created_at < before,
        )
        .order_by(Transaction.nonce, Transaction.attempt.desc())
        .ext(distinct_on(Transaction.nonce))
    )
    return list(found)


async def unmined_nonces(session: AsyncSession, chain_id: int, signer: str, purpose: str) -> list[int]:
    """Nonces of slots of this purpose that may still be mined."""
    found = await session.scalars(
        select(Transaction.nonce)
        .where(
            Transaction.chain_id == chain_id,
            Transaction.signer == signer,
            Transaction.purpose == purpose,
            Transaction.status.in_(UNMINED),
        )
        .distinct()
        .order_by(Transaction.nonce)
    )
    return list(found)


async def abandon(session: AsyncSession, purpose: str, purpose_id: str, except_slot: Transaction | None) -> None:
    """The purpose was served otherwise: its unmined slots only fill their nonces from now on."""
    change = update(Transaction).where(
        Transaction.purpose == purpose, Transaction.purpose_id == purpose_id, Transaction.status.in_(UNMINED)
    )
    if except_slot is not None:
        change = change.where((Transaction.signer != except_slot.signer) | (Transaction.nonce != except_slot.nonce))
    await session.execute(change.values(purpose=FILLER))


async def make_fillers(session: AsyncSession, attempts: Sequence[Transaction]) -> None:
    """A slot that nobody follows any more only fills its nonce from now on."""
    change = update(Transaction).where(Transaction.id.in_([attempt.id for attempt in attempts]))
    await session.execute(change.values(purpose=FILLER))


async def find_by_hash(session: AsyncSession, transaction_hash: str) -> Transaction | None:
    return await session.scalar(select(Transaction).where(Transaction.hash == transaction_hash))


async def set_status(session: AsyncSession, ids: Sequence[int], target: TransactionStatus, **values: Any) -> None:
    """Move unmined transactions to `target`, where the table of transitions allows it."""
    await _move(session, ids, set(UNMINED) & set(transaction_sources(target)), target, values)


async def _move(
    session: AsyncSession,
    ids: Sequence[int],
    sources: Iterable[TransactionStatus],
    target: TransactionStatus,
    values: dict[str, Any],
) -> None:
    await session.execute(
        update(Transaction)
        .where(Transaction.id.in_(ids), Transaction.status.in_(list(sources)))
        .values(status=target, **values)
    )


async def record_mined(session: AsyncSession, attempts: Sequence[Transaction], receipt: Receipt) -> None:
    """The attempt of the receipt was mined or reverted; its siblings can no longer be."""
    status = TransactionStatus.MINED if receipt.succeeded else TransactionStatus.REVERTED
    winner = [a.id for a in attempts if a.hash == receipt.transaction_hash]
    losers = [a.id for a in attempts if a.hash != receipt.transaction_hash]
    facts = {
        "block_number": receipt.block_number,
        "block_hash": receipt.block_hash,
        "gas_used": receipt.gas_used,
        "effective_gas_price": receipt.effective_gas_price,
        "missing_since": None,
    }
    await _move(session, losers, transaction_sources(TransactionStatus.REPLACED), TransactionStatus.REPLACED, {})
    await _move(session, winner, transaction_sources(status), status, facts)


async def record_unmined(session: AsyncSession, attempts: Sequence[Transaction]) -> None:
    """A reorg took the slot's transaction out of the chain: each attempt may be mined again."""
    decided = set(transaction_sources(TransactionStatus.BROADCAST)) - set(UNMINED)
    facts = dict.fromkeys(("block_number", "block_hash", "gas_used", "effective_gas_price"))
    await _move(session, [a.id for a in attempts], decided, TransactionStatus.BROADCAST, facts)


async def mark_missing(session: AsyncSession, ids: Sequence[int], since: datetime | None) -> None:
    """Note since when the chain counts the slot's nonce as used; None when it does not after all."""
    change = update(Transaction).where(Transaction.id.in_(ids))
    if since is not None:
        change = change.where(Transaction.missing_since.is_(None))
    await session.execute(change.values(missing_since=since))
