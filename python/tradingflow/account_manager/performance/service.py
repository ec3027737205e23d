"""How a user's vaults and their flows fared."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.parts import Parts
from tradingflow.account_manager.performance import repository
from tradingflow.account_manager.performance.figure import Figure
from tradingflow.account_manager.performance.history import Valuer, VaultEvent, wanted_prices
from tradingflow.account_manager.performance.report import Look, Report, Reporter, Result
from tradingflow.account_manager.performance.schemas import FlowGains, HoldingResponse, PerformanceResponse
from tradingflow.db.models import Vault

# Returns are measured at this many valuations at most; a longer life is looked at in coarser steps.
MAX_LOOKS = 2_000
SHORTEST_STEP_S = 300


async def of_vault(reads: AsyncSession, parts: Parts, vault: Vault) -> PerformanceResponse:
    """From stored events, prices and valuations alone; prices not known yet are left to a job and `price_pending`."""
    next_block = await repository.next_block(reads, vault.chain_id)
    if next_block is None or not await repository.is_history_complete(reads, vault.chain_id, vault.address):
        return _nothing_known(parts, vault, "history_incomplete: not all events of the vault are stored yet")
    events = await repository.events_of(reads, vault)
    looks = await _looks(reads, parts, vault, events, next_block)
    reporter, is_pending = await _reporter(reads, parts, vault, events)
    if is_pending:
        # A second connection here, with all others waiting for theirs, would be waited for in vain.
        await repository.want_prices(reads, vault, parts.clock.now())
    names = await repository.flow_names(reads, vault.user_id)
    newest = looks[-1] if looks else None
    report = await asyncio.to_thread(reporter.report, events, looks)  # seconds, for a vault of many trades
    return _response(parts, vault, report, names, next_block - 1, newest)


async def _looks(
    reads: AsyncSession, parts: Parts, vault: Vault, events: list[VaultEvent], next_block: int
) -> list[Look]:
    """From the first event on: before it there was nothing to earn with."""
    if not events:
        return []
    step = max(timedelta(seconds=SHORTEST_STEP_S), (parts.clock.now() - events[0].block_time) / MAX_LOOKS)
    return await repository.looks_of(reads, vault, events[0].block_number, next_block, int(step.total_seconds()))


async def _reporter(reads: AsyncSession, parts: Parts, vault: Vault, events: list[VaultEvent]) -> tuple[Reporter, bool]:
    """Also whether a price is still to be found."""
    chain_id, quote_token = vault.chain_id, parts.settings.chain(vault.chain_id).quote_token
    prices = await repository.block_prices(reads, chain_id, vault.address)
    tokens = {part.token for event in events for part in event.parts()}
    decimals = await repository.decimals_of(reads, chain_id, tokens)
    gas = await repository.gas_of(reads, chain_id, vault.address)
    reporter = Reporter(Valuer(quote_token, decimals, prices), gas)
    return reporter, await asyncio.to_thread(_is_pending, reporter.valuer, events)


def _is_pending(valuer: Valuer, events: list[VaultEvent]) -> bool:
    wanted = wanted_prices(events, valuer.quote_token)
    return any((block, token) not in valuer.block_prices for _, block, token in wanted)


def _response(
    parts: Parts, vault: Vault, report: Report, names: Mapping[str, str], block_number: int, newest: Look | None
) -> PerformanceResponse:
    figures = {
        "time_weighted_return": report.returns.time_weighted,
        "max_drawdown": report.returns.max_drawdown,
    }
    flows = [
        FlowGains(flow_id=names.get(flow), onchain_flow_id=flow, **_gains(result, {}))
        for flow, result in sorted(report.flows.items())
    ]
    return PerformanceResponse(
        chain_id=vault.chain_id,
        vault=vault.address,
        quote_token=parts.settings.chain(vault.chain_id).quote_token,
        block_number=block_number,
        as_of=newest.taken_at if newest else None,
        holdings=[
            HoldingResponse(token=holding.token, amount=holding.amount, cost=holding.cost.value)
            for holding in report.vault.books.holdings
        ],
        flows=flows,
        **_gains(report.vault, figures),
    )


def _gains(result: Result, more: Mapping[str, Figure]) -> dict[str, Any]:
    figures = {
        "deposited": result.books.deposited,
        "withdrawn": result.books.withdrawn,
        "left": result.left,
        "realised": result.books.realised,
        "unrealised": result.unrealised,
        "profit": result.profit,
        "gas": result.gas.worth,
        "profit_after_gas": result.profit.minus(result.gas.worth),
        **more,
    }
    return {
        "trades": result.trades,
        "gas_wei": result.gas.wei,
        "reasons": {name: figure.reason for name, figure in figures.items() if figure.reason is not None},
        **{name: figure.value for name, figure in figures.items()},
    }


def _nothing_known(parts: Parts, vault: Vault, reason: str) -> PerformanceResponse:
    names = (
        "deposited",
        "withdrawn",
        "left",
        "realised",
        "unrealised",
        "profit",
        "gas",
        "profit_after_gas",
        "time_weighted_return",
        "max_drawdown",
    )
    return PerformanceResponse(
        chain_id=vault.chain_id,
        vault=vault.address,
        quote_token=parts.settings.chain(vault.chain_id).quote_token,
        block_number=None,
        as_of=None,
        trades=0,
        gas_wei=None,
        reasons=dict.fromkeys(names, reason),
        holdings=[],
        flows=[],
        **dict.fromkeys(names),
    )
