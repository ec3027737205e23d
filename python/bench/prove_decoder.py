"""`make prove-decoder`: the event decoder against eth-abi, log by log, on random ABIs and random, often malformed data.

Both must give the same values, or both refuse. By environment: LOGS (1,000,000), SEED, LOGS_PER_ABI (200).
"""

import os
import random
import sys
from collections.abc import Callable
from typing import Any

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError

from bench.figure import Figures, progress
from tradingflow.chain.decoder import WORD, EventDecoder, EventSpec, Param, Undecodable
from tradingflow.core.evm import parse_address

LOGS = int(os.environ.get("LOGS", "1000000"))
LOGS_PER_ABI = int(os.environ.get("LOGS_PER_ABI", "200"))
SEED = int(os.environ.get("SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
PROGRESS_EVERY = 100_000
SIZES = range(8, 257, 8)
STATIC = ["address", "bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in SIZES),
          *(f"bytes{size}" for size in range(1, 33))]  # fmt: skip
DYNAMIC = ["string", "bytes", "uint256[]", "address[]", "bytes32[2]", "int24[][]", "(address,uint96)", "bool[3]"]
Values = list[Any] | None


class Draw:
    """Random ABIs and logs; `randomness` makes a run repeatable."""

    def __init__(self, seed: int) -> None:
        self.randomness = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._words: list[Callable[[], bytes]] = [
            lambda: self.randomness.randbytes(WORD),
            lambda: self.randomness.randrange(2**32).to_bytes(WORD),
            lambda: (-self.randomness.randrange(1, 2**32) % 2**256).to_bytes(WORD),
            lambda: self.randomness.randbytes(self.randomness.randrange(1, WORD)).ljust(WORD, b"\0"),
            lambda: self.randomness.randbytes(20).rjust(WORD, b"\0"),
            lambda: (WORD * self.randomness.randrange(8)).to_bytes(WORD),
        ]

    def types(self) -> tuple[list[str], int]:
        """Types of the arguments, and how many of the first are indexed (those are words)."""
        indexed = self.randomness.randrange(4)
        pool = STATIC if self.randomness.random() < 0.6 else STATIC + DYNAMIC * 8
        plain = self.randomness.choices(pool, k=self.randomness.randrange(0 if indexed else 1, 5))
        return self.randomness.choices(STATIC, k=indexed) + plain, indexed

    def word(self) -> bytes:
        return self.randomness.choice(self._words)()

    def topic(self, type_: str) -> bytes:
        """A topic of this type, and now and then any word at all."""
        return self.word() if self.randomness.random() < 0.1 else encode([type_], [self.value(type_)])

    def value(self, type_: str) -> Any:
        """A value that eth-abi can encode as this type."""
        if type_.startswith("("):
            return tuple(self.value(part) for part in type_[1:-1].split(","))
        if type_.endswith("]"):
            count = type_[type_.rindex("[") + 1 : -1]
            length = int(count) if count else self.randomness.randrange(4)
            return [self.value(type_[: type_.rindex("[")]) for _ in range(length)]
        return self._scalar(type_)

    def _scalar(self, type_: str) -> Any:
        if type_ == "string":
            return "".join(self.randomness.choices("aé漢🙂 ", k=self.randomness.randrange(40)))
        if type_ == "bool":
            return self.randomness.random() < 0.5
        if type_ == "address":
            return "0x" + self.randomness.randbytes(20).hex()
        if type_.startswith("bytes"):
            return self.randomness.randbytes(int(type_[5:] or self.randomness.randrange(70)))
        bits = int(type_.lstrip("uint"))
        return self.randomness.getrandbits(bits) - (0 if type_[0] == "u" else 1 << bits - 1)

    def data(self, types: list[str]) -> bytes:
        """An encoding of these types: as it should be, cut, spoilt in a byte, longer, or any words at all."""
        draw = self.randomness.random()
        if draw < 0.35:
            return b"".join(self.word() for _ in range(self.randomness.randrange(len(types) + 4)))
        raw = bytearray(encode(types, [self.value(type_) for type_ in types]))
        if raw and draw < 0.5:
            raw[self.randomness.randrange(len(raw))] = self.randomness.randrange(256)
        elif draw < 0.6:
            del raw[self.randomness.randrange(len(raw) + 1) :]
        elif draw < 0.7:
            raw += self.randomness.randbytes(self.randomness.randrange(40))
        return bytes(raw)


def as_json(type_: str, value: Any) -> Any:
    """What we say a value of eth-abi is in JSON."""
    if type_.startswith("("):
        parts = zip(type_[1:-1].split(","), value, strict=True)
        return {f"arg{place}": as_json(part, item) for place, (part, item) in enumerate(parts)}
    if type_.endswith("]"):
        return [as_json(type_[: type_.rindex("[")], item) for item in value]
    if type_ == "address":
        return parse_address(value)
    if type_.startswith("bytes"):
        return "0x" + value.hex()
    if type_ in {"bool", "string"}:
        return value
    return value if int(type_.lstrip("uint")) <= 48 else str(value)


def theirs(types: list[str], indexed: int, topics: list[bytes], data: bytes) -> Values:
    try:
        values = [decode([type_], topic)[0] for type_, topic in zip(types, topics, strict=False)]
        values += decode(types[indexed:], data) if types[indexed:] else ()
    except (DecodingError, UnicodeDecodeError, OverflowError):
        return None
    found = [as_json(type_, value) for type_, value in zip(types, values, strict=True)]
    # JSONB holds no U+0000, so such a string is kept raw.
    return None if any("\0" in text for text in found if isinstance(text, str)) else found


def ours(decoder: EventDecoder, topics: list[bytes], data: bytes) -> Values:
    try:
        return list(decoder.decode([bytes(WORD), *topics], data).values())
    except Undecodable:
        return None


def parameter(place: int, type_: str, indexed: int) -> Param:
    if type_.startswith("("):
        components = tuple(Param("", part) for part in type_[1:-1].split(","))
        return Param(f"p{place}", "tuple", components=components)
    return Param(f"p{place}", type_, place < indexed)


def main() -> int:
    figures, draw = Figures(), Draw(SEED)
    progress(f"seed {SEED}")
    compared = decoded = differing = 0
    while compared < LOGS:
        types, indexed = draw.types()
        decoder = EventDecoder(EventSpec("E", tuple(parameter(at, type_, indexed) for at, type_ in enumerate(types))))
        for _ in range(min(LOGS_PER_ABI, LOGS - compared)):
            topics, data = [draw.topic(type_) for type_ in types[:indexed]], draw.data(types[indexed:])
            want, got = theirs(types, indexed, topics, data), ours(decoder, topics, data)
            compared += 1
            decoded += want is not None
            if want != got:
                differing += 1
                progress(f"{types} ({indexed} indexed): {topics} {data.hex()}\n  eth-abi {want}\n  ours {got}")
        if compared % PROGRESS_EVERY == 0:
            progress(f"{compared} of {LOGS} logs, {decoded} decoded")
    figures.show("decoder_logs_differing_from_eth_abi", differing, "logs", target="== 0", ok=differing == 0,
                 compared=compared, decoded=decoded, refused_by_both=compared - decoded, seed=SEED)  # fmt: skip
    return figures.exit_code


if __name__ == "__main__":
    sys.exit(main())
