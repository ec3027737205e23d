"""`tradingflow backtest …`: run a flow over history from the command line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from tradingflow.py_worker.backtest.context import Outside
from tradingflow.py_worker.backtest.driver import Progress
from tradingflow.py_worker.backtest.requests import Asked, asked_for


class RunUnlessNamed(TyperGroup):
    """`backtest flow.json …` is `backtest run flow.json …`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            args = ["run", *args]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=RunUnlessNamed,
    no_args_is_help=True,
    help="Run a flow over history: `backtest flow.json --data candles.csv`; `backtest run --help` lists the options.",
)

Flow = Annotated[Path, typer.Argument(help="The flow: what POST /flows/execute takes, or its bare graph.")]
Data = Annotated[
    list[str],
    typer.Option("--data", help="Candles: file.csv, SYMBOL=file.csv or SYMBOL:5m=file.parquet; once for each series."),
]
Spec = Annotated[Path | None, typer.Option("--spec", help="JSON file with the fields of POST /backtests.")]
Start = Annotated[str | None, typer.Option("--from", help="First cycle, e.g. 2026-01-31T00:00:00Z.")]
End = Annotated[str | None, typer.Option("--to", help="No cycle after this time.")]
Every = Annotated[
    str | None, typer.Option("--every", help="Cycle interval instead of the flow's; `candle`: when each candle closes.")
]
Cash = Annotated[str | None, typer.Option("--cash", help="Whole quote tokens to begin with (10000).")]
FillPrice = Annotated[
    Literal["next_open", "close"] | None, typer.Option("--fill", help="Price of a trade: next_open (default) or close.")
]
FeeBps = Annotated[str | None, typer.Option("--fee-bps", help="Fee of a trade in basis points (30).")]
SlippageBps = Annotated[str | None, typer.Option("--slippage-bps", help="How much worse than the quote fills are (0).")]
VolumeLimit = Annotated[
    str | None, typer.Option("--volume-limit", help="Refuse trades above this share of a candle's volume, e.g. 0.1.")
]
GasCost = Annotated[str | None, typer.Option("--gas-cost", help="Whole quote tokens a trade costs in gas (0).")]
AcceptMissing = Annotated[
    list[str] | None, typer.Option("--sandbox-accept-missing", help="Part of the code sandbox's wall to live without.")
]


