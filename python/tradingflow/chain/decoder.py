"""Event logs to values, by ABI.

An event without dynamic types is decoded by a plan of word readers made once per event; the others go through
eth-abi. Both accept exactly what eth-abi's strict mode accepts, so data that is malformed never yields a value.

What comes out is JSON: integers wider than 48 bits as decimal strings, narrower ones as numbers, addresses in
EIP-55 form, bytes as 0x hex, arrays as lists, structs as objects. An indexed argument of a dynamic type is only on
the chain as its keccak hash, and comes out as `{"indexed_hash": "0x…"}`.

Source: Solidity ABI specification, sections "Events" and "Encoding of Indexed Event Parameters".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from eth_abi.decoding import ContextFramesBytesIO
from eth_abi.exceptions import DecodingError, ParseError
from eth_abi.grammar import parse as parse_type
from eth_abi.registry import registry as abi_types

from tradingflow.core.errors import InvalidInput
from tradingflow.core.evm import address_from_bytes, keccak

WORD = 32
# JSON numbers are exact up to 53 bits in every reader; the widest Solidity integer below that has 48.
WIDEST_NUMBER_BITS = 48
MAX_ARRAY_NESTING = 2
# Of events and arguments, where an ABI is taken in: names are words of routing keys, and keys of every event stored.
MAX_NAME_CHARS = 100
# What pointers lead to may be larger than the data by this much: pointers that share their target let a short log
# stand for many values.
MAX_OVERLAP_BYTES = 4_096

Args = dict[str, Any]
Reader = Callable[[bytes, int], Any]
Converter = Callable[[Any], Any]

_STATIC = re.compile(r"address|bool|u?int\d+|bytes\d+")
_DECODED = re.compile(r"address|bool|string|bytes\d*|u?int\d+")
_TYPE_WORDS = re.compile(r"[A-Za-z_]\w*")
_IDENTIFIER = re.compile(r"[A-Za-z_$][\w$]{0,255}", re.ASCII)
_ZEROS = bytes(WORD)


class Undecodable(Exception):
    """This log is not an encoding of this event; `reason` is a short stable phrase kept beside the raw log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Param:
    """One event argument. `components` are the fields of a struct (type `tuple` with any array suffix)."""

    name: str
    type: str
    indexed: bool = False
    components: tuple[Param, ...] = ()

    @property
    def canonical_type(self) -> str:
        """The type as it counts for the signature: structs spelled out."""
        if not self.type.startswith("tuple"):
            return self.type
        inner = ",".join(part.canonical_type for part in self.components)
        return f"({inner}){self.type.removeprefix('tuple')}"

    @property
    def is_static_word(self) -> bool:
        """Whether it is one 32-byte word, the same in a topic and in the data."""
        return _STATIC.fullmatch(self.type) is not None


@dataclass(frozen=True)
class EventSpec:
    """One event of an ABI. `topic0` is what an ordinary (not anonymous) log of it carries first."""

    name: str
    params: tuple[Param, ...]
    anonymous: bool = False

    @property
    def signature(self) -> str:
        return f"{self.name}({','.join(param.canonical_type for param in self.params)})"

    @property
    def topic0(self) -> bytes:
        return keccak(self.signature.encode())

    @property
    def topic_count(self) -> int:
        return sum(param.indexed for param in self.params) + (not self.anonymous)


class EventDecoder:
    """Decodes the logs of one event: `decoder.decode(topics, data)`."""

    def __init__(self, spec: EventSpec) -> None:
        self.spec = spec
        self.name = spec.name
        self._topic_count = spec.topic_count
        names = _unique_names(spec.params)
        self._order = names
        first_topic = 0 if spec.anonymous else 1
        indexed = [(name, param) for name, param in zip(names, spec.params, strict=True) if param.indexed]
        self._topics = tuple(
            (name, first_topic + place, _topic_reader(param)) for place, (name, param) in enumerate(indexed)
        )
        plain = [(name, param) for name, param in zip(names, spec.params, strict=True) if not param.indexed]
        self._names_in_order = [name for name, _ in indexed] == names[: len(indexed)]
        self._is_static = all(param.is_static_word for _, param in plain)
        self._data_length = WORD * len(plain)
        self._words = (
            tuple((name, WORD * place, word_reader(param.type)) for place, (name, param) in enumerate(plain))
            if self._is_static
            else ()
        )
        self._dynamic = None if self._is_static else _DynamicData(plain)

    def decode(self, topics: Sequence[bytes], data: bytes) -> Args:
        """The arguments by name, in the order of the ABI. Raises Undecodable."""
        if len(topics) != self._topic_count:
            raise Undecodable(f"{self.name} has {self._topic_count} topics, the log has {len(topics)}")
        args = {name: read(topics[place], 0) for name, place, read in self._topics}
        if self._dynamic is not None:
            args |= self._dynamic.decode(data)
        elif len(data) < self._data_length:
            raise Undecodable(f"{self.name} has {self._data_length} bytes of data, the log has {len(data)}")
        else:
            for name, offset, read in self._words:
                args[name] = read(data, offset)
        return args if self._names_in_order else {name: args[name] for name in self._order}


