"""The event decoder against eth-abi, which decides what is right; and what it makes of what is not."""

from __future__ import annotations

from typing import Any

import pytest
from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from hypothesis import given, settings
from hypothesis import strategies as st

from tradingflow.chain.decoder import EventDecoder, EventSpec, Param, Undecodable, event_from_abi, event_from_text
from tradingflow.chain.registry import AbiRegistry, built_in_events
from tradingflow.core.errors import InvalidInput
from tradingflow.core.evm import keccak, parse_address

SIZES = range(8, 257, 8)
STATIC_TYPES = ["address", "bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in SIZES),
                *(f"bytes{size}" for size in range(1, 33))]  # fmt: skip
DYNAMIC_TYPES = ["string", "bytes", "uint256[]", "address[]", "bytes32[2]", "int24[][]"]
# A word near the borders of every type, next to any word at all.
WORDS = st.one_of(
    st.binary(min_size=32, max_size=32),
    st.integers(0, 2**32).map(lambda number: number.to_bytes(32)),
    st.integers(1, 2**32).map(lambda number: (-number % 2**256).to_bytes(32)),
    st.binary(min_size=1, max_size=31).map(lambda raw: raw.ljust(32, b"\0")),
    st.binary(min_size=20, max_size=20).map(lambda raw: raw.rjust(32, b"\0")),
)


def as_json(type_: str, value: Any) -> Any:
    """What we say a value of eth-abi is in JSON."""
    if type_.endswith("]"):
        return [as_json(type_[: type_.rindex("[")], item) for item in value]
    if type_ == "address":
        return parse_address(value)
    if type_.startswith("bytes"):
        return "0x" + value.hex()
    if type_ in {"bool", "string"}:
        return value
    return value if int(type_.lstrip("uint")) <= 48 else str(value)


def expected(types: list[str], data: bytes) -> list[Any] | None:
    """eth-abi's answer as JSON, None where it refuses."""
    try:
        values = decode(types, data)
    except (DecodingError, UnicodeDecodeError, OverflowError):
        return None
    return [as_json(type_, value) for type_, value in zip(types, values, strict=True)]


def ours(types: list[str], indexed: int, topics: list[bytes], data: bytes) -> list[Any] | None:
    params = tuple(Param(f"p{place}", type_, place < indexed) for place, type_ in enumerate(types))
    decoder = EventDecoder(EventSpec("Event", params))
    try:
        return list(decoder.decode([b"\0" * 32, *topics], data).values())
    except Undecodable:
        return None


@settings(max_examples=1500)
@given(
    st.lists(st.sampled_from(STATIC_TYPES), min_size=1, max_size=6),
    st.integers(0, 3),
    st.lists(WORDS, min_size=6, max_size=6),
    st.binary(max_size=40),
)
def test_static_events_decode_as_eth_abi_does(types: list[str], indexed: int, words: list[bytes], tail: bytes) -> None:
    indexed = min(indexed, len(types))
    topics, body = words[:indexed], b"".join(words[indexed : len(types)])
    data = (body + tail)[: max(len(body) - 1, 0)] if len(tail) % 5 == 4 else body + tail
    parts = [expected([type_], topic) for type_, topic in zip(types, topics, strict=False)]
    rest = expected(types[indexed:], data) if indexed < len(types) else []
    whole = None if rest is None or None in parts else [value for part in parts for value in part or ()] + rest
    assert ours(types, indexed, topics, data) == whole


@settings(max_examples=500)
@given(st.lists(st.sampled_from(DYNAMIC_TYPES + STATIC_TYPES), min_size=1, max_size=4), st.data())
def test_dynamic_events_decode_as_eth_abi_does(types: list[str], draw: st.DataObject) -> None:
    data = draw.draw(st.lists(st.one_of(WORDS, st.integers(0, 320).map(lambda n: n.to_bytes(32))), max_size=12))
    raw = b"".join(data)
    want = expected(types, raw)
    got = ours(types, 0, [], raw)
    if want is not None and "\x00" in repr(want).encode().decode("unicode_escape"):
        return  # JSONB cannot hold U+0000; test_a_string_with_nul_is_kept_raw
    assert got == want


def test_a_valid_dynamic_event_is_decoded() -> None:
    values = ["naïve", b"\x01\x02", [1, 2**255], [[-5], [], [7, 8]]]
    types = ["string", "bytes", "uint256[]", "int24[][]"]
    assert ours(types, 0, [], encode(types, values)) == ["naïve", "0x0102", ["1", str(2**255)], [[-5], [], [7, 8]]]


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("bytes[]", [b"x" * 5_000] * 60),
        ("string[]", [""] * 5_000),
        ("uint256[][]", [[2**255] * 100] * 100),
        ("uint256[][32]", [[7] * 300] * 32),
        ("int24[][2][]", [[[1], [-2, 3]]] * 500),
        ("bytes", b"\x01" * 300_000),
    ],
)
def test_a_large_event_is_decoded_whole(type_: str, value: Any) -> None:
    data = encode([type_, type_], [value, value])
    assert ours([type_, type_], 0, [], data) == expected([type_, type_], data)


def sharing(type_: str, pointers: int, target: bytes) -> bytes:
    """Data of one argument of this array type whose items are all one and the same."""
    fixed = type_.endswith("1024]")
    head = (32).to_bytes(32) + (b"" if fixed else pointers.to_bytes(32))
    return head + (32 * pointers).to_bytes(32) * pointers + target


