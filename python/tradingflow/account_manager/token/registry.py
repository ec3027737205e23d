"""The registry: tokens enter it by what the chain says of them, and are looked at again from time to time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.token import repository
from tradingflow.account_manager.token.metadata import TokenMetadata, read_metadata
from tradingflow.account_manager.token.spam import spam_reason
from tradingflow.chain.client import ChainClient
from tradingflow.core.errors import InvalidInput
from tradingflow.core.tasks import in_groups
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import Token
from tradingflow.prices.book import PriceBook

# A vault may name any number of tokens.
READS_AT_ONCE = 20


@dataclass(frozen=True)
class TokenRegistry:
    """Tokens of the pools in `prices` are trusted; what takes the symbol of one of them is marked as spam."""

    chains: Mapping[int, ChainClient]
    prices: PriceBook

    async def register(self, session: AsyncSession, chain_id: int, address: str) -> Token:
        """Read the token's metadata and keep it. Raises InvalidInput when there is no contract."""
        metadata = await read_metadata(self.chains[chain_id], address)
        return await self._save(session, chain_id, address, metadata)

    async def ensure(self, sessions: SessionFactory, chain_id: int, addresses: Collection[str]) -> dict[str, Token]:
        """Registry entries of all `addresses` that are contracts; the missing ones are read from the chain first.

        No database connection is held while the chain is asked: one that hangs would soon hold them all.
        """
        async with sessions() as session:
            known = await repository.find(session, chain_id, addresses)
        # Two that enter the same tokens in one order wait for each other; in two orders they would deadlock.
        read = await self._read_all(chain_id, sorted(set(addresses) - known.keys()))
        if not read:
            return known
        async with sessions.begin() as session:
            return known | {
                address: await self._save(session, chain_id, address, metadata) for address, metadata in read.items()
            }

    async def _read_all(self, chain_id: int, addresses: Collection[str]) -> dict[str, TokenMetadata]:
        """What the chain says of those that are contracts."""
        answers = await in_groups((self._read(chain_id, address) for address in addresses), READS_AT_ONCE)
        return {address: found for address, found in zip(addresses, answers, strict=True) if found is not None}

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
