"""What a user's vaults are worth, now and over time."""

from __future__ import annotations

from datetime import datetime, timedelta
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
from tradingflow.account_manager.portfolio.valuation import exact_sum
from tradingflow.core.errors import InvalidInput
from tradingflow.db.models import Vault, VaultValuation

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
    valued = await parts.valuer.value(session, vault)
    await repository.keep(session, vault.id, valued, parts.clock.now())
    return valued


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
                value=None if unknown else exact_sum(v.value for v in members if v.value is not None),
                reason=unknown,
            )
        )
    return totals
