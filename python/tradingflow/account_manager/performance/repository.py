"""What the figures are made of, as the Monitor and the jobs stored it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, Text, any_, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.performance.figure import Figure
from tradingflow.account_manager.performance.history import VaultEvent
from tradingflow.account_manager.performance.profit import Part
from tradingflow.account_manager.performance.report import Look
from tradingflow.account_manager.vault.repository import owners_tokens
from tradingflow.core.evm import ZERO_ADDRESS, parse_address
from tradingflow.core.ids import onchain_flow_id
from tradingflow.db.models import (
    BlockPrice,
    ContractEvent,
    Flow,
    MonitoredContract,
    Token,
    Transaction,
    Vault,
    VaultValuation,
)

TRADE = "TradeExecuted"
NAMES = ("UserDeposit", "UserWithdraw", TRADE)
_EVENT = (
    ContractEvent.block_number,
    ContractEvent.log_index,
    ContractEvent.block_hash,
    ContractEvent.block_time,
    ContractEvent.transaction_hash,
    ContractEvent.name,
    ContractEvent.args,
)


async def events_of(session: AsyncSession, vault: Vault, also: Iterable[str] = ()) -> list[VaultEvent]:
    """Deposits, withdrawals and trades of the owner's tokens, and of those `also` names, oldest first.

    What a vault trades are its owner's tokens. Anybody may deposit others, as often as they like.
    """
    named = await owners_tokens(session, vault.chain_id, vault.address, vault.owner_address)
    # One value for all of them: a statement takes 32,767 values at most.
    tokens = literal(sorted(named.union(also)), ARRAY(Text))
    statement = (
        select(*_EVENT)
        .where(
            *_of_vault(vault.chain_id, vault.address),
            or_(ContractEvent.name == TRADE, ContractEvent.args["token"].astext == any_(tokens)),
        )
        .order_by(ContractEvent.block_number, ContractEvent.log_index)
    )
    return [_event(*row) for row in await session.execute(statement)]


def _of_vault(chain_id: int, vault: str) -> tuple[ColumnElement[bool], ...]:
    return ContractEvent.chain_id == chain_id, ContractEvent.address == vault, ContractEvent.name.in_(NAMES)


def _event(
    block_number: int,
    log_index: int,
    block_hash: str,
    block_time: datetime,
    transaction_hash: str,
    name: str | None,
    args: dict[str, Any] | None,
) -> VaultEvent:
    args = args or {}
    gone = come = None
    if name == TRADE:
        gone, come = _part(args, "tokenIn", "amountIn"), _part(args, "tokenOut", "amountOut")
    elif name == "UserDeposit":
        come = _part(args, "token", "amount")
    else:
        gone = _part(args, "token", "amount")
    return VaultEvent(block_number, log_index, block_hash, block_time, transaction_hash, gone, come, args.get("flowId"))


def _part(args: dict[str, Any], token: str, amount: str) -> Part:
    return Part(parse_address(args[token]), int(args[amount]))


async def is_history_complete(session: AsyncSession, chain_id: int, vault: str) -> bool:
    """Whether every event of the vault up to the cursor is stored: it is followed, and its past has been read."""
    statement = select(MonitoredContract.history_next >= MonitoredContract.live_from).where(
        MonitoredContract.chain_id == chain_id, MonitoredContract.address == vault
    )
    return bool(await session.scalar(statement))


async def block_prices(session: AsyncSession, chain_id: int, vault: str) -> dict[tuple[str, str], Figure]:
    """By block hash and token, of the blocks of a vault's events.

    A subquery names them: a statement takes 32,767 values at most.
    """
    blocks = select(ContractEvent.block_hash).where(*_of_vault(chain_id, vault))
    statement = select(BlockPrice).where(BlockPrice.chain_id == chain_id, BlockPrice.block_hash.in_(blocks))
    return {(row.block_hash, row.token): Figure(row.price, row.reason) for row in await session.scalars(statement)}


async def keep_block_price(session: AsyncSession, chain_id: int, block_hash: str, token: str, price: Figure) -> None:
    values = {"chain_id": chain_id, "block_hash": block_hash, "token": token, "price": price.value}
    await session.execute(insert(BlockPrice).values(**values, reason=price.reason).on_conflict_do_nothing())


async def decimals_of(session: AsyncSession, chain_id: int, tokens: Iterable[str]) -> dict[str, int | None]:
    statement = select(Token.address, Token.decimals).where(Token.chain_id == chain_id, Token.address.in_(tokens))
    return {row.address: row.decimals for row in await session.execute(statement)}


async def gas_of(session: AsyncSession, chain_id: int, vault: str) -> dict[str, int]:
    """Wei paid, by transaction hash, of the vault's events whose transactions we sent."""
    sent = select(ContractEvent.transaction_hash).where(*_of_vault(chain_id, vault))
    statement = select(Transaction.hash, Transaction.gas_used, Transaction.effective_gas_price).where(
        Transaction.chain_id == chain_id, Transaction.hash.in_(sent), Transaction.gas_used.is_not(None)
    )
    rows = (await session.execute(statement)).all()
    return {hash_: used * price for hash_, used, price in rows if used is not None and price is not None}


