"""Rows of datasets, from edges and from files."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradingflow.core.errors import InvalidInput
from tradingflow.py_worker.kit.rows import (
    MAX_COLUMNS,
    MAX_ROWS,
    FileFormat,
    Row,
    parse_file,
    rows_of,
    write_file,
    write_pieces,
)


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        ({"a": 1}, [{"a": 1}]),
        ([{"a": 1}, {"b": 2}], [{"a": 1}, {"b": 2}]),
        ([1, "x"], [{"value": 1}, {"value": "x"}]),
        ("text", [{"value": "text"}]),
        (None, [{"value": None}]),
        ([], []),
        ({"header": ["t", "p"], "kline_data": [[1, 2.5], [2, 3.5]]}, [{"t": 1, "p": 2.5}, {"t": 2, "p": 3.5}]),
    ],
)  # fmt: skip
def test_what_an_edge_brings_becomes_rows(value: Any, rows: list[dict[str, Any]]) -> None:
    assert rows_of(value) == rows


@pytest.mark.parametrize(
    "value",
    [
        {"header": "t", "kline_data": [[1]]},
        {"header": ["t"], "kline_data": [[1, 2]]},
        {"header": ["t"], "kline_data": [5]},
        [{}] * (MAX_ROWS + 1),
        {str(n): n for n in range(MAX_COLUMNS + 1)},
        {"": 1},
        {"x" * 101: 1},
    ],
)
def test_what_no_dataset_can_hold_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput):
        rows_of(value)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"\xff\xfe\x00", "csv"), (b"a,a\n1,2", "csv"), (b"a,\n1,2", "csv"), (b"a\n1,2", "csv"), (b'a\n"1', "csv"),
        (b"{}", "json"), (b"[1]", "json"), (b"[NaN]", "json"), (b'[{"a": NaN}]', "json"), (b"[" * 50_000, "json"),
        (b"", "json"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_refused(body: bytes, kind: Any) -> None:
    with pytest.raises(InvalidInput):
        parse_file(body, kind)


def test_csv_cells_stay_text_and_empty_ones_are_null() -> None:
    body = "\ufeffid,price\r\n007,1.50\r\n,\r\n\r\n".encode()
    assert parse_file(body, "csv") == [{"id": "007", "price": "1.50"}, {"id": None, "price": None}]
    assert parse_file(b"", "csv") == []


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-2+3", "@SUM(A1)", "\tx"])
def test_a_spreadsheet_computes_no_text_of_a_csv_file(text: str) -> None:
    written = write_file([{"a": text}], "csv").decode()
    assert written.splitlines()[1].lstrip('"').startswith("'")


@pytest.mark.parametrize("number", ["-5", "+1.5", -7, -0.5])
def test_a_signed_number_is_left_alone(number: Any) -> None:
    assert write_file([{"a": number}], "csv") == f"a\r\n{number}\r\n".encode()


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
TAME = CELLS.filter(lambda text: text != "" and text[0] not in "=+-@\t\r" and "\r" not in text)


@given(st.lists(st.dictionaries(TAME, TAME, min_size=1, max_size=4), max_size=5))
def test_what_is_written_as_csv_is_read_back(rows: list[dict[str, str]]) -> None:
    columns = {name for row in rows for name in row}
    expected = [{name: row.get(name) for name in columns} for row in rows]
    assert parse_file(write_file(rows, "csv"), "csv") == expected
    assert parse_file(write_file(rows, "json"), "json") == rows


LINES = "".join(f"{n},{'x' * 100}\r\n" for n in range(5_000))


@pytest.mark.parametrize("file_format", ["csv", "json"])
def test_a_file_is_made_piece_by_piece_and_is_the_same_file(file_format: FileFormat) -> None:
    read = 0

    def rows() -> Iterator[Row]:
        nonlocal read
        for read in range(5_000):
            yield {"n": read, "text": "x" * 100}

    pieces = write_pieces(rows, file_format)
    first = next(pieces)
    assert read < 1_000
    rest = list(pieces)
    assert all(len(piece) < 65_000 for piece in (first, *rest))
    whole = "n,text\r\n" + LINES if file_format == "csv" else json.dumps(list(rows()))
    assert b"".join((first, *rest)) == whole.encode() == write_file(list(rows()), file_format)


@pytest.mark.parametrize(("file_format", "whole"), [("csv", b"\r\n"), ("json", b"[]")])
def test_a_file_of_no_rows(file_format: FileFormat, whole: bytes) -> None:
    assert write_file([], file_format) == whole
