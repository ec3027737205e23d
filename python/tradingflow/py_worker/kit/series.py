"""Price series from whatever reaches an indicator: plain numbers, candle objects, or exchange rows with a header."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tradingflow.core.errors import InvalidInput
from tradingflow.py_worker.kit.handles import Json

Column = NDArray[np.float64]
COLUMNS = ("open", "high", "low", "close", "volume")
MAX_POINTS = 10_000
LONGEST_NUMBER = 120
_PLAIN = frozenset({int, float})
# What nodes that take a series show on their pages.
EXAMPLE_CLOSES = [
    2000.0, 2010.5, 2004.0, 1990.2, 1987.0, 1995.5, 2003.1, 2001.0,
    1999.9, 2010.0, 2021.5, 2017.3, 2009.8, 2015.0, 2030.2, 2028.7,
]  # fmt: skip


def columns_of(series: Json) -> dict[str, Column]:
    """Column name to values, oldest first. A list of numbers is the column `close`.

    Raises InvalidInput for anything else than numbers, candles `{open, high, low, close, volume}`, or
    `{header: [names], kline_data: [rows]}`.
    """
    if isinstance(series, Mapping) and "kline_data" in series:
        return _from_rows(series.get("header"), series["kline_data"])
    if not isinstance(series, Sequence) or isinstance(series, str):
        raise _unreadable("a list of numbers, a list of candles, or {header, kline_data}")
    _check_length(series)
    if series and isinstance(series[0], Mapping):
        present = [name for name in COLUMNS if name in series[0]]
        return {name: _column([_pick(row, name) for row in series]) for name in present}
    return {"close": _column(series)}


def _from_rows(header: Json, rows: Json) -> dict[str, Column]:
    if not isinstance(header, list) or not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise _unreadable("kline_data as a list of rows, and header as the list of their column names")
    _check_length(rows)
    names = {str(name).lower(): index for index, name in enumerate(header)}
    short = next((row for row in rows if len(row) < len(header)), None)
    if short is not None:
        raise _unreadable(f"every row with the {len(header)} columns of the header")
    return {name: _column([row[names[name]] for row in rows]) for name in COLUMNS if name in names}


def _pick(row: Json, name: str) -> Json:
    if not isinstance(row, Mapping) or name not in row:
        raise _unreadable(f"every candle with the field {name!r} the first one has")
    return row[name]


def _column(values: Sequence[Json]) -> Column:
    if set(map(type, values)) <= _PLAIN:
        try:
            return np.array(values, dtype=np.float64)
        except OverflowError as error:
            raise _unreadable("numbers") from error
    return np.array([_number(value) for value in values], dtype=np.float64)


def _number(value: Json) -> float:
    if value is None:
        return float("nan")
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _unreadable("numbers")
    if isinstance(value, str) and len(value) > LONGEST_NUMBER:
        raise _unreadable("numbers")
    try:
        return float(value)
    except (ValueError, OverflowError) as error:
        raise _unreadable("numbers") from error


def _check_length(series: Sequence[Json]) -> None:
    if len(series) > MAX_POINTS:
        raise _unreadable(f"at most {MAX_POINTS} points")


def _unreadable(wanted: str) -> InvalidInput:
    return InvalidInput("invalid_series", f"the series cannot be read; needed: {wanted}")
