"""What vaults hold and what that is worth, read from the chain at one block."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from itertools import groupby
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.parts import Parts
from tradingflow.account_manager.portfolio import repository
from tradingflow.account_manager.portfolio.schemas import (
    ChainTotal,
    PortfolioResponse,
    Position,
    ValuePoint,
    VaultPortfolio,
)
from tradingflow.account_manager.price.pools import TokenPrice
from tradingflow.account_manager.token import service as tokens
from tradingflow.account_manager.vault import repository as vaults
from tradingflow.chain.client import ChainClient
from tradingflow.core.errors import InvalidInput, Refused
from tradingflow.core.evm import ZERO_ADDRESS
from tradingflow.core.money import PRECISION, to_human
from tradingflow.db.models import Token, Vault, VaultValuation

NATIVE_DECIMALS = 18
# A front end that polls shall not make every poll a dozen calls to the chain.
MAX_AGE = timedelta(seconds=5)
MAX_POINTS = 5_000


async def value_all(reads: AsyncSession, parts: Parts, user_id: UUID) -> PortfolioResponse:
    """Every vault of a user, from valuations of the last MAX_AGE; older ones are taken anew and kept."""
    since = parts.clock.now() - MAX_AGE
    valued = []
    for vault, stored in await repository.newest(reads, user_id):
        if stored is not None and stored.taken_at > since:
            valued.append(_from_stored(vault, stored))
        else:
            async with parts.sessions() as session, session.begin():
                valued.append(await value_vault(session, parts, vault))
    return PortfolioResponse(vaults=valued, totals=_totals(valued))


async def history(
    reads: AsyncSession, user_id: UUID, since: datetime, until: datetime, step_s: int
) -> list[ValuePoint]:
    """What vaults were worth over time, at most MAX_POINTS points. Raises InvalidInput for a range without end."""
    if since >= until:
        raise InvalidInput("invalid_range", "`since` must lie before `until`")
    rows = await repository.history(reads, user_id, since, until, step_s, MAX_POINTS)
    return [
        ValuePoint(
            chain_id=vault.chain_id,
            vault=vault.address,
            as_of=stored.taken_at,
            block_number=stored.block_number,
            quote_token=stored.quote_token,
            value=stored.value,
            reason=stored.reason,
        )
        for vault, stored in rows
    ]


def _from_stored(vault: Vault, stored: VaultValuation) -> VaultPortfolio:
    return VaultPortfolio(
        chain_id=vault.chain_id,
        vault=vault.address,
        block_number=stored.block_number,
        as_of=stored.taken_at,
        quote_token=stored.quote_token,
        quote_symbol=stored.quote_symbol,
        positions=[Position.model_validate(position) for position in stored.positions],
        value=stored.value,
        reason=stored.reason,
    )


async def value_vault(session: AsyncSession, parts: Parts, vault: Vault) -> VaultPortfolio:
    """Balances and values of a vault now; the valuation is kept for its history."""
    valued = await _read_vault(session, parts, vault)
    await repository.keep(session, vault.id, valued, parts.clock.now())
    return valued


async def _read_vault(session: AsyncSession, parts: Parts, vault: Vault) -> VaultPortfolio:
    """Balances and values at the latest block, all at that one block."""
    client = parts.chain(vault.chain_id)
    prices = parts.prices[vault.chain_id]
    block = await client.guard(client.web3.eth.get_block("latest"))
    number = int(block["number"])
    named = await vaults.tokens_in_events(session, vault.chain_id, vault.address)
    addresses = sorted({*named, *await prices.tokens()} - {ZERO_ADDRESS})
    registry = await tokens.ensure(session, parts, vault.chain_id, addresses)
    balances = await asyncio.gather(*(_balance(client, token, vault.address, number) for token in addresses))
    quoted = await asyncio.gather(*(prices.price(token, number) for token in addresses))
    positions = [
        _position(registry[token], balance, price)
        for token, balance, price in zip(addresses, balances, quoted, strict=True)
    ]
    if (native := await _native_position(parts, vault, number)) is not None:
        positions.append(native)
    value, reason = _sum(positions)
    quote = client.settings.quote_token
    return VaultPortfolio(
        chain_id=vault.chain_id,
        vault=vault.address,
        block_number=number,
        as_of=datetime.fromtimestamp(block["timestamp"], UTC),
        quote_token=quote,
        quote_symbol=registry[quote].symbol if quote else None,
        positions=positions,
        value=value,
        reason=reason,
    )


async def _balance(client: ChainClient, token: str, holder: str, block: int) -> int | None:
    """None when the token does not answer: other people's code may fail."""
    try:
        return int(await client.call("ERC20", token, "balanceOf", holder, block=block))
    except Refused:
        return None


async def _native_position(parts: Parts, vault: Vault, block: int) -> Position | None:
    """Native currency, priced as its wrapped token; None when the vault holds none."""
    client = parts.chain(vault.chain_id)
    address = client.web3.to_checksum_address(vault.address)
    balance = await client.guard(client.web3.eth.get_balance(address, block))
    if balance == 0:
        return None
    wrapped = str(await client.call("Vault", vault.address, "wrappedNative", block=block))
    if wrapped == ZERO_ADDRESS:
        price = TokenPrice(None, "no_wrapped_native")
    else:
        price = await parts.prices[vault.chain_id].price(wrapped, block)
    native = Token(chain_id=vault.chain_id, address=ZERO_ADDRESS, symbol="native", decimals=NATIVE_DECIMALS)
    return _position(native, balance, price)


def _position(token: Token, balance: int | None, price: TokenPrice) -> Position:
    amount = None if balance is None or token.decimals is None else to_human(balance, token.decimals)
    reason = price.reason
    if balance is None:
        reason = "balance_unreadable"
    elif amount is None:
        reason = "decimals_unknown"
    return Position(
        token=token.address,
        symbol=token.symbol,
        decimals=token.decimals,
        balance=balance or 0,
        amount=amount,
        price=price.price,
        value=None if amount is None or price.price is None else _multiply(amount, price.price),
        reason=reason,
    )


def _exact_sum(values: Iterable[Decimal]) -> Decimal:
    with localcontext() as context:
        context.prec = PRECISION
        return sum(values, Decimal(0))


def _multiply(amount: Decimal, price: Decimal) -> Decimal:
    with localcontext() as context:
        context.prec = PRECISION
        return amount * price


def _sum(positions: Iterable[Position]) -> tuple[Decimal | None, str | None]:
    held = [p for p in positions if p.balance or p.reason == "balance_unreadable"]
    unknown = next((p for p in held if p.value is None), None)
    if unknown is not None:
        return None, f"{unknown.reason}: {unknown.token}"
    return _exact_sum(p.value for p in held if p.value is not None), None


def _totals(valued: list[VaultPortfolio]) -> list[ChainTotal]:
    totals = []
    for _, group in groupby(sorted(valued, key=lambda v: v.chain_id), key=lambda v: v.chain_id):
        members = list(group)
        unknown = next((v.reason for v in members if v.value is None), None)
        totals.append(
            ChainTotal(
                chain_id=members[0].chain_id,
                quote_token=members[0].quote_token,
                quote_symbol=members[0].quote_symbol,
                value=None if unknown else _exact_sum(v.value for v in members if v.value is not None),
                reason=unknown,
            )
        )
    return totals
