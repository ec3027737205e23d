"""A sweep as a table on the terminal, and as CSV, JSON and a heat map in files."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tradingflow.py_worker.backtest.page import SWEEP_PAGE, table
from tradingflow.py_worker.backtest.report import embedded, percent, plotly_js, ratio
from tradingflow.py_worker.backtest.sweep import Sweep, Trial

SHOWN = 15
COLUMNS = ("return", "sharpe", "max_drawdown", "trades", "win_rate", "profit_factor", "exposure", "fees")


def show_sweep(found: Sweep) -> None:
    console = Console()
    paths = [path for path, _ in found.trials[0].settings]
    shown = Table(title=f"The best {min(SHOWN, len(found.trials))} of {len(found.trials):,} runs by Sharpe ratio")
    for title in (*paths, "return", "Sharpe", "max drawdown", "trades"):
        shown.add_column(Text(title))
    for trial in ranked(found)[:SHOWN]:
        shown.add_row(*map(Text, _cells(trial)))
    console.print(shown)
    for fold in found.forward:
        chosen = ", ".join(f"{path} {value}" for path, value in fold.settings.items())
        seen, unseen = percent(fold.train_return), percent(fold.test_return)
        console.print(
            Text(f"walk forward from {fold.test_from:%Y-%m-%d %H:%M}: {chosen}: {seen} seen, {unseen} unseen")
        )
    failed = [trial for trial in found.trials if trial.error]
    if failed:
        console.print(Text(f"{len(failed)} runs could not be made, the first: {failed[0].error}", style="yellow"))
    console.print(Text(found.verdict, style="bold"))


def ranked(found: Sweep) -> list[Trial]:
    """The runs that could be made, best Sharpe ratio first."""
    made = [trial for trial in found.trials if trial.moments is not None]
    return sorted(made, key=lambda trial: -trial.moments.sharpe if trial.moments else 0.0)


def write_sweep(found: Sweep, folder: Path) -> list[Path]:
    """sweep.json, sweep.csv and sweep.html; files of the same name are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS
    contents = {
        "sweep.json": orjson.dumps(found.as_json(), option=options),
        "sweep.csv": sweep_csv(found).encode(),
        "sweep.html": sweep_html(found).encode(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in contents]


def sweep_csv(found: Sweep) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*(path for path, _ in found.trials[0].settings), *COLUMNS, "error"])
    for trial in found.trials:
        figures = trial.figures.as_json() if trial.figures else {}
        writer.writerow(
            [*(value for _, value in trial.settings), *(figures.get(c) for c in COLUMNS), trial.error or ""]
        )
    return text.getvalue()


def sweep_html(found: Sweep) -> str:
    paths = [path for path, _ in found.trials[0].settings]
    return SWEEP_PAGE.format(
        verdict=html.escape(found.verdict),
        trials=table((*paths, "return", "Sharpe", "max drawdown", "trades"), [_cells(t) for t in ranked(found)[:200]]),
        figures=embedded(_chart(found, paths)),
        plotly=plotly_js(),
    )


def _chart(found: Sweep, paths: Sequence[str]) -> dict[str, Any]:
    """Over two parameters a heat map of the best Sharpe ratio, over one a line."""
    best: dict[tuple[Any, ...], float] = {}
    for trial in ranked(found):
        key = tuple(value for _, value in trial.settings)[:2]
        best.setdefault(key, trial.figures.sharpe or 0.0 if trial.figures else 0.0)
    across = sorted({key[0] for key in best}, key=str if _mixed(best) else None)
    if len(paths) == 1:
        points = [best.get((value,)) for value in across]
        return {"data": [{"type": "scatter", "x": across, "y": points}], "x": paths[0], "y": "Sharpe"}
    down = sorted({key[1] for key in best}, key=str if _mixed(best) else None)
    cells = [[best.get((x, y)) for x in across] for y in down]
    heat = {"type": "heatmap", "x": across, "y": down, "z": cells, "colorscale": "RdBu", "zmid": 0}
    return {"data": [heat], "x": paths[0], "y": paths[1]}


def _mixed(best: dict[tuple[Any, ...], float]) -> bool:
    return any(isinstance(value, str) for key in best for value in key)


def _cells(trial: Trial) -> list[str]:
    figures = trial.figures
    values = [f"{value:g}" if isinstance(value, float) else str(value) for _, value in trial.settings]
    if figures is None:
        return [*values, "", "", "", ""]
    return [
        *values,
        percent(figures.return_),
        ratio(figures.sharpe),
        percent(figures.max_drawdown),
        str(figures.trades),
    ]