class _MeteredData(ContextFramesBytesIO):
    """Event data that pointers may lead into for so long as they do not share what they point at."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)  # type: ignore[no-untyped-call]
        self._left = len(data) + MAX_OVERLAP_BYTES

    def pop_frame(self) -> None:
        """Leave what a pointer led to. Raises Undecodable when all they led to is larger than the data."""
        self._left -= self.tell() - self._total_offset
        if self._left < 0:
            raise Undecodable("its pointers overlap: the arguments are larger than the data")
        super().pop_frame()  # type: ignore[no-untyped-call]


class _DynamicData:
    """The not indexed arguments of an event that has strings, bytes, arrays or structs among them."""

    def __init__(self, plain: Sequence[tuple[str, Param]]) -> None:
        self._names = [name for name, _ in plain]
        self._decoder = abi_types.get_tuple_decoder(*(param.canonical_type for _, param in plain))
        self._converters = [_converter(param) for _, param in plain]

    def decode(self, data: bytes) -> Args:
        try:
            values = self._decoder(_MeteredData(data))
        except (DecodingError, OverflowError, UnicodeDecodeError) as error:
            raise Undecodable(f"malformed data: {type(error).__name__}") from error
        return {
            name: convert(value) for name, convert, value in zip(self._names, self._converters, values, strict=True)
        }


def _unique_names(params: Sequence[Param]) -> list[str]:
    """Each argument's key: its name, `arg<position>` where it has none or one that is taken."""
    names: list[str] = []
    for place, param in enumerate(params):
        fallback = f"arg{place}"
        names.append(param.name if param.name and param.name not in names else fallback)
    return names


def _topic_reader(param: Param) -> Reader:
    return word_reader(param.type) if param.is_static_word else _read_indexed_hash


def _read_indexed_hash(word: bytes, _: int) -> dict[str, str]:
    return {"indexed_hash": "0x" + word.hex()}


def word_reader(type_: str) -> Reader:
    """A reader of one 32-byte word at an offset, strict about its padding. Raises Undecodable when used."""
    if type_ == "address":
        return _read_address
    if type_ == "bool":
        return _read_bool
    if type_.startswith("bytes"):
        return _bytes_reader(int(type_[5:]))
    bits = int(type_.removeprefix("u").removeprefix("int"))
    return _uint_reader(bits) if type_.startswith("u") else _int_reader(bits)


def _read_address(data: bytes, at: int) -> str:
    return _address_of(data[at : at + WORD])


# Most logs name addresses that were named before; a hit costs a tenth of the reading.
@lru_cache(maxsize=131_072)
def _address_of(word: bytes) -> str:
    if word[:12] != _ZEROS[:12]:
        raise Undecodable("an address is padded with something else than zeros")
    return address_from_bytes(word[12:])


def _read_bool(data: bytes, at: int) -> bool:
    value = int.from_bytes(data[at : at + WORD])
    if value > 1:
        raise Undecodable("a bool is neither 0 nor 1")
    return value == 1


def _bytes_reader(size: int) -> Reader:
    padding = _ZEROS[size:]

    def read(data: bytes, at: int) -> str:
        if data[at + size : at + WORD] != padding:
            raise Undecodable(f"bytes{size} is padded with something else than zeros")
        return "0x" + data[at : at + size].hex()

    return read


def _uint_reader(bits: int) -> Reader:
    if bits == 8 * WORD:
        return lambda data, at: str(int.from_bytes(data[at : at + WORD]))
    present: Converter = int if bits <= WIDEST_NUMBER_BITS else str

    def read(data: bytes, at: int) -> Any:
        value = int.from_bytes(data[at : at + WORD])
        if value >> bits:
            raise Undecodable(f"a uint{bits} is out of range")
        return present(value)

    return read


