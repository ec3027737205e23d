"""Candles from CSV and Parquet files."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from tradingflow.core.errors import InvalidInput, Refused
from tradingflow.py_worker.backtest.candles import NAMES, Candles, Floats, Times

TIME_NAMES = ("date", "time", "timestamp", "datetime", "open_time", "open time")
# Seconds, milliseconds and microseconds of our times differ by a factor of a thousand each.
_SECONDS_BELOW = 10**11
_MILLISECONDS_BELOW = 10**14


def read_candles(path: Path, symbol: str, length_ms: int | None = None) -> Candles:
    """Candles of a file; the interval is the smallest distance of two of them unless given.

    A CSV has a header with a time column (`date`, `timestamp`, `open_time` …: ISO 8601, UTC where no zone is said,
    or Unix seconds, milliseconds or microseconds) and `open, high, low, close`, `volume` if known.
    """
    if not path.is_file():
        raise InvalidInput("no_such_file", f"{path} is not a file")
    if path.suffix.lower() in (".parquet", ".pq"):
        times, columns = _read_parquet(path)
    else:
        times, columns = _read_csv(path)
    return Candles.of(symbol, times, columns, length_ms)


def parse_candles(text: str, name: str, symbol: str, length_ms: int | None = None) -> Candles:
    """Candles of a CSV's text, as `read_candles`; `name` is what errors call it."""
    try:
        times, columns = _parse(csv.reader(text.splitlines()), name)
    except csv.Error as error:
        raise InvalidInput("invalid_candles", f"{name} is no CSV: {error}") from error
    return Candles.of(symbol, times, columns, length_ms)


def _read_csv(path: Path) -> tuple[Times, dict[str, Floats]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _parse(csv.reader(file), path.name)
    except UnicodeDecodeError as error:
        raise InvalidInput("invalid_candles", f"{path.name} is not UTF-8 text") from error


def _parse(lines: Iterator[list[str]], name: str) -> tuple[Times, dict[str, Floats]]:
    header = [title.strip().lower() for title in next(lines, [])]
    time_at, places = _places(header, name)
    times, columns = array("q"), {title: array("d") for title in NAMES}
    read_time: Callable[[str], int] | None = None
    for number, line in enumerate(lines, start=2):
        if not line:
            continue
        try:
            read_time = read_time or _time_reader(line[time_at])
            times.append(read_time(line[time_at]))
            for title, place in places.items():
                columns[title].append(float(line[place]))
        except (ValueError, IndexError, OverflowError) as error:
            raise InvalidInput("invalid_candles", f"line {number} of {name} is no candle: {error}") from error
    if "volume" not in places:
        columns["volume"] = array("d", bytes(8 * len(times)))
    return np.frombuffer(times, np.int64), {title: np.frombuffer(column) for title, column in columns.items()}


def _places(header: Sequence[str], name: str) -> tuple[int, dict[str, int]]:
    time_name = next((title for title in TIME_NAMES if title in header), None)
    missing = [title for title in NAMES[:4] if title not in header]
    if time_name is None or missing:
        lacking = ", ".join(([] if time_name else [f"one of {', '.join(TIME_NAMES)}"]) + missing)
        raise InvalidInput("invalid_candles", f"the header of {name} lacks {lacking}")
    return header.index(time_name), {title: header.index(title) for title in NAMES if title in header}


def _time_reader(sample: str) -> Callable[[str], int]:
    """The way all times of a file are written, judged by the first."""
    if not sample.strip().lstrip("-").replace(".", "", 1).isdigit():
        return _iso_ms
    magnitude = abs(float(sample))
    if magnitude < _SECONDS_BELOW:
        return lambda text: round(float(text) * 1000)
    return (lambda text: int(float(text))) if magnitude < _MILLISECONDS_BELOW else (lambda text: int(text) // 1000)


def _iso_ms(text: str) -> int:
    moment = datetime.fromisoformat(text.strip())
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def _read_parquet(path: Path) -> tuple[Times, dict[str, Floats]]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise Refused(
            "parquet_unavailable", "Parquet needs the package pyarrow (pip install pyarrow), or use CSV"
        ) from error
    try:
        table: Any = parquet.read_table(path)
    except (OSError, ValueError) as error:
        raise InvalidInput("invalid_candles", f"{path.name} is no Parquet file: {error}") from error
    lowered = [name.lower() for name in table.column_names]
    time_at, places = _places(lowered, path.name)
    holes = [table.column_names[place] for place in (time_at, *places.values()) if table.column(place).null_count]
    if holes:
        raise InvalidInput("invalid_candles", f"{path.name} lacks values in its column {holes[0]}")
    try:
        times = _parquet_times(table.column(time_at).to_numpy())
        columns = {title: table.column(place).to_numpy().astype(np.float64) for title, place in places.items()}
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput("invalid_candles", f"{path.name} holds what is no candle: {error}") from error
    columns.setdefault("volume", np.zeros(len(times)))
    return times, columns


def _parquet_times(raw: Any) -> Times:
    if np.issubdtype(raw.dtype, np.datetime64):
        times: Times = raw.astype("datetime64[ms]").astype(np.int64)
        return times
    if not len(raw):
        return np.zeros(0, np.int64)
    reader = _time_reader(str(raw[0]))
    return np.array([reader(str(value)) for value in raw], np.int64)
