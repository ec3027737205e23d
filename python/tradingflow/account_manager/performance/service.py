"""How a user's vaults and their flows fared."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.performance import repository
from tradingflow.account_manager.performance.figure import Figure
from tradingflow.account_manager.performance.history import Valuer, VaultEvent, wanted_prices
from tradingflow.account_manager.performance.report import Look, Report, Reporter, Result
from tradingflow.account_manager.performance.schemas import FlowGains, HoldingResponse, PerformanceResponse
from tradingflow.core.clock import Clock
from tradingflow.core.config import AccountManagerSettings
from tradingflow.core.tasks import Shared
from tradingflow.db import cursors
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import Vault

# Returns are measured at this many valuations at most; a longer life is looked at in coarser steps.
MAX_LOOKS = 2_000
SHORTEST_STEP_S = 300


@dataclass(frozen=True)
class VaultReporter:
    """Reports on vaults by what is stored of them.

    No database connection is held while a report is made: that takes seconds for a vault of many trades, and as many
    of them as there are connections would keep every other route waiting.
    """

    settings: AccountManagerSettings
    clock: Clock
    reads: SessionFactory
    _under_way: Shared[UUID, PerformanceResponse] = field(default_factory=Shared)

    async def of_vault(self, vault: Vault) -> PerformanceResponse:
        """Who asks while a report on the vault is made is given the same one."""
        return await self._under_way.result(vault.id, lambda: self._of_vault(vault))

    async def _of_vault(self, vault: Vault) -> PerformanceResponse:
        """From events, prices and valuations alone; prices not known yet are left to a job and `price_pending`."""
        quote_token = self.settings.chain(vault.chain_id).quote_token
        async with self.reads() as session:
            stored = await self._stored(session, vault, quote_token)
        if stored is None:
            return _nothing_known(vault, quote_token, "history_incomplete: not all events of the vault are stored yet")
        report, is_pending = await asyncio.to_thread(_report, stored)
        if is_pending:
            async with self.reads() as session:
                await repository.want_prices(session, vault, self.clock.now())
        return _response(vault, stored, report)

    async def _stored(self, session: AsyncSession, vault: Vault, quote_token: str | None) -> _Stored | None:
        """None unless every event of the vault up to the chain's cursor is stored."""
        chain_id, address = vault.chain_id, vault.address
        next_block = await cursors.next_block(session, chain_id)
        if next_block is None or not await repository.is_history_complete(session, chain_id, address):
            return None
        events = await repository.events_of(session, vault)
        tokens = {part.token for event in events for part in event.parts()}
        return _Stored(
            block_number=next_block - 1,
            events=events,
            looks=await self._looks(session, vault, events, next_block),
            reporter=Reporter(
                Valuer(
                    quote_token,
                    await repository.decimals_of(session, chain_id, tokens),
                    await repository.block_prices(session, chain_id, address),
                ),
                await repository.gas_of(session, chain_id, address),
            ),
            flow_names=await repository.flow_names(session, vault.user_id),
        )

    async def _looks(
        self, session: AsyncSession, vault: Vault, events: list[VaultEvent], next_block: int
    ) -> list[Look]:
        """From the first event on: before it there was nothing to earn with."""
        if not events:
            return []
        step = max(timedelta(seconds=SHORTEST_STEP_S), (self.clock.now() - events[0].block_time) / MAX_LOOKS)
        return await repository.looks_of(session, vault, events[0].block_number, next_block, int(step.total_seconds()))


@dataclass(frozen=True)
class _Stored:
    """What a report is made of. `flow_names` are by on-chain id."""

    block_number: int
    events: list[VaultEvent]
    looks: list[Look]
    reporter: Reporter
    flow_names: Mapping[str, str]


def _report(stored: _Stored) -> tuple[Report, bool]:
    """Also whether a price is still to be found."""
    report = stored.reporter.report(stored.events, stored.looks)
    return report, _is_pending(stored.reporter.valuer, stored.events)


def _is_pending(valuer: Valuer, events: list[VaultEvent]) -> bool:
    wanted = wanted_prices(events, valuer.quote_token)
    return any((block, token) not in valuer.block_prices for _, block, token in wanted)


def _response(vault: Vault, stored: _Stored, report: Report) -> PerformanceResponse:
    figures = {
        "time_weighted_return": report.returns.time_weighted,
        "max_drawdown": report.returns.max_drawdown,
    }
    flows = [
        FlowGains(flow_id=stored.flow_names.get(flow), onchain_flow_id=flow, **_gains(result, {}))
        for flow, result in sorted(report.flows.items())
    ]
    return PerformanceResponse(
        chain_id=vault.chain_id,
        vault=vault.address,
        quote_token=stored.reporter.valuer.quote_token,
        block_number=stored.block_number,
        as_of=stored.looks[-1].taken_at if stored.looks else None,
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


def _nothing_known(vault: Vault, quote_token: str | None, reason: str) -> PerformanceResponse:
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
        quote_token=quote_token,
        block_number=None,
        as_of=None,
        trades=0,
        gas_wei=None,
        reasons=dict.fromkeys(names, reason),
        holdings=[],
        flows=[],
        **dict.fromkeys(names),
    )