TWO_KB = (2_048).to_bytes(32) + b"x" * 2_048
SIXTY_FOUR_WORDS = (64).to_bytes(32) + (7).to_bytes(32) * 64


@pytest.mark.parametrize(
    ("type_", "pointers", "target"),
    [
        ("bytes[]", 200, TWO_KB),
        ("string[]", 200, TWO_KB),
        ("uint256[][]", 200, SIXTY_FOUR_WORDS),
        ("uint256[][1024]", 1_024, SIXTY_FOUR_WORDS),
        ("bytes[1024]", 1_024, TWO_KB),
    ],
)
def test_pointers_that_share_their_target_do_not_swell_a_log(type_: str, pointers: int, target: bytes) -> None:
    data = sharing(type_, pointers, target)
    assert expected([type_], data) is not None, "eth-abi takes it"
    decoder = EventDecoder(EventSpec("E", (Param("a", type_),)))
    with pytest.raises(Undecodable, match="pointers overlap"):
        decoder.decode([decoder.spec.topic0], data)


def test_arguments_that_share_their_target_do_not_swell_a_log() -> None:
    data = (64 * 32).to_bytes(32) * 64 + TWO_KB
    assert expected(["bytes"] * 64, data) is not None
    assert ours(["bytes"] * 64, 0, [], data) is None


def test_a_string_with_nul_is_kept_raw() -> None:
    assert ours(["string"], 0, [], encode(["string"], ["a\0b"])) is None


def test_an_indexed_dynamic_argument_is_its_hash_and_says_so() -> None:
    decoder = EventDecoder(event_from_text("Named(string indexed name, uint8 kind)"))
    digest = keccak(b"somebody")
    args = decoder.decode([decoder.spec.topic0, digest], (7).to_bytes(32))
    assert args == {"name": {"indexed_hash": "0x" + digest.hex()}, "kind": 7}


def test_arguments_come_in_the_order_of_the_abi_also_when_a_later_one_is_indexed() -> None:
    decoder = EventDecoder(event_from_text("Mint(address sender, address indexed owner, uint256)"))
    args = decoder.decode([decoder.spec.topic0, (2).to_bytes(32)], (1).to_bytes(32) + (3).to_bytes(32))
    assert list(args) == ["sender", "owner", "arg2"]


def test_a_struct_is_an_object_and_counts_in_the_signature() -> None:
    spec = event_from_abi(
        {
            "type": "event", "name": "Filled",
            "inputs": [{"name": "order", "type": "tuple[]", "indexed": False, "components": [
                {"name": "maker", "type": "address"}, {"name": "", "type": "string"}]}],
        }
    )  # fmt: skip
    assert spec.signature == "Filled((address,string)[])"
    data = encode(["(address,string)[]"], [[("0x" + "11" * 20, "x")]])
    args = EventDecoder(spec).decode([spec.topic0], data)
    assert args == {"order": [{"maker": "0x" + "11" * 20, "arg1": "x"}]}


def test_an_anonymous_event_is_found_when_no_other_fits() -> None:
    registry = AbiRegistry()
    inputs = [{"name": "sig", "type": "bytes4", "indexed": True}, {"name": "usr", "type": "address", "indexed": True}]
    registry.add("ds_note", [{"type": "event", "name": "LogNote", "anonymous": True, "inputs": inputs}])
    name, args = registry.decode("ds_note", [b"\xaa" * 4 + b"\0" * 28, (9).to_bytes(32)], b"")
    assert (name, args["sig"]) == ("LogNote", "0xaaaaaaaa")


def test_overloaded_names_and_other_indexing_of_one_signature_do_not_collide() -> None:
    registry = AbiRegistry()
    transfer, word = built_in_events()["erc20"][0].topic0, (5).to_bytes(32)
    assert registry.decode("token", [transfer, word, word], word)[1]["value"] == "5"
    assert registry.decode("token", [transfer, word, word, word], b"")[1]["tokenId"] == "5"
    with pytest.raises(Undecodable, match="no event with this topic in erc20 has 4 topics"):
        registry.decode("erc20", [transfer, word, word, word], b"")


@pytest.mark.parametrize(
    "entry",
    [
        {"type": "event", "name": "X"},
        {"type": "event", "name": "bad name", "inputs": []},
        {"type": "event", "name": "X", "inputs": [{"name": "a", "type": "uint257"}]},
        {"type": "event", "name": "X", "inputs": [{"name": "a", "type": "uint256[][][]"}]},
        {"type": "event", "name": "X", "inputs": [{"name": "a", "type": "bool", "indexed": True}] * 4},
        {"type": "event", "name": "X", "inputs": "nothing"},
    ],
)
def test_an_abi_that_is_none_is_refused(entry: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        event_from_abi(entry)


@pytest.mark.parametrize("type_", ["nonsense", "function", "fixed128x18", "real[]", "uint7", "bytes33"])
def test_a_type_no_decoder_reads_is_refused_before_a_log_of_it_comes(type_: str) -> None:
    entry = {"type": "event", "name": "E", "inputs": [{"name": "a", "type": type_}]}
    with pytest.raises(InvalidInput, match="is not an ABI type"):
        event_from_abi(entry)
