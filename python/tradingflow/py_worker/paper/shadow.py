"""Each live cycle once more on paper, and an alarm where the two went apart.

A trade that was mined is filled on paper at the market's quote of the block before it, by the rules and balances the
vault had there; one that failed, at the newest block, held to the prices of now. The decisions are made again from the
cycle's journal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from eth_typing import BlockNumber
from prometheus_client import Counter
from sqlalchemy import ColumnElement, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.chain.client import ChainClient
from tradingflow.chain.transactions import head_number
from tradingflow.chain.uniswap import UniswapReader
from tradingflow.chain.vault_settings import VaultSnapshot, read_vault
from tradingflow.core.clock import Clock
from tradingflow.core.errors import Conflict, DependencyUnavailable, Refused
from tradingflow.core.logging import get_logger
from tradingflow.core.money import BPS
from tradingflow.db.engine import SessionFactory
from tradingflow.db.failures import passing_failure
from tradingflow.db.models import Cycle, Flow, FlowVersion, ShadowDivergence, Trade, Vault
from tradingflow.prices.check import PriceCheck
from tradingflow.py_worker.engine.graph import build_graph
from tradingflow.py_worker.engine.problems import InvalidFlow
from tradingflow.py_worker.engine.spec import NodeSpec
from tradingflow.py_worker.kit import SwapIntent
from tradingflow.py_worker.kit.registry import AnyNode
from tradingflow.py_worker.paper.terms import PolicyTerms
from tradingflow.py_worker.paper.trading import QuotedVenue, held_to, read_prices, store_trade
from tradingflow.py_worker.paper.vaults import VaultKey
from tradingflow.py_worker.replay.replay import Replay
from tradingflow.py_worker.replay.store import read_recording
from tradingflow.py_worker.simulation.gateway import NodeIdentity, SimulatedChain, SimulatedTrade, settle
from tradingflow.py_worker.simulation.vault import SimulatedVault

log = get_logger(__name__)

SHADOWED = Counter("worker_shadowed_cycles_total", "Live cycles that were run on paper as well")
UNSHADOWABLE = Counter("worker_unshadowable_cycles_total", "Live cycles that cannot be run on paper as well")
DIVERGED = Counter("worker_shadow_divergences_total", "Shadow cycles that differed beyond their bound", ["kind"])
PERIOD_S = 2.0
# Older cycles lie in blocks whose state ordinary nodes no longer have.
NOT_OLDER_THAN = timedelta(minutes=30)
# What one cycle may take; PostgreSQL ends a transaction that is idle for a minute.
LONGEST_S = 30.0


@dataclass(frozen=True)
class Divergence:
    """Where live and paper went apart. `deviation_bps` is of the live fill, None where there are not two fills."""

    node_id: str
    kind: str
    live: Mapping[str, Any]
    paper: Mapping[str, Any]
    deviation_bps: int | None = None


def compare_fills(live: Trade, paper: SimulatedTrade, bound_bps: int) -> Divergence | None:
    """None when both were refused alike, or filled within the bound."""
    told = (_of_live(live), _of_paper(paper))
    if live.amount_out is None or paper.fill is None:
        same = live.amount_out is None and paper.fill is None and live.failure_code == paper.failure_code
        return None if same else Divergence(live.node_id, "refusal", *told)
    apart = abs(live.amount_out - paper.fill.amount_out)
    # Rounded up: a bound of 0 means equal to the last unit.
    deviation = -(-apart * BPS // live.amount_out) if live.amount_out else BPS
    return Divergence(live.node_id, "fill", *told, deviation) if deviation > bound_bps else None


def _of_live(trade: Trade) -> dict[str, Any]:
    return {
        "status": trade.status,
        "amount_out": None if trade.amount_out is None else str(trade.amount_out),
        "failure_code": trade.failure_code,
        "block_number": trade.block_number,
    }


def _of_paper(trade: SimulatedTrade) -> dict[str, Any]:
    return {
        "status": "failed" if trade.fill is None else "completed",
        "amount_out": None if trade.fill is None else str(trade.fill.amount_out),
        "failure_code": trade.failure_code,
        "block_number": trade.block_number,
    }


@dataclass
class _Left:
    """What a round leaves for another: cycles that were tried, and all that traded on chains that are away.

    `flows` have, or had in the last round, a cycle of theirs left: those of others go first.
    """

    cycles: set[tuple[UUID, int]] = field(default_factory=set)
    chains: set[int] = field(default_factory=set)
    flows: set[UUID] = field(default_factory=set)

    def add(self, cycle: Cycle) -> None:
        self.cycles.add((cycle.flow_pk, cycle.cycle))
        self.flows.add(cycle.flow_pk)


class Shadow:
    """Runs in every worker; a cycle is taken under its row lock, so it is shadowed once."""

    def __init__(
        self,
        sessions: SessionFactory,
        clients: Mapping[int, ChainClient],
        clock: Clock,
        types: Mapping[str, AnyNode],
        specs: Mapping[str, NodeSpec],
        prices: PriceCheck | None,
    ) -> None:
        self._prices = prices
        self._sessions = sessions
        self._clients = clients
        self._readers = {chain_id: UniswapReader(client) for chain_id, client in clients.items()}
        self._clock = clock
        self._types = types
        self._specs = specs

    async def run(self) -> None:
        """Shadow until cancelled. A chain or a database that is away is waited for."""
        late = frozenset[UUID]()
        while True:
            try:
                late = await self.round(late)
            except (SQLAlchemyError, OSError) as error:
                log.warning("shadowing interrupted", error=error)
            await asyncio.sleep(PERIOD_S)

    async def round(self, late: frozenset[UUID] = frozenset()) -> frozenset[UUID]:
        """Shadow every cycle that waits for it, the oldest first and those of `late` flows last.

        Gives the flows that have to wait for another round. No cycle ends the round: one that can never be shadowed
        is logged and done with, one that needs what is away is left.
        """
        left = _Left(flows=set(late))
        while (doubted := await self._shadow_next(left)) is not None:
            left.chains.update([chain_id for chain_id in doubted if await self._is_away(chain_id)])
        return frozenset(flow_pk for flow_pk, _ in left.cycles)

    async def _shadow_next(self, left: _Left) -> Sequence[int] | None:
        """None when no cycle waits but those left; else the chains that may be why this one had to be left."""
        async with self._sessions.begin() as session:
            found = (await session.execute(self._waiting(left))).first()
            if found is None:
                return None
            cycle, flow = found
            told = {"flow_id": flow.flow_id, "cycle": cycle.cycle}
            try:
                async with session.begin_nested(), asyncio.timeout(LONGEST_S):
                    divergences = [
                        *await self._fills(session, flow, cycle),
                        *await self._decisions(session, flow, cycle),
                    ]
                    await self._keep(session, flow, cycle, divergences)
                SHADOWED.inc()
            except Exception as error:  # whatever one owner's cycle brings about, the others' go on
                if isinstance(error, DependencyUnavailable) or passing_failure(error) is not None:
                    log.warning("shadow left for later", error=error, **told)
                    left.add(cycle)
                    traded_on = select(Trade.chain_id).where(*_of(cycle), Trade.chain_id.in_(self._clients)).distinct()
                    return (await session.scalars(traded_on)).all()
                log.exception("cycle cannot be shadowed", **told)
                UNSHADOWABLE.inc()
            cycle.shadowed_at = self._clock.now()
        return ()

    async def _is_away(self, chain_id: int) -> bool:
        try:
            await head_number(self._clients[chain_id])
        except DependencyUnavailable:
            return True
        return False

    def _waiting(self, left: _Left) -> Any:
        waiting = (
            select(Cycle, Flow)
            .join(Flow, Flow.id == Cycle.flow_pk)
            .where(
                Flow.shadow_bound_bps.is_not(None),
                Cycle.mode == "live",
                Cycle.status != "running",
                Cycle.shadowed_at.is_(None),
                Cycle.finished_at > self._clock.now() - NOT_OLDER_THAN,
            )
            .order_by(Cycle.flow_pk.in_(left.flows), Cycle.finished_at)
            .limit(1)
            .with_for_update(of=Cycle, skip_locked=True)
        )
        if left.cycles:
            waiting = waiting.where(tuple_(Cycle.flow_pk, Cycle.cycle).not_in(left.cycles))
        if left.chains:
            on_chains = select(Trade.id).where(*_of(Cycle), Trade.chain_id.in_(left.chains))
            waiting = waiting.where(~on_chains.exists())
        return waiting

    async def _fills(self, session: AsyncSession, flow: Flow, cycle: Cycle) -> Sequence[Divergence]:
        settled = select(Trade).where(*_of(cycle), Trade.status.in_(("completed", "failed")))
        found = []
        for trade in (await session.scalars(settled.order_by(Trade.created_at))).all():
            paper = await self._on_paper(session, trade)
            if paper is None:
                continue
            key = VaultKey(trade.user_id, trade.chain_id, trade.vault_address)
            await store_trade(session, paper, key, is_shadow=True)
            if (divergence := compare_fills(trade, paper, flow.shadow_bound_bps or 0)) is not None:
                found.append(divergence)
        return found

    async def _on_paper(self, session: AsyncSession, trade: Trade) -> SimulatedTrade | None:
        """The same intent by the same rules; None for a chain that is no longer served."""
        client = self._clients.get(trade.chain_id)
        if client is None:
            return None
        mined_in = trade.block_number if trade.amount_out is not None else None
        block = BlockNumber(mined_in - 1 if mined_in is not None else await head_number(client))
        created = await session.scalar(
            select(Vault.created_block).where(Vault.chain_id == trade.chain_id, Vault.address == trade.vault_address)
        )
        snapshot = await read_vault(client, trade.vault_address, created or 0, block)
        intent = SwapIntent(
            trade.chain_id,
            trade.vault_address,
            trade.path,
            trade.token_in,
            trade.token_out,
            trade.amount_in,
            trade.slippage_bps,
        )
        venue = await self._quoted(intent, block, trade.router)
        if mined_in is None:
            venue = await held_to(self._prices, venue, intent)
        prices = await read_prices(client, PolicyTerms.of(snapshot.policy), intent, venue, block)
        mined = await client.guard(client.web3.eth.get_block(BlockNumber(mined_in or block)))
        identity = NodeIdentity(trade.flow_pk, trade.version, trade.cycle, trade.node_id)
        attempt = SimulatedTrade(identity.trade_id, identity, intent, int(mined["timestamp"]), block)
        return settle(attempt, SimulatedChain(venue, trade.router, prices, block_number=block), _vault(trade, snapshot))

    async def _quoted(self, intent: SwapIntent, block: BlockNumber, router: str) -> QuotedVenue:
        try:
            amount_out = await self._readers[intent.chain_id].quote(intent.path, intent.amount_in, block, router=router)
        except Refused as refusal:
            return QuotedVenue(intent.path, intent.amount_in, refusal=refusal)
        return QuotedVenue(intent.path, intent.amount_in, amount_out)

    async def _decisions(self, session: AsyncSession, flow: Flow, cycle: Cycle) -> Sequence[Divergence]:
        """Nodes that would not do again what they did, told the same; none where the cycle cannot be told again."""
        version = await session.get(FlowVersion, (flow.id, cycle.version))
        try:
            recording = await read_recording(session, flow, cycle)
            graph = None if version is None else build_graph(version.graph, self._specs)
        except (Conflict, InvalidFlow):
            return []
        if graph is None:
            return []
        replayed = await Replay(recording, graph, self._types).run()
        return [
            Divergence(
                node.node_id,
                "decision",
                {"status": node.recorded.status if node.recorded else None, "trade": node.recorded_intent},
                {"status": node.replayed.status if node.replayed else None, "trade": node.replayed_intent},
            )
            for node in replayed.nodes
            if node.verdict == "changed" and not node.unanswered
        ]

    async def _keep(self, session: AsyncSession, flow: Flow, cycle: Cycle, divergences: Sequence[Divergence]) -> None:
        for found in divergences:
            row = {
                "flow_pk": flow.id,
                "cycle": cycle.cycle,
                "node_id": found.node_id,
                "kind": found.kind,
                "live": dict(found.live),
                "paper": dict(found.paper),
                "deviation_bps": found.deviation_bps,
                "bound_bps": flow.shadow_bound_bps or 0,
            }
            await session.execute(insert(ShadowDivergence).values(row).on_conflict_do_nothing())
            DIVERGED.labels(found.kind).inc()
            log.warning(
                "shadow diverged from live",
                flow_id=flow.flow_id,
                cycle=cycle.cycle,
                node_id=found.node_id,
                kind=found.kind,
                deviation_bps=found.deviation_bps,
            )


def _of(cycle: Cycle | type[Cycle]) -> tuple[ColumnElement[bool], ...]:
    """A cycle's trades: of one, or of each in a query over cycles."""
    return Trade.flow_pk == cycle.flow_pk, Trade.cycle == cycle.cycle


def _vault(trade: Trade, snapshot: VaultSnapshot) -> SimulatedVault:
    return SimulatedVault(trade.vault_address, trade.chain_id, snapshot.policy, snapshot.balances, snapshot.ledger)
