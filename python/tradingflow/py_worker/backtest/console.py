"""A result on the terminal and in files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tradingflow.py_worker.backtest.report import duration, html_report, number, percent, ratio
from tradingflow.py_worker.backtest.result import BacktestResult, Figures, told


def show_result(result: BacktestResult) -> None:
    """Figures and warnings as a person reads them."""
    console = Console()
    times = result.timeline.times
    span = f"{told(int(times[0]))} to {told(int(times[-1]))}"
    found = Table(title=Text(f"{result.flow_id}: {len(times):,} cycles from {span}"), show_header=False)
    for name, value in figure_rows(result.figures):
        found.add_row(Text(name), Text(value, justify="right"))
    console.print(found)
    for warning in result.warnings:
        console.print(Text(f"note: {warning}", style="yellow"))
    console.print(Text(f"sha256 {result.sha256()}", style="dim"))


def figure_rows(f: Figures) -> Iterable[tuple[str, str]]:
    yield "return", percent(f.return_)
    yield "buy and hold", percent(f.buy_and_hold_return)
    yield "final equity", f"{number(f.final_equity)} (from {number(f.initial_equity)})"
    yield "CAGR", percent(f.cagr)
    yield "volatility a year", percent(f.volatility)
    yield "Sharpe", ratio(f.sharpe)
    yield "Sortino", ratio(f.sortino)
    yield "max drawdown", f"{percent(f.max_drawdown)}, longest {duration(f.max_drawdown_length_s)}"
    yield "trades", f"{f.trades:,} ({f.closed_trades:,} closed)"
    yield "win rate", percent(f.win_rate)
    yield "profit factor", ratio(f.profit_factor)
    yield "exposure", percent(f.exposure)
    yield "turnover", f"{f.turnover:,.1f} times the mean equity"
    yield "fees", number(f.fees)
    yield "gas", number(f.gas)


def write_result(result: BacktestResult, folder: Path) -> list[Path]:
    """result.json, trades.csv, equity.csv and report.html; files of the same name are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "result.json": result.to_json(),
        "trades.csv": result.trades_csv().encode(),
        "equity.csv": result.equity_csv().encode(),
        "report.html": html_report(result).encode(),
    }
    written = []
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        written.append(folder / name)
    return written
