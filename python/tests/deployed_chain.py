"""Contracts on a fresh chain: deployed once a process, and from then on loaded into the chains of later tests.

A market, a factory and a vault take some forty transactions, a second of a core's time; loading them takes a twentieth.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from devstack.anvil import Anvil

Contracts = TypeVar("Contracts")

# A loaded chain knows the state of its last block only. So many blocks on top are what a test may reorganise, and the
# last of them has the present time.
BLOCKS_ON_TOP = 4

_deployed: dict[str, tuple[str, object]] = {}


async def with_contracts(anvil: Anvil, name: str, deploy: Callable[[], Awaitable[Contracts]]) -> Contracts:
    """What `deploy` gave for a fresh chain, here or on an earlier one. One name, one way to deploy."""
    if name in _deployed:
        state, contracts = _deployed[name]
        anvil.rpc("anvil_loadState", state)
    else:
        contracts = await deploy()
        _deployed[name] = anvil.rpc("anvil_dumpState"), contracts
    anvil.rpc("anvil_mine", hex(BLOCKS_ON_TOP))
    return contracts  # type: ignore[return-value]  # under this name stands what this `deploy` gave