def _int_reader(bits: int) -> Reader:
    present: Converter = int if bits <= WIDEST_NUMBER_BITS else str
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1

    def read(data: bytes, at: int) -> Any:
        value = int.from_bytes(data[at : at + WORD], signed=True)
        if not low <= value <= high:
            raise Undecodable(f"an int{bits} is out of range")
        return present(value)

    return read


def _converter(param: Param) -> Converter:
    """From eth-abi's Python value to JSON."""
    if param.type.endswith("]"):
        item = _converter(Param(param.name, param.type[: param.type.rindex("[")], components=param.components))
        return lambda values: [item(value) for value in values]
    if param.type == "tuple":
        names = _unique_names(param.components)
        parts = [_converter(part) for part in param.components]
        return lambda values: {n: convert(v) for n, convert, v in zip(names, parts, values, strict=True)}
    return _scalar_converter(param.type)


def _scalar_converter(type_: str) -> Converter:
    if type_ == "address":
        return lambda text: address_from_bytes(bytes.fromhex(text[2:]))
    if type_.startswith("bytes"):
        return lambda raw: "0x" + raw.hex()
    if type_ == "string":
        return _storable_text
    if type_ == "bool":
        return bool
    bits = int(type_.removeprefix("u").removeprefix("int"))
    return int if bits <= WIDEST_NUMBER_BITS else str


def _storable_text(text: str) -> str:
    if "\x00" in text:
        raise Undecodable("a string holds U+0000, which JSONB cannot store")
    return text


def event_from_abi(entry: Mapping[str, Any]) -> EventSpec:
    """One `"type": "event"` entry of a JSON ABI. Raises InvalidInput, naming what is wrong."""
    try:
        params = tuple(_param_from_abi(part) for part in entry["inputs"])
        spec = EventSpec(str(entry["name"]), params, bool(entry.get("anonymous", False)))
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidInput("invalid_abi", "an ABI event has a name and inputs, each with name and type") from error
    return _checked(spec)


def _param_from_abi(part: Mapping[str, Any]) -> Param:
    components = tuple(_param_from_abi(inner) for inner in part.get("components", ()))
    return Param(str(part.get("name", "")), str(part["type"]), bool(part.get("indexed", False)), components)


def _checked(spec: EventSpec) -> EventSpec:
    if not _IDENTIFIER.fullmatch(spec.name):
        raise InvalidInput("invalid_abi", f"{spec.name[:50]!r} is no name of an event")
    if spec.topic_count > 4:
        raise InvalidInput("invalid_abi", f"{spec.signature} has more indexed arguments than a log has topics")
    for param in spec.params:
        try:
            parse_type(param.canonical_type).validate()
        except (ParseError, ValueError) as error:
            raise InvalidInput("invalid_abi", f"{param.type} in event {spec.name} is not an ABI type") from error
        # The grammar lets any word pass, and `fixed`, which no compiler emits.
        if not all(_DECODED.fullmatch(word) for word in _TYPE_WORDS.findall(param.canonical_type)):
            raise InvalidInput("invalid_abi", f"{param.type} in event {spec.name} is not an ABI type we decode")
        if param.canonical_type.count("[]") > MAX_ARRAY_NESTING:
            raise InvalidInput("invalid_abi", f"{spec.name}: arrays may be nested {MAX_ARRAY_NESTING} deep")
    return spec


def check_names(spec: EventSpec) -> None:
    """Raises InvalidInput for an event, or an argument of it, with a longer name than is taken in."""
    named: list[EventSpec | Param] = [spec]
    while named:
        part = named.pop()
        if len(part.name) > MAX_NAME_CHARS:
            raise InvalidInput(
                "invalid_abi", f"{part.name[:50]}… is too long a name; allowed: {MAX_NAME_CHARS} characters"
            )
        named += part.params if isinstance(part, EventSpec) else part.components


_DECLARATION = re.compile(r"(?P<name>\w+)\((?P<params>.*)\)(?P<anonymous> anonymous)?")


def event_from_text(declaration: str) -> EventSpec:
    """An event written as in Solidity, without structs: `Transfer(address indexed from, uint256 value)`."""
    found = _DECLARATION.fullmatch(declaration)
    if found is None:
        raise InvalidInput("invalid_abi", f"{declaration!r} does not declare an event")
    params = tuple(_param_from_text(part.split()) for part in found["params"].split(",") if part.strip())
    return _checked(EventSpec(found["name"], params, found["anonymous"] is not None))


def _param_from_text(words: Sequence[str]) -> Param:
    name = words[-1] if len(words) > 1 and words[-1] != "indexed" else ""
    return Param(name, words[0], "indexed" in words[1:])
