"""From a flow, candles and a spec to a result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from tradingflow.core.errors import InvalidInput
from tradingflow.core.evm import parse_address
from tradingflow.core.money import from_human
from tradingflow.py_worker.backtest.candle_trading import CandleTrading
from tradingflow.py_worker.backtest.candles import Candles, plain_symbol
from tradingflow.py_worker.backtest.context import Outside
from tradingflow.py_worker.backtest.driver import Driver, Progress, TestedFlow
from tradingflow.py_worker.backtest.markets import Market, find_markets
from tradingflow.py_worker.backtest.policy import vault_policy
from tradingflow.py_worker.backtest.pool_candles import pool_candles
from tradingflow.py_worker.backtest.pool_trading import PoolTrading, RecordedPool, pool_markets, require_plain_fills
from tradingflow.py_worker.backtest.result import BacktestResult, compute_figures
from tradingflow.py_worker.backtest.spec import BacktestSpec, FillModel
from tradingflow.py_worker.backtest.tape import Tape, TapeClock
from tradingflow.py_worker.backtest.timeline import Timeline
from tradingflow.py_worker.backtest.times import fire_times
from tradingflow.py_worker.backtest.valuation import Curve, equity_curve
from tradingflow.py_worker.backtest.world import Run, Trading, World
from tradingflow.py_worker.engine.graph import Graph, build_graph
from tradingflow.py_worker.kit import node_types
from tradingflow.py_worker.kit.intervals import interval_name
from tradingflow.py_worker.kit.registry import AnyNode
from tradingflow.py_worker.simulation.vault import SimulatedVault
from tradingflow.py_worker.specs import node_specs

# Where a flow names no vault, its balances are held here.
NO_VAULT = "0x0000000000000000000000000000000000000001"


def flow_under_test(
    flow_json: Any,
    flow_id: str = "flow",
    *,
    flow_pk: UUID | None = None,
    version: int = 1,
    types: Mapping[str, AnyNode] | None = None,
) -> TestedFlow:
    """A flow as a backtest runs it. Raises InvalidFlow naming every node and handle at fault.

    A flow that is not stored gets a key that follows from its name.
    """
    known = node_types() if types is None else types
    graph = build_graph(flow_json, node_specs(known))
    return TestedFlow(graph, known, flow_id, flow_pk or uuid5(NAMESPACE_URL, f"tradingflow:{flow_id}"), version)


def backtest(
    flow: TestedFlow,
    series: Sequence[Candles],
    spec: BacktestSpec,
    *,
    pools: Sequence[RecordedPool] = (),
    outside: Outside | None = None,
    batch: bool = True,
    progress: Progress | None = None,
) -> BacktestResult:
    """Run the flow over the candles, or in recorded pools, where candles are for nodes that ask for them.

    Raises InvalidInput when flow, data and spec do not fit together.
    """
    laid = lay_out(flow.graph, series, pools, spec)
    return backtest_laid(flow, laid, spec, outside=outside, batch=batch, progress=progress)


def backtest_laid(
    flow: TestedFlow,
    laid: Laid,
    spec: BacktestSpec,
    *,
    outside: Outside | None = None,
    batch: bool = True,
    progress: Progress | None = None,
) -> BacktestResult:
    """`backtest` of data that `lay_out` has laid out already."""
    clock = TapeClock(0)
    tape = Tape(laid.series, clock)
    main, markets = tape.finest(laid.markets[0].symbol), laid.markets
    times = fire_times(main, spec.cycle_interval, spec.start, spec.end)
    initial = _initial_balances(spec, markets[0])
    vault = SimulatedVault(_vault_of(flow.graph), markets[0].chain_id, vault_policy(spec.policy, markets), initial)
    world = World(tape, clock, markets, laid.model, vault, Run(flow.flow_pk, flow.version), laid.trading)
    timeline = Driver(flow, world, outside or Outside(), times, batch=batch, progress=progress).run()
    curve = equity_curve(world, initial, times)
    return BacktestResult(
        flow.flow_id,
        flow.version,
        spec.canonical(),
        world,
        curve,
        timeline,
        compute_figures(world, curve),
        list(_warnings(flow, laid.series, world, timeline, curve)),
    )


@dataclass(frozen=True)
class Laid:
    """What the data are for this flow: the markets it trades in, all candles, and how trades fill."""

    markets: tuple[Market, ...]
    series: Sequence[Candles]
    model: FillModel
    trading: Trading


def lay_out(graph: Graph, series: Sequence[Candles], pools: Sequence[RecordedPool], spec: BacktestSpec) -> Laid:
    """Raises InvalidInput when flow, data and spec do not fit together."""
    symbols = list(dict.fromkeys(candles.symbol for candles in series))
    if not pools:
        if not (markets := find_markets(graph, spec.markets, symbols)):
            raise InvalidInput("no_candles", "a backtest needs the candles of one symbol at least")
        return Laid(markets, series, spec.fill_model, CandleTrading())
    model = require_plain_fills(spec.fill_model)
    names = [pool.symbol for pool in pools]
    markets = find_markets(graph, pool_markets(pools, spec.markets), [*symbols, *names])
    if twice := {plain_symbol(name) for name in names} & {plain_symbol(symbol) for symbol in symbols}:
        raise InvalidInput("series_twice", f"{twice.pop()} is the symbol of a pool and of candles; rename one")
    made = [pool_candles(pool, market) for pool, market in zip(pools, markets, strict=True)]
    return Laid(markets, [*series, *made], model, PoolTrading(pools))


def _vault_of(graph: Graph) -> str:
    vaults = {parse_address(node.config["vault"]) for node in graph.nodes if "vault" in node.config}
    if len(vaults) > 1:
        raise InvalidInput("several_vaults", f"a backtest has one vault; the flow names {', '.join(sorted(vaults))}")
    return vaults.pop() if vaults else NO_VAULT


def _initial_balances(spec: BacktestSpec, market: Market) -> dict[str, int]:
    if spec.initial_balances:
        return dict(spec.initial_balances)
    return {market.quote.address: from_human(spec.cash, market.quote.decimals)}


def _warnings(
    flow: TestedFlow, series: Sequence[Candles], world: World, timeline: Timeline, curve: Curve
) -> Iterable[str]:
    for candles in series:
        if candles.gaps:
            yield f"{candles.symbol} {interval_name(candles.interval_ms)} lacks {candles.gaps} candles"
    for token in curve.unpriced:
        yield f"no candles price {token}; it counts as nothing"
    for (node_id, code), count in sorted(timeline.failed.items()):
        yield f"node {node_id} failed {count} times: {code}"
    if world.ledger.refused:
        yield f"{world.ledger.refusals.total()} trades were refused, the first: {world.ledger.refused[0].detail}"
    asked = (node.config for node in flow.graph.nodes if node.type == "binance_price_node")
    if any(not config.get("closed_candles_only") for config in asked):
        yield (
            "exchanges also send the candle that is still forming; a backtest knows closed candles only: set "
            "closed_candles_only to trade on what was tested"
        )
    if any(node.policy.retry.max_attempts > 1 for node in flow.graph.nodes):
        yield "retries are not simulated: a node that fails at one moment of history fails there again"
