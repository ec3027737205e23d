"""Which events a kind of contract has, and which decoder a log of it needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, Literal, get_args

from tradingflow.chain import abi
from tradingflow.chain.decoder import Args, EventDecoder, EventSpec, Undecodable, event_from_abi, event_from_text

# The kind whose events any contract may log; its own kind goes first.
WILDCARD = "*"
# The built-in kinds a user may give a contract. No factories: whoever writes one decides what it announces, and all of
# that would be monitored, past any plan.
UsersKind = Literal["erc20", "erc721", "erc1155", "erc4626", "uniswap_v2_pair", "uniswap_v3_pool"]
# Of the kinds of ABIs that users gave. No dot: kinds are words of routing keys.
USERS_ABI_PREFIX = "abi_"


@cache
def built_in_events() -> Mapping[str, tuple[EventSpec, ...]]:
    """The events shipped in `abi/events.txt`, by kind of contract."""
    kinds: dict[str, list[EventSpec]] = {}
    events: list[EventSpec] = []
    for line in resources.files(abi).joinpath("events.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            events = kinds[line.strip("[]")] = []
        elif line and not line.startswith("#"):
            events.append(event_from_text(line))
    return {kind: tuple(specs) for kind, specs in kinds.items()}


def is_users_kind(kind: str) -> bool:
    """Whether a user may have given a contract this kind."""
    return kind.startswith(USERS_ABI_PREFIX) or kind in get_args(UsersKind)


class ContractAbi:
    """The events of one kind of contract.

    A log is matched by its first topic and its number of topics, so overloaded names and contracts that index other
    arguments of the same event do not collide. What matches no ordinary event is tried as the anonymous events.
    """

    def __init__(self, kind: str, events: Iterable[EventSpec]) -> None:
        self.kind = kind
        self._decoders: dict[tuple[bytes, int], list[EventDecoder]] = {}
        self._anonymous: list[EventDecoder] = []
        for spec in events:
            decoder = EventDecoder(spec)
            if spec.anonymous:
                self._anonymous.append(decoder)
            else:
                self._decoders.setdefault((spec.topic0, spec.topic_count), []).append(decoder)
        self._known_topics = frozenset(topic0 for topic0, _ in self._decoders)

    @property
    def topics(self) -> frozenset[bytes]:
        """The first topics of its ordinary events."""
        return self._known_topics

    def topics_of(self, name: str) -> list[bytes]:
        """The first topics of the ordinary events of this name."""
        return [topic0 for (topic0, _), found in self._decoders.items() if any(d.name == name for d in found)]

    def decode(self, topics: Sequence[bytes], data: bytes) -> tuple[str, Args]:
        """(event name, arguments). Raises Undecodable with the reason."""
        candidates = self._decoders.get((topics[0], len(topics))) if topics else None
        if candidates is not None and len(candidates) == 1:
            decoder = candidates[0]
            return decoder.name, decoder.decode(topics, data)
        if candidates is None and topics and topics[0] in self._known_topics:
            raise Undecodable(f"no event with this topic in {self.kind} has {len(topics)} topics")
        return self._only_match(candidates or self._anonymous, topics, data)

    def _only_match(self, candidates: Sequence[EventDecoder], topics: Sequence[bytes], data: bytes) -> tuple[str, Args]:
        matches = []
        for decoder in candidates:
            try:
                matches.append((decoder.name, decoder.decode(topics, data)))
            except Undecodable:
                continue
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise Undecodable(f"ambiguous: {len(matches)} events of {self.kind} fit")
        raise Undecodable(f"no event of {self.kind} fits")


class AbiRegistry:
    """ABIs by kind: the built-in ones, and those added with `add`."""

    def __init__(self) -> None:
        self._abis = {kind: ContractAbi(kind, events) for kind, events in built_in_events().items()}

    def add(self, kind: str, entries: Sequence[Mapping[str, Any]]) -> None:
        """Add or replace a kind by its JSON ABI; entries that are no events are passed over. Raises InvalidInput."""
        events = [event_from_abi(entry) for entry in entries if entry.get("type") == "event"]
        self._abis[kind] = ContractAbi(kind, events)

    def get(self, kind: str) -> ContractAbi | None:
        return self._abis.get(kind)

    def decode(self, kind: str, topics: Sequence[bytes], data: bytes) -> tuple[str, Args]:
        """(event name, arguments) of a log of a contract of this kind. Raises Undecodable with the reason."""
        contract_abi = self._abis.get(kind)
        if contract_abi is None:
            raise Undecodable(f"no ABI for {kind}")
        return contract_abi.decode(topics, data)
