"""Many backtests of one flow with other parameters, on all cores, judged against chance."""

from __future__ import annotations

import copy
import itertools
import math
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from tradingflow.core.errors import InvalidInput, TradingFlowError
from tradingflow.py_worker.backtest import metrics
from tradingflow.py_worker.backtest.candles import Candles
from tradingflow.py_worker.backtest.chance import CONFIDENCE, Moments, deflated_sharpe
from tradingflow.py_worker.backtest.result import Figures
from tradingflow.py_worker.backtest.run import backtest, flow_under_test
from tradingflow.py_worker.backtest.spec import BacktestSpec

MAX_RUNS = 10_000
Settings = tuple[tuple[str, Any], ...]
"""(node.field path, value) of every varied parameter."""


@dataclass(frozen=True)
class Varied:
    """A parameter and its values. `path` is the node's id and the field of its config: `fast.params.timeperiod`."""

    path: str
    values: tuple[Any, ...]


def parse_varied(text: str) -> Varied:
    """`node.field=1,2,3`, or `node.field=5:50:5` from, to (included) and step. Raises InvalidInput."""
    path, sign, values = text.partition("=")
    if not sign or "." not in path or not values:
        raise InvalidInput("invalid_vary", f"{text!r}: write node.field=1,2,3 or node.field=5:50:5 (from, to, step)")
    if values.count(":") == 2:
        first, last, step = (_number(part) for part in values.split(":"))
        if step <= 0 or last < first:
            raise InvalidInput("invalid_vary", f"{text!r}: a range rises from its first value by a step above zero")
        count = math.floor((last - first) / step + 1e-9) + 1
        if count > MAX_RUNS:
            raise InvalidInput("too_many_runs", f"a sweep has at most {MAX_RUNS} runs")
        return Varied(path, tuple(first + step * place for place in range(count)))
    return Varied(path, tuple(_value(part) for part in values.split(",")))


def grid(varied: Sequence[Varied]) -> list[Settings]:
    """Every combination. Raises InvalidInput for more than a sweep can have."""
    if math.prod(len(one.values) for one in varied) > MAX_RUNS:
        raise InvalidInput("too_many_runs", f"a sweep has at most {MAX_RUNS} runs; take fewer values, or --random")
    return list(itertools.product(*([(one.path, value) for value in one.values] for one in varied)))


def at_random(varied: Sequence[Varied], runs: int, seed: int) -> list[Settings]:
    """`runs` different combinations as chance picks them; all of them when there are no more."""
    total = math.prod(len(one.values) for one in varied)
    if runs > MAX_RUNS:
        raise InvalidInput("too_many_runs", f"a sweep has at most {MAX_RUNS} runs")
    if total <= runs:
        return grid(varied)
    rng, chosen = np.random.default_rng(seed), dict[Settings, None]()
    while len(chosen) < runs:
        chosen[tuple((one.path, one.values[rng.integers(len(one.values))]) for one in varied)] = None
    return list(chosen)


