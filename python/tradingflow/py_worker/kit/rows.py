"""Rows of datasets: from whatever an edge brings, and from and to CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from tradingflow.core.errors import InvalidInput
from tradingflow.py_worker.kit.handles import Json

Row = dict[str, Json]
FileFormat = Literal["csv", "json"]
DATASET_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"
MAX_ROWS = 10_000
# Of a dataset of ours.
MAX_ROWS_STORED = 100_000
MAX_COLUMNS = 100
MAX_COLUMN_CHARS = 100
# A piece of a file ends with the row that makes it this long.
PIECE_CHARS = 64_000
# A spreadsheet computes a cell that begins with one of these; the text may be a stranger's (OWASP: CSV injection).
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def rows_of(value: Json) -> list[Row]:
    """A list of objects as it is, an object as one row, `{header, kline_data}` as a row a candle, anything else as rows
    with the column `value`. Raises InvalidInput for more rows or columns than a dataset may have.
    """
    if isinstance(value, Mapping) and isinstance(value.get("kline_data"), list):
        rows = _from_table(value.get("header"), value["kline_data"])
    elif isinstance(value, Mapping):
        rows = [dict(value)]
    elif isinstance(value, Sequence) and not isinstance(value, str):
        rows = [dict(item) if isinstance(item, Mapping) else {"value": item} for item in value]
    else:
        rows = [{"value": value}]
    return check_rows(rows)


def check_rows(rows: list[Row]) -> list[Row]:
    if len(rows) > MAX_ROWS:
        raise InvalidInput("too_many_rows", f"at most {MAX_ROWS} rows at a time, not {len(rows)}")
    for row in rows:
        if len(row) > MAX_COLUMNS or any(not name or len(name) > MAX_COLUMN_CHARS for name in row):
            raise InvalidInput(
                "invalid_row",
                f"a row has at most {MAX_COLUMNS} columns, whose names have 1 to {MAX_COLUMN_CHARS} characters",
            )
    return rows


def _from_table(header: Json, lines: Sequence[Json]) -> list[Row]:
    if not isinstance(header, list) or not all(isinstance(line, list) and len(line) <= len(header) for line in lines):
        raise InvalidInput("invalid_rows", "kline_data is a list of lists, none longer than the list `header`")
    return [dict(zip(map(str, header), line, strict=False)) for line in lines]


def parse_file(body: bytes, file_format: FileFormat) -> list[Row]:
    """Raises InvalidInput for what is no CSV with a header, or no JSON list of objects. CSV cells stay text."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput("invalid_file", "the file is not UTF-8") from error
    return _parse_json(text) if file_format == "json" else _parse_csv(text)


def _parse_json(text: str) -> list[Row]:
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("invalid_file", "the file is no JSON; needed: a list of objects") from error
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise InvalidInput("invalid_file", "the JSON is not a list of objects")
    return check_rows(value)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _parse_csv(text: str) -> list[Row]:
    try:
        lines = [line for line in csv.reader(io.StringIO(text), strict=True) if line]
    except csv.Error as error:
        raise InvalidInput("invalid_file", f"the file is no CSV: {error}") from error
    return table_rows(lines)


def table_rows(lines: Sequence[Sequence[Json]]) -> list[Row]:
    """Rows of a table whose first line names the columns; an empty cell is null."""
    if not lines:
        return []
    header = [str(name) for name in lines[0]]
    if len(set(header)) < len(header) or not all(header):
        raise InvalidInput("invalid_file", "the first line names the columns, each once and none empty")
    if any(len(line) > len(header) for line in lines):
        raise InvalidInput("invalid_file", f"a line has more than the {len(header)} cells the first line names")
    return check_rows([dict(zip(header, [_cell_or_none(cell) for cell in line], strict=False)) for line in lines[1:]])


def _cell_or_none(cell: Json) -> Json:
    return None if cell == "" else cell


def columns_in(rows: Iterable[Row]) -> list[str]:
    """Names of all columns, in the order they first appear."""
    return list(dict.fromkeys(name for row in rows for name in row))


def write_file(rows: Sequence[Row], file_format: FileFormat) -> bytes:
    """CSV as RFC 4180, lists and objects in cells as JSON; or a JSON list of objects."""
    return b"".join(write_pieces(lambda: rows, file_format))


def write_pieces(rows: Callable[[], Iterable[Row]], file_format: FileFormat) -> Iterator[bytes]:
    """What `write_file` writes, little by little. `rows` gives them anew at each call: CSV needs all columns first."""
    out = io.StringIO()
    for _ in _json_rows(rows(), out) if file_format == "json" else _csv_rows(columns_in(rows()), rows(), out):
        if out.tell() >= PIECE_CHARS:
            yield out.getvalue().encode()
            out.seek(0)
            out.truncate()
    yield out.getvalue().encode()


def _json_rows(rows: Iterable[Row], out: io.StringIO) -> Iterator[None]:
    """Yields after each row."""
    out.write("[")
    for number, row in enumerate(rows):
        out.write((", " if number else "") + json.dumps(row))
        yield
    out.write("]")


def _csv_rows(columns: Sequence[str], rows: Iterable[Row], out: io.StringIO) -> Iterator[None]:
    """Yields after each row."""
    writer = csv.writer(out)
    writer.writerow(map(_safe, columns))
    for row in rows:
        writer.writerow([_safe(cell_text(row.get(name))) for name in columns])
        yield


def cell_text(value: Json) -> str:
    """A value as one cell of a table."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _safe(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA_STARTS) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
