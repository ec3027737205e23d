"""Factory rules: which event of which contract announces a new contract, and what that one is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tradingflow.monitor.contracts import Contract

# A rule may name an argument that this factory's ABI has not, or that is no address: then it announces nothing.
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")


@dataclass(frozen=True)
class FactoryRule:
    """An event named `event` of a contract of kind `factory_kind` holds in `argument` the address of a new
    contract, whose events are decoded as `child_kind`."""

    factory_kind: str
    event: str
    argument: str
    child_kind: str


BUILT_IN_RULES = (
    FactoryRule("vault_factory", "VaultCreated", "vault", "vault"),
    FactoryRule("uniswap_v2_factory", "PairCreated", "pair", "uniswap_v2_pair"),
    FactoryRule("uniswap_v3_factory", "PoolCreated", "pool", "uniswap_v3_pool"),
)


class Discovery:
    """Finds the children that events announce."""

    def __init__(self, rules: Iterable[FactoryRule] = ()) -> None:
        """By the built-in rules and these."""
        self._rules = {(rule.factory_kind, rule.event): rule for rule in (*BUILT_IN_RULES, *rules)}

    def child(self, parent: Contract, block: int, name: str | None, args: Mapping[str, Any] | None) -> Contract | None:
        """The contract that this event announces, if any. It is followed from this very block on."""
        rule = self._rules.get((parent.kind, name)) if name is not None else None
        address = args.get(rule.argument) if rule is not None and args is not None else None
        if rule is None or not isinstance(address, str) or not _ADDRESS.fullmatch(address):
            return None
        return Contract(address, rule.child_kind, block, parent.address)