def with_settings(graph: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """The flow's JSON with other values in its nodes' configs. Raises InvalidInput for a node that is not there."""
    changed: dict[str, Any] = copy.deepcopy(dict(graph))
    for path, value in settings:
        node_id, *fields = path.split(".")
        found = next((node for node in changed["nodes"] if node["id"] == node_id), None)
        if found is None:
            raise InvalidInput("unknown_node", f"{path}: the flow has no node {node_id!r}")
        place = found.setdefault("config", {})
        for field in fields[:-1]:
            place = place.setdefault(field, {})
        place[fields[-1]] = value
    return changed


@dataclass(frozen=True)
class Trial:
    """One run of a sweep. `error` says why it could not be made."""

    settings: Settings
    figures: Figures | None
    moments: Moments | None
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        figures = None if self.figures is None else self.figures.as_json()
        return {"settings": dict(self.settings), "figures": figures, "error": self.error}


@dataclass(frozen=True)
class Sweep:
    """`deflated_sharpe` is the probability that the best is better than the luckiest of as many runs without skill."""

    trials: tuple[Trial, ...]
    best: Trial | None
    deflated_sharpe: float | None
    forward: tuple[Forward, ...] = ()

    @property
    def verdict(self) -> str:
        if self.best is None or self.deflated_sharpe is None:
            return "no run could be made"
        runs, sure = len(self.trials), f"{self.deflated_sharpe:.1%}"
        if self.deflated_sharpe >= CONFIDENCE:
            return f"the best of {runs} runs is better than chance (deflated Sharpe ratio {sure})"
        return (
            f"the best of {runs} runs is NOT better than chance: the deflated Sharpe ratio is {sure}, "
            f"{CONFIDENCE:.0%} is needed"
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "deflated_sharpe": self.deflated_sharpe,
            "best": None if self.best is None else self.best.as_json(),
            "trials": [trial.as_json() for trial in self.trials],
            "walk_forward": [asdict(fold) for fold in self.forward],
        }


@dataclass(frozen=True)
class Forward:
    """One step of a walk forward: chosen on the candles before, measured on those it had not seen."""

    train_from: datetime
    test_from: datetime
    test_to: datetime
    settings: dict[str, Any]
    train_return: float
    test_return: float
    test_sharpe: float | None


@dataclass(frozen=True)
class Setup:
    """What all runs of a sweep share; inherited by the worker processes."""

    graph: Mapping[str, Any]
    flow_id: str
    series: Sequence[Candles]
    spec: BacktestSpec


Tell = Callable[[int, int], None]


def sweep(
    setup: Setup, settings: Sequence[Settings], *, processes: int | None = None, tell: Tell | None = None
) -> Sweep:
    """Run all settings, in their order, and judge the one with the best Sharpe ratio."""
    if not settings:
        raise InvalidInput("invalid_vary", "name at least one parameter to vary")
    with_settings(setup.graph, settings[0])
    trials = tuple(_run_all(setup, [(one, setup.spec) for one in settings], processes, tell))
    return _judged(trials)


def walk_forward(
    setup: Setup, settings: Sequence[Settings], folds: int, *, processes: int | None = None, tell: Tell | None = None
) -> Sweep:
    """The sweep over everything, and `folds` steps that each choose on one part and measure on the next."""
    bounds = _bounds(setup, folds)
    jobs = [(one, setup.spec) for one in settings]
    for start, end in itertools.pairwise(bounds):
        window = setup.spec.model_copy(update={"start": start, "end": end})
        jobs += [(one, window) for one in settings]
    trials = list(_run_all(setup, jobs, processes, tell))
    runs = len(settings)
    parts = [trials[at : at + runs] for at in range(runs, len(trials), runs)]
    found = _judged(tuple(trials[:runs]))
    forward = [_step(bounds[at : at + 3], parts[at], parts[at + 1]) for at in range(folds)]
    return Sweep(found.trials, found.best, found.deflated_sharpe, tuple(step for step in forward if step))


def _judged(trials: tuple[Trial, ...]) -> Sweep:
    best = _best(trials)
    if best is None or best.moments is None:
        return Sweep(trials, None, None)
    sharpes = [trial.moments.sharpe for trial in trials if trial.moments is not None]
    return Sweep(trials, best, deflated_sharpe(best.moments, sharpes))


def _best(trials: Sequence[Trial]) -> Trial | None:
    made = [trial for trial in trials if trial.moments is not None]
    return max(made, key=lambda trial: trial.moments.sharpe if trial.moments else -math.inf, default=None)


def _step(bounds: Sequence[datetime], trained: Sequence[Trial], tested: Sequence[Trial]) -> Forward | None:
    best = _best(trained)
    after = next((trial for trial in tested if best is not None and trial.settings == best.settings), None)
    if best is None or best.figures is None or after is None or after.figures is None:
        return None
    figures = (best.figures.return_, after.figures.return_, after.figures.sharpe)
    return Forward(bounds[0], bounds[1], bounds[2], dict(best.settings), *figures)


def _bounds(setup: Setup, folds: int) -> list[datetime]:
    """Equal parts of the time: one to begin with, and one more for each step."""
    first = setup.spec.start or _moment(min(int(candles.close_time[0]) for candles in setup.series))
    last = setup.spec.end or _moment(max(int(candles.close_time[-1]) for candles in setup.series))
    return [first + (last - first) * part / (folds + 1) for part in range(folds + 2)]


def _moment(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)


# Set before the worker processes fork, so that candles are shared with them and never copied.
_shared: list[Setup] = []


def _run_all(
    setup: Setup, jobs: Sequence[tuple[Settings, BacktestSpec]], processes: int | None, tell: Tell | None
) -> Iterator[Trial]:
    count = min(processes or os.cpu_count() or 1, len(jobs))
    _shared.append(setup)
    try:
        if count == 1:
            yield from _told(map(_run, jobs), len(jobs), tell)
            return
        fork = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(count, mp_context=fork) as pool:
            size = max(1, min(16, len(jobs) // (count * 8)))
            yield from _told(pool.map(_run, jobs, chunksize=size), len(jobs), tell)
    finally:
        _shared.pop()


def _told(trials: Iterator[Trial], total: int, tell: Tell | None) -> Iterator[Trial]:
    for done, trial in enumerate(trials, start=1):
        yield trial
        if tell is not None:
            tell(done, total)


def _run(job: tuple[Settings, BacktestSpec]) -> Trial:
    settings, spec = job
    setup = _shared[-1]
    try:
        flow = flow_under_test(with_settings(setup.graph, settings), setup.flow_id)
        result = backtest(flow, setup.series, spec)
    except TradingFlowError as error:
        return Trial(settings, None, None, f"{error.code}: {error.detail}")
    return Trial(settings, result.figures, Moments.of(metrics.returns(result.curve.equity)))


def _number(text: str) -> int | float:
    found = _value(text)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise InvalidInput("invalid_vary", f"{text!r} is no number")
    return found


def _value(text: str) -> Any:
    for read in (int, float):
        try:
            number = read(text)
        except ValueError:
            continue
        if math.isfinite(number):
            return number
    return text.strip()
