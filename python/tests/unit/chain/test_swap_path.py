import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradingflow.chain.swap_path import SwapPath, decode_path, encode_path
from tradingflow.core.errors import InvalidInput
from tradingflow.core.evm import address_from_bytes

A, B, C = ("0x" + digit * 40 for digit in "123")
tokens = st.binary(min_size=20, max_size=20).map(address_from_bytes)
fees = st.integers(1, 999_999)


def test_the_bytes_are_those_of_the_periphery_library() -> None:
    path = encode_path([A, B, C], [3000, 500])
    assert path.hex() == "11" * 20 + "000bb8" + "22" * 20 + "0001f4" + "33" * 20


@given(st.data(), st.integers(2, 7))
def test_a_v3_path_reads_back(data: st.DataObject, hops: int) -> None:
    path = SwapPath(
        tuple(data.draw(st.lists(tokens, min_size=hops, max_size=hops))),
        tuple(data.draw(st.lists(fees, min_size=hops - 1, max_size=hops - 1))),
    )
    assert decode_path(encode_path(path.tokens, path.fees)) == path


@given(st.lists(tokens, min_size=2, max_size=7))
def test_a_v2_path_reads_back(hops: list[str]) -> None:
    assert decode_path(encode_path(hops)) == SwapPath(tuple(hops), ())


def test_the_way_back_turns_tokens_and_fees_round() -> None:
    assert SwapPath((A, B, C), (3000, 500)).reversed() == SwapPath((C, B, A), (500, 3000))


@pytest.mark.parametrize(
    ("hops", "given_fees"), [([A], []), ([A, B], [3000, 500]), ([A, B], [0]), ([A, B], [1_000_000]), (["0x1", B], [1])]
)
def test_what_no_router_could_read_is_refused(hops: list[str], given_fees: list[int]) -> None:
    with pytest.raises(InvalidInput):
        encode_path(hops, given_fees)


@pytest.mark.parametrize("length", [0, 19, 20, 21, 42, 44, 65])
def test_bytes_of_a_wrong_length_are_refused(length: int) -> None:
    with pytest.raises(InvalidInput, match="invalid_path"):
        decode_path(b"\x01" * length)