async def looks_of(session: AsyncSession, vault: Vault, from_block: int, before_block: int, step_s: int) -> list[Look]:
    """The last valuation of each step among those of some blocks, oldest first."""
    step = func.floor(func.extract("epoch", VaultValuation.taken_at) / step_s)
    statement = (
        select(VaultValuation)
        .where(
            VaultValuation.vault_id == vault.id,
            VaultValuation.block_number >= from_block,
            VaultValuation.block_number < before_block,
        )
        .ext(distinct_on(step))
        .order_by(step, VaultValuation.taken_at.desc())
    )
    looks = [_look(row) for row in await session.scalars(statement)]
    return sorted(looks, key=lambda look: (look.block_number, look.taken_at))


def _look(row: VaultValuation) -> Look:
    # What a vault holds nothing of is a position all the same, but for the native currency.
    prices, balances = {}, {ZERO_ADDRESS: 0}
    for position in row.positions:
        token, price = position["token"], position["price"]
        prices[token] = Figure.unknown(f"{position['reason']}: {token}") if price is None else Figure(Decimal(price))
        balances[token] = int(position["balance"])
    return Look(row.block_number, row.taken_at, prices, balances)


async def flow_names(session: AsyncSession, user_id: UUID) -> dict[str, str]:
    """The owner's names of flows by their on-chain ids."""
    rows = (await session.execute(select(Flow.id, Flow.flow_id).where(Flow.user_id == user_id))).all()
    return {onchain_flow_id(pk): name for pk, name in rows}


async def vaults_with_news(session: AsyncSession, chain_id: int, from_block: int) -> list[Vault]:
    """Vaults that had an event at or after a block."""
    moved = select(ContractEvent.address).where(
        ContractEvent.chain_id == chain_id, ContractEvent.block_number >= from_block, ContractEvent.name.in_(NAMES)
    )
    statement = select(Vault).where(Vault.chain_id == chain_id, Vault.address.in_(moved)).order_by(Vault.id)
    return list(await session.scalars(statement))


async def want_prices(session: AsyncSession, vault: Vault, now: datetime) -> None:
    """Have the prices of a vault found by the next run of the job; asked for again, it keeps its place."""
    mine = (Vault.id == vault.id, Vault.prices_wanted_at.is_(None))
    await session.execute(update(Vault).where(*mine).values(prices_wanted_at=now))


async def next_wanted(session: AsyncSession, chain_id: int) -> Vault | None:
    """The vault whose prices have been wanted for longest, which are then wanted no more."""
    longest = (
        select(Vault.id)
        .where(Vault.chain_id == chain_id, Vault.prices_wanted_at.is_not(None))
        .order_by(Vault.prices_wanted_at, Vault.id)
        .limit(1)
        .scalar_subquery()
    )
    statement = update(Vault).where(Vault.id == longest).values(prices_wanted_at=None).returning(Vault)
    return await session.scalar(statement)
