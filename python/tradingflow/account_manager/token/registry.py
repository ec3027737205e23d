"""The registry: tokens enter it by what the chain says of them, and are looked at again from time to time."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.token import repository
from tradingflow.account_manager.token.metadata import TokenMetadata, read_metadata
from tradingflow.account_manager.token.spam import spam_reason
from tradingflow.chain.client import ChainClient
from tradingflow.core.errors import InvalidInput
from tradingflow.db.models import Token
from tradingflow.prices.book import PriceBook


@dataclass(frozen=True)
class TokenRegistry:
    """Tokens of the pools in `prices` are trusted; what takes the symbol of one of them is marked as spam."""

    chains: Mapping[int, ChainClient]
    prices: PriceBook

    async def register(self, session: AsyncSession, chain_id: int, address: str) -> Token:
        """Read the token's metadata and keep it. Raises InvalidInput when there is no contract."""
        metadata = await read_metadata(self.chains[chain_id], address)
        return await self._save(session, chain_id, address, metadata)

    async def ensure(self, session: AsyncSession, chain_id: int, addresses: Collection[str]) -> dict[str, Token]:
        """Registry entries of all `addresses` that are contracts; the missing ones are read from the chain first."""
        known = await repository.find(session, chain_id, addresses)
        return known | await self.keep(session, chain_id, await self.read(chain_id, set(addresses) - known.keys()))

    async def read(self, chain_id: int, addresses: Collection[str]) -> dict[str, TokenMetadata]:
        """What the chain says of those that are contracts."""
        answers = await asyncio.gather(*(self._read(chain_id, address) for address in addresses))
        return {address: found for address, found in zip(addresses, answers, strict=True) if found is not None}

    async def keep(self, session: AsyncSession, chain_id: int, read: Mapping[str, TokenMetadata]) -> dict[str, Token]:
        """Enter what was read."""
        return {address: await self._save(session, chain_id, address, found) for address, found in read.items()}

    async def _read(self, chain_id: int, address: str) -> TokenMetadata | None:
        try:
            return await read_metadata(self.chains[chain_id], address)
        except InvalidInput:
            return None

    async def refresh(self, session: AsyncSession, token: Token) -> Token:
        """Read a registered token again: tokens behind proxies change. One that is gone stays as it was known."""
        try:
            return await self.register(session, token.chain_id, token.address)
        except InvalidInput:
            return token

    async def _save(self, session: AsyncSession, chain_id: int, address: str, metadata: TokenMetadata) -> Token:
        reason = spam_reason(address, metadata, await self._trusted(session, chain_id))
        return await repository.save(session, chain_id, address, metadata, reason)

    async def _trusted(self, session: AsyncSession, chain_id: int) -> dict[str, str]:
        tokens = await repository.find(session, chain_id, await self.prices.pools[chain_id].tokens())
        return {token.symbol.upper(): token.address for token in tokens.values() if token.symbol}
