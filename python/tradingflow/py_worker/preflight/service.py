"""Puts a preflight together: intents, what the vaults say to them, and the arithmetic of a day."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from tradingflow.chain.client import ChainClient
from tradingflow.core.config import ChainSettings
from tradingflow.core.evm import parse_address
from tradingflow.py_worker.engine.graph import Graph
from tradingflow.py_worker.engine.interval import Interval
from tradingflow.py_worker.kit import MarketData
from tradingflow.py_worker.kit.registry import AnyNode
from tradingflow.py_worker.places import Places
from tradingflow.py_worker.preflight.intents import Heard, listen, trade_nodes
from tradingflow.py_worker.preflight.judgement import (
    Allowance,
    Finding,
    PlannedTrade,
    Spend,
    cycles_a_day,
    is_bought,
    judge_amount,
    judge_bounds,
    judge_day,
    trades_a_day,
    worst_case,
)
from tradingflow.py_worker.preflight.vault_facts import Quoted, VaultFacts

NOT_SIMULATED = Quoted(None, None, ())
MAX_PREFLIGHTS = 50
MAX_PREFLIGHTS_OF_USER = 2


def preflight_places() -> Places:
    """Each asks chains several things of every trade node, one node after the other."""
    return Places(MAX_PREFLIGHTS, "preflight_busy", "trades are being judged", each=MAX_PREFLIGHTS_OF_USER)


@dataclass(frozen=True)
class Subject:
    """The flow to look at: whose vaults and which of our operators count, and nodes that have run before.

    `interval` is None for a flow whose trigger knows no time.
    """

    flow_pk: UUID
    graph: Graph
    interval: Interval | None
    vaults: frozenset[tuple[int, str]]
    operators: Mapping[int, frozenset[str]]
    tried_nodes: frozenset[str]


@dataclass(frozen=True)
class JudgedTrade:
    node_id: str
    trade: PlannedTrade | None
    router: str | None
    simulated: Quoted


@dataclass(frozen=True)
class JudgedSpend:
    spend: Spend
    allowance: Allowance
    has_loss_cap: bool

    @property
    def findings(self) -> list[Finding]:
        return judge_day(self.spend, self.allowance) + judge_bounds(self.spend, self.allowance, self.has_loss_cap)


@dataclass(frozen=True)
class GasADay:
    """Units of gas, and wei at the present price, that a day of trades may cost the operator on one chain."""

    chain_id: int
    gas: int
    cost_wei: int


@dataclass(frozen=True)
class Judgement:
    cycles_a_day: int
    trades: Sequence[JudgedTrade]
    spends: Sequence[JudgedSpend]
    gas: Sequence[GasADay]
    unsimulated_nodes: Sequence[str]
    findings: Sequence[Finding]

    @property
    def blocked(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.blocks]


class Preflight:
    """Looks at flows through the worker's chains. Changes nothing anywhere."""

    def __init__(
        self,
        types: Mapping[str, AnyNode],
        clients: Mapping[int, ChainClient],
        chains: Mapping[int, ChainSettings],
        markets: MarketData,
    ) -> None:
        self._types = types
        self._clients = clients
        self._chains = chains
        self._markets = markets

    def trades(self, graph: Graph) -> bool:
        return bool(trade_nodes(graph, self._types))

    async def judge(self, subject: Subject, now: datetime) -> Judgement:
        """Raises DependencyUnavailable when a chain does not answer."""
        nodes = trade_nodes(subject.graph, self._types)
        heard = await asyncio.gather(*(listen(node, self._types[node.type], self._markets) for node in nodes))
        planned = [h.trade for h in heard if h.trade is not None]
        cycles = 1 if subject.interval is None else cycles_a_day(subject.interval, now)
        judged = [await self._judge_trade(subject, one, planned, now) for one in heard]
        trades, findings = [trade for trade, _ in judged], [f for _, found in judged for f in found]
        # Of an address that is no vault of theirs there is nothing to say.
        known = [
            trade
            for trade in planned
            if trade.chain_id in self._clients and (trade.chain_id, parse_address(trade.vault)) in subject.vaults
        ]
        spends = await self._spends(known, cycles)
        findings += [finding for one in spends for finding in one.findings]
        gas, gas_findings = await self._gas(trades, cycles)
        findings += gas_findings
        if subject.interval is None:
            detail = "its trigger knows no time: what is said of a day is said of one cycle"
            findings.append(Finding("cycles_not_timed", detail, blocks=False))
        if not nodes:
            findings.append(Finding("no_trade_nodes", "no node of this flow trades", blocks=False))
        untried = [node.id for node in subject.graph.nodes if node.id not in subject.tried_nodes]
        if untried:
            named = ", ".join(untried)
            findings.append(Finding("unsimulated_nodes", f"never completed in this version: {named}", blocks=False))
        return Judgement(cycles, trades, spends, gas, untried, findings)

    async def _judge_trade(
        self, subject: Subject, heard: Heard, planned: Sequence[PlannedTrade], now: datetime
    ) -> tuple[JudgedTrade, list[Finding]]:
        intent, trade = heard.intent, heard.trade
        if intent is None or trade is None:
            return JudgedTrade(heard.node_id, None, None, NOT_SIMULATED), list(heard.findings)
        if intent.chain_id not in self._clients:
            served = ", ".join(map(str, sorted(self._clients))) or "none"
            detail = f"chain {intent.chain_id} is not served; allowed: {served}"
            finding = Finding("unknown_chain", detail, True, heard.node_id)
            return JudgedTrade(heard.node_id, trade, intent.router, NOT_SIMULATED), [*heard.findings, finding]
        router = intent.router_on(self._chains[intent.chain_id])
        unknown = (intent.chain_id, parse_address(intent.vault)) not in subject.vaults
        if unknown:
            detail = f"the flow's owner has no vault {intent.vault} on chain {intent.chain_id}"
            finding = Finding("unknown_vault", detail, True, heard.node_id)
            return JudgedTrade(heard.node_id, trade, router, NOT_SIMULATED), [*heard.findings, finding]
        facts = self._facts(trade)
        operators = subject.operators.get(intent.chain_id, frozenset())
        permissions, route, elsewhere, allowance = await asyncio.gather(
            facts.permissions(operators, now),
            facts.route(router, intent),
            facts.elsewhere(router, intent, _pool_of(subject.graph, heard.node_id)),
            facts.allowance(trade.token_in),
        )
        bought = is_bought(trade.token_in, trade.vault, planned)
        found = [*permissions, *route, *elsewhere, *judge_amount(trade, allowance, bought)]
        simulated = NOT_SIMULATED
        # What is refused already needs no simulation, which would only repeat it; an unknown amount has none.
        if trade.amount_in is not None and not any(finding.blocks for finding in found) and router is not None:
            operator = str(await facts.operator())
            simulated = await facts.simulate(subject.flow_pk, heard.node_id, router, intent, operator)
            found += [f for f in simulated.findings if f.code not in {known.code for known in found}]
        named = [replace(finding, node_id=heard.node_id) for finding in found]
        return JudgedTrade(heard.node_id, trade, router, simulated), [*heard.findings, *named]

    async def _spends(self, planned: Sequence[PlannedTrade], cycles: int) -> list[JudgedSpend]:
        grouped: dict[tuple[int, str, str], list[PlannedTrade]] = {}
        for trade in planned:
            grouped.setdefault((trade.chain_id, trade.vault, trade.token_in), []).append(trade)
        return [await self._spend(trades, cycles) for trades in grouped.values()]

    async def _spend(self, trades: Sequence[PlannedTrade], cycles: int) -> JudgedSpend:
        first = trades[0]
        facts = self._facts(first)
        allowance, cooldown, has_loss_cap = await asyncio.gather(
            facts.allowance(first.token_in), facts.cooldown_s(), facts.has_loss_cap()
        )
        times = trades_a_day(cycles, cooldown)
        total = worst_case(trades, times, allowance.per_trade_cap)
        spend = Spend(first.chain_id, first.vault, first.token_in, times * len(trades), total)
        return JudgedSpend(spend, allowance, has_loss_cap)

    async def _gas(self, trades: Sequence[JudgedTrade], cycles: int) -> tuple[list[GasADay], list[Finding]]:
        by_chain: dict[int, list[JudgedTrade]] = {}
        for one in trades:
            if one.trade is not None and one.simulated.gas is not None:
                by_chain.setdefault(one.trade.chain_id, []).append(one)
        gas, findings = [], []
        for chain_id, simulated in by_chain.items():
            units = cycles * sum(one.simulated.gas or 0 for one in simulated)
            trade = next(one.trade for one in simulated if one.trade is not None)
            facts = self._facts(trade)
            cost = units * await facts.gas_price()
            gas.append(GasADay(chain_id, units, cost))
            operator = await facts.operator()
            if operator is not None and await facts.gas_money(operator) < cost:
                detail = f"a day of trades may cost {cost} wei of gas on chain {chain_id}; the operator holds less"
                findings.append(Finding("operator_gas_low", detail, blocks=False))
        return gas, findings

    def _facts(self, trade: PlannedTrade) -> VaultFacts:
        return VaultFacts(self._clients[trade.chain_id], parse_address(trade.vault))


def _pool_of(graph: Graph, node_id: str) -> str | None:
    """The pool a node names; None for one that names tokens."""
    return next((node.config.get("pool") for node in graph.nodes if node.id == node_id), None)
