"""The vault factory: where a vault will be, how to make it, and whether an address is one."""

from __future__ import annotations

import asyncio

from web3.types import BlockIdentifier

from tradingflow.chain.client import CallReverted, ChainClient
from tradingflow.chain.transactions import WORD_BYTES, ask, find_logs, head_number
from tradingflow.core.errors import Refused
from tradingflow.core.evm import address_from_bytes, keccak, to_bytes

VAULT_CREATED_TOPIC = "0x" + keccak(b"VaultCreated(address,address)").hex()

# What Clones.cloneDeterministicWithImmutableArgs puts on chain: EIP-1167 around the implementation's address, then the
# ABI-encoded owner.
_CLONE_HEAD = bytes.fromhex("363d3d373d3d3d363d73")
_CLONE_TAIL = bytes.fromhex("5af43d82803e903d91602b57fd5bf3")


class VaultFactoryContract:
    """The factory of one chain. Raises Refused `no_vault_factory` where none is configured."""

    def __init__(self, client: ChainClient) -> None:
        if client.settings.vault_factory is None:
            raise Refused("no_vault_factory", f"chain {client.chain_id} has no vault factory configured")
        self._client = client
        self.address = client.settings.vault_factory

    async def predict_vault(self, owner: str, salt: str) -> str:
        return str(await self._client.call("VaultFactory", self.address, "predictVault", owner, to_bytes(salt)))

    async def is_vault(self, address: str, *, block: BlockIdentifier = "latest") -> bool:
        """Whether it had created the vault, as of a block; DependencyUnavailable of a node that is not there yet."""
        return bool(await self._client.call("VaultFactory", self.address, "isVault", address, block=block))

    async def vault_count(self) -> int:
        return int(await self._client.call("VaultFactory", self.address, "vaultCount"))

    async def implementation(self) -> str:
        return str(await self._client.call("VaultFactory", self.address, "implementation"))

    async def is_factory(self) -> bool:
        """Whether what is at the address answers as a factory: with a count, and an implementation that has code."""
        count, implementation = await asyncio.gather(self._word("vaultCount"), self._word("implementation"))
        if count is None or not implementation or implementation.bit_length() > 160:
            return False
        return bool(await self._client.code_at(address_from_bytes(implementation.to_bytes(20))))

    async def _word(self, function: str) -> int | None:
        """What a function returns, or None unless it is one word."""
        try:
            returned = await ask(self._client, "VaultFactory", self.address, function)
        except CallReverted:
            return None
        return int.from_bytes(returned) if len(returned) == WORD_BYTES else None

    async def created_block(self, owner: str, vault: str) -> int:
        """The block of the vault's `VaultCreated`. Raises Refused `not_created`."""
        topics = [VAULT_CREATED_TOPIC, _padded(owner), _padded(vault)]
        head = await head_number(self._client)
        logs = await find_logs(self._client, self.address, topics, self._client.settings.start_block, head)
        if not logs:
            raise Refused("not_created", f"the factory never created {vault}")
        return int(logs[0]["blockNumber"])

    def encode_create(self, owner: str, salt: str) -> bytes:
        contract = self._client.contract("VaultFactory", self.address)
        return bytes.fromhex(contract.encode_abi("createVault", [owner, to_bytes(salt)])[2:])


def _padded(address: str) -> str:
    return "0x" + "00" * 12 + address[2:].lower()


def clone_code(implementation: str, owner: str) -> bytes:
    """The exact runtime code of a vault of `owner` (EIP-1167 with one immutable argument)."""
    return _CLONE_HEAD + to_bytes(implementation) + _CLONE_TAIL + to_bytes(owner).rjust(32, b"\0")