@app.command()
def run(
    flow: Flow,
    data: Data,
    spec: Spec = None,
    start: Start = None,
    end: End = None,
    every: Every = None,
    cash: Cash = None,
    fill: FillPrice = None,
    fee_bps: FeeBps = None,
    slippage_bps: SlippageBps = None,
    volume_limit: VolumeLimit = None,
    gas_cost: GasCost = None,
    accept_missing: AcceptMissing = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for result.json, trades.csv, equity.csv and report.html.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Run a flow over candles, show its figures, and write its result and report."""
    from tradingflow.py_worker.backtest.console import show_result, write_result
    from tradingflow.py_worker.backtest.run import backtest

    fills = (fill, fee_bps, slippage_bps, volume_limit, gas_cost)
    asked = asked_for(flow, data, spec, spec_options(start, end, every, cash, fills))
    with outside_of(asked, accept_missing or ()) as outside, progress_bar("backtest") as progress:
        result = backtest(asked.flow, asked.series, asked.spec, outside=outside, progress=progress)
    if as_json:
        typer.echo(result.to_json().decode())
    else:
        show_result(result)
    if out is not None:
        for path in write_result(result, out):
            typer.echo(f"wrote {path}", err=True)


@app.command()
def check(
    flow: Flow,
    data: Data,
    spec: Spec = None,
    start: Start = None,
    end: End = None,
    every: Every = None,
    points: Annotated[int, typer.Option(min=1, max=200, help="Random times to cut the data at.")] = 6,
    seed: Annotated[int, typer.Option(min=0, help="Chooses the times.")] = 0,
    accept_missing: AcceptMissing = None,
) -> None:
    """Look for decisions that rest on what came later (exit 1), and say how much warm-up the flow needs."""
    from tradingflow.py_worker.backtest.check import check as check_flow

    asked = asked_for(flow, data, spec, {"from": start, "to": end, "cycle_interval": every})
    with outside_of(asked, accept_missing or ()) as outside, progress_bar("check") as progress:
        report = check_flow(
            asked.flow, asked.series, asked.spec, points=points, seed=seed, outside=outside, progress=progress
        )
    for change in report.changes:
        typer.echo(f"look-ahead: {change}")
    verdict = "decisions rest on what came later" if report.looks_ahead else "no decision rests on what came later"
    typer.echo(f"{verdict} (data cut at {len(report.cuts)} times)")
    if report.warm_up is None:
        typer.echo("warm-up: begun without history, the flow had not settled when the candles ended")
    else:
        typer.echo(f"warm-up: begun without history, it decides the same from cycle {report.warm_up} on")
    raise typer.Exit(report.looks_ahead)


@app.command()
def sweep(
    flow: Flow,
    data: Data,
    vary: Annotated[
        list[str], typer.Option("--vary", help="node.field=5,10,20 or node.field=5:50:5; once for each parameter.")
    ],
    spec: Spec = None,
    start: Start = None,
    end: End = None,
    every: Every = None,
    cash: Cash = None,
    fill: FillPrice = None,
    fee_bps: FeeBps = None,
    slippage_bps: SlippageBps = None,
    random: Annotated[int, typer.Option(min=0, help="Take this many combinations by chance instead of all.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Chooses them.")] = 0,
    folds: Annotated[int, typer.Option(min=0, max=50, help="Walk forward in this many steps.")] = 0,
    processes: Annotated[int, typer.Option(min=0, help="Processes to use; 0: one a core.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for sweep.json, sweep.csv, sweep.html.")] = None,
) -> None:
    """Run a flow with many parameters on all cores, and say whether the best is better than chance."""
    from tradingflow.py_worker.backtest import sweep as sweeping
    from tradingflow.py_worker.backtest.sweep_report import show_sweep, write_sweep

    fills = (fill, fee_bps, slippage_bps, None, None)
    asked = asked_for(flow, data, spec, spec_options(start, end, every, cash, fills))
    varied = [sweeping.parse_varied(text) for text in vary]
    settings = sweeping.at_random(varied, random, seed) if random else sweeping.grid(varied)
    setup = sweeping.Setup(asked.graph, asked.flow.flow_id, asked.series, asked.spec)
    with progress_bar("sweep") as tell:
        if folds:
            found = sweeping.walk_forward(setup, settings, folds, processes=processes or None, tell=tell)
        else:
            found = sweeping.sweep(setup, settings, processes=processes or None, tell=tell)
    show_sweep(found)
    if out is not None:
        for path in write_sweep(found, out):
            typer.echo(f"wrote {path}", err=True)


def spec_options(
    start: str | None, end: str | None, every: str | None, cash: str | None, fills: Sequence[str | None]
) -> dict[str, Any]:
    """The options that were given, as fields of a spec."""
    names = ("price", "fee_bps", "slippage_bps", "volume_limit", "gas_cost")
    model = {name: value for name, value in zip(names, fills, strict=True) if value is not None}
    return {"from": start, "to": end, "cycle_interval": every, "cash": cash, "fill_model": model or None}


@contextmanager
def outside_of(asked: Asked, accept_missing: Sequence[str]) -> Iterator[Outside]:
    """The sandbox, where the flow has a code node."""
    if all(node.type != "code_node" for node in asked.flow.graph.nodes):
        yield Outside()
        return
    from tradingflow.py_worker.backtest.code_runner import code_sandbox
    from tradingflow.py_worker.sandbox.runner import SandboxPlan

    with code_sandbox(SandboxPlan(accept_missing=frozenset(accept_missing))) as code:
        yield Outside(code=code)


@contextmanager
def progress_bar(what: str) -> Iterator[Progress | None]:
    """On standard error, and only where somebody looks."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True) if console.is_terminal else nullcontext() as bar:
        if bar is None:
            yield None
            return
        task = bar.add_task(what, total=None)
        yield lambda done, all_: bar.update(task, completed=done, total=all_)
