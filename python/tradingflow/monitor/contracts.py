"""The contracts of one chain whose events are stored, in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from tradingflow.chain.registry import is_users_kind
from tradingflow.core.evm import to_bytes


@dataclass(frozen=True)
class Contract:
    """`address` is EIP-55, `kind` names its ABI, `discovered_by` is the factory it came from."""

    address: str
    kind: str
    from_block: int
    discovered_by: str | None = None

    @cached_property
    def address_bytes(self) -> bytes:
        return to_bytes(self.address)

    def displaces(self, known: Contract) -> bool:
        """Whether what a factory or the configuration says of a contract, which is this, takes the place of what is
        known: a user may have said what he likes."""
        return known.discovered_by is None and known.kind != self.kind and is_users_kind(known.kind)


class ContractSet:
    """Contracts by address, in the order they became known. It only grows, and its length is its version: earlier
    reads can be completed for those who came after."""

    def __init__(self, contracts: Iterable[Contract] = ()) -> None:
        self._known: dict[str, tuple[int, Contract]] = {}
        self._addresses: list[str] = []
        for contract in contracts:
            self.add(contract)

    def __len__(self) -> int:
        return len(self._addresses)

    def add(self, contract: Contract) -> bool:
        """False when the address is monitored already and what is known of it stays."""
        key = contract.address.lower()
        if key in self._known:
            place, known = self._known[key]
            if not contract.displaces(known):
                return False
            self._known[key] = (place, contract)
            return True
        self._known[key] = (len(self._addresses), contract)
        self._addresses.append(key)
        return True

    def get(self, address: str) -> tuple[int, Contract] | None:
        """(place in the order, contract) by address in any case."""
        return self._known.get(address) or self._known.get(address.lower())

    def kind_of(self, address: str) -> str | None:
        """None for an address that is not monitored."""
        _, contract = self.get(address) or (-1, None)
        return None if contract is None else contract.kind

    def addresses(self, first: int = 0) -> list[str]:
        """Lower-case addresses from this place in the order on."""
        return self._addresses[first:]
