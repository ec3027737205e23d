"""Candles of Parquet files are those of the same CSV, and what is no candle is said."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from tests.unit.backtest.flows import generated
from tradingflow.core.errors import InvalidInput
from tradingflow.py_worker.backtest.candle_files import read_candles
from tradingflow.py_worker.backtest.candles import NAMES

MADE = generated(50)
PRICES: dict[str, Any] = {name.title(): MADE.columns[name] for name in NAMES}
MS = MADE.open_time
TIMES: dict[str, Any] = {
    "datetime": pa.array(MS, pa.timestamp("ms", tz="UTC")),
    "datetime_ns": pa.array(MS * 1_000_000, pa.timestamp("ns")),
    "seconds": MS // 1000,
    "milliseconds": MS,
    "text": [datetime.fromtimestamp(int(ms) / 1000, UTC).isoformat() for ms in MS],
}


def written(path: Path, columns: dict[str, Any]) -> Path:
    parquet.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("written_as", TIMES)
def test_parquet_and_csv_hold_the_same_candles(tmp_path: Path, written_as: str) -> None:
    found = read_candles(written(tmp_path / "eth.parquet", {"Date": TIMES[written_as], **PRICES}), "ETHBTC")
    with (tmp_path / "eth.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["date", *NAMES])
        writer.writerows(MADE.rows(0, len(MADE)))
    same = read_candles(tmp_path / "eth.csv", "ETHBTC")
    assert found.rows(0, 50) == same.rows(0, 50) == MADE.rows(0, 50)
    assert found.interval_ms == same.interval_ms


def test_volume_may_be_missing(tmp_path: Path) -> None:
    prices = {name: column for name, column in PRICES.items() if name != "Volume"}
    found = read_candles(written(tmp_path / "eth.pq", {"date": MS, **prices}), "ETHBTC")
    assert not found.volume.any()


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"date": MS, **PRICES, "Close": pa.array([*MADE.close[:-1], None])}, "lacks values in its column Close"),
        ({"date": MS, **PRICES, "Close": ["dear"] * 50}, "holds what is no candle"),
        ({"date": ["yesterday"] * 50, **PRICES}, "holds what is no candle"),
        ({"day": MS, **PRICES}, "lacks one of date"),
        ({"date": np.zeros(0), **{name: np.zeros(0) for name in NAMES}}, "two candles at least"),
    ],
)
def test_a_parquet_file_without_candles_is_refused(tmp_path: Path, columns: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        read_candles(written(tmp_path / "bad.parquet", columns), "ETHBTC")


def test_a_file_that_only_claims_to_be_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.parquet"
    path.write_text("date,open,high,low,close\n")
    with pytest.raises(InvalidInput, match="is no Parquet file"):
        read_candles(path, "ETHBTC")
