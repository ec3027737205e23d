"""What a user's vaults are worth, now and over time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.json_text import address_text, plain_text
from tradingflow.account_manager.parts import Parts
from tradingflow.account_manager.portfolio import repository
from tradingflow.account_manager.portfolio.schemas import Position, ValuePoint, VaultPortfolio
from tradingflow.account_manager.portfolio.valuation import exact_sum
from tradingflow.account_manager.vault.service import own_vault
from tradingflow.core.errors import InvalidInput
from tradingflow.core.evm import address_from_bytes

# A front end that polls shall not make every poll a dozen calls to the chain.
MAX_AGE = timedelta(seconds=5)
MAX_POINTS = 5_000


async def value_all(parts: Parts, user_id: UUID) -> dict[str, Any]:
    """Every vault of a user, from valuations of the last MAX_AGE; older ones are taken anew and kept.

    Ready for JSON, as PortfolioResponse describes it.
    """
    since = parts.clock.now() - MAX_AGE
    valued = []
    for row in await repository.newest(parts.hot, user_id):
        if row["taken_at"] is not None and row["taken_at"] > since:
            valued.append(_from_stored(row))
        else:
            address = address_from_bytes(row["address"])
            valued.append((await value_vault(parts, user_id, row["chain_id"], address)).model_dump(mode="json"))
    return {"vaults": valued, "totals": _totals(valued)}


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


def _from_stored(row: Mapping[str, Any]) -> dict[str, Any]:
    """Positions are stored as they are shown, and go out as they came in."""
    return {
        "chain_id": row["chain_id"],
        "vault": address_text(row["address"]),
        "block_number": row["block_number"],
        "as_of": row["taken_at"],
        "quote_token": address_text(row["quote_token"]),
        "quote_symbol": row["quote_symbol"],
        "positions": orjson.Fragment(row["positions"]),
        "value": None if row["value"] is None else plain_text(row["value"]),
        "reason": row["reason"],
    }


async def value_vault(parts: Parts, user_id: UUID, chain_id: int, address: str) -> VaultPortfolio:
    """Balances and values of the user's vault in the last MAX_AGE; an older valuation is taken anew and kept.

    Raises NotFound for a vault that is not there or somebody else's, DependencyUnavailable.
    """
    now = parts.clock.now()
    async with parts.reads() as session:
        vault = await own_vault(session, user_id, chain_id, address)
        stored = await repository.newest_since(session, vault.id, now - MAX_AGE)
    if stored is None:
        return await parts.valuer.value_and_keep(vault, now)
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


def _totals(valued: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    by_chain: dict[int, list[Mapping[str, Any]]] = {}
    for vault in valued:
        by_chain.setdefault(vault["chain_id"], []).append(vault)
    return [_total(chain_id, by_chain[chain_id]) for chain_id in sorted(by_chain)]


def _total(chain_id: int, vaults: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    unknown = next((vault["reason"] for vault in vaults if vault["value"] is None), None)
    return {
        "chain_id": chain_id,
        "quote_token": vaults[0]["quote_token"],
        "quote_symbol": vaults[0]["quote_symbol"],
        "value": None if unknown else plain_text(exact_sum(Decimal(vault["value"]) for vault in vaults)),
        "reason": unknown,
    }
