"""What odd tokens answer, and what we make of it."""

from __future__ import annotations

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st

from tradingflow.account_manager.token.metadata import decode_decimals, decode_text


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (encode(("string",), ("USDC",)), "USDC"),
        (b"MKR".ljust(32, b"\0"), "MKR"),
        (b"", None),
        (encode(("string",), ("",)), None),
        (b"\0" * 32, None),
        (encode(("string",), ("A\0B\u202eC\n",)), "ABC"),
        (encode(("string",), ("x" * 500,)), "x" * 32),
        (b"\xff" * 96, None),
        (b"\xff" * 64, None),
        ((32).to_bytes(32) + (2**255).to_bytes(32), None),
        ((2**255).to_bytes(32) + b"\0" * 32, None),
        (b"\0" * 100_000, None),
    ],
)
def test_symbols_of_every_kind_are_read_or_are_null(answer: bytes, text: str | None) -> None:
    assert decode_text(answer, 32) == text


@pytest.mark.parametrize(
    ("answer", "decimals"),
    [
        ((18).to_bytes(32), 18),
        ((0).to_bytes(32), 0),
        ((36).to_bytes(32), 36),
        ((255).to_bytes(32), 255),
        ((256).to_bytes(32), None),
        (b"\xff" * 32, None),
        (b"", None),
        (b"\x12", None),
        ((18).to_bytes(32) * 2, None),
    ],
)
def test_decimals_are_exact_or_null_and_never_guessed(answer: bytes, decimals: int | None) -> None:
    assert decode_decimals(answer) == decimals


@given(st.binary(max_size=300))
def test_no_answer_breaks_the_reader_and_every_text_can_be_stored(answer: bytes) -> None:
    text = decode_text(answer, 32)
    assert text is None or (text.isprintable() and 1 <= len(text) <= 32)
