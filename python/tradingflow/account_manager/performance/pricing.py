"""Finding out what tokens cost at the blocks of a vault's events, once and for all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tradingflow.account_manager.performance import repository
from tradingflow.account_manager.performance.figure import Figure
from tradingflow.account_manager.performance.history import wanted_prices
from tradingflow.account_manager.token.registry import TokenRegistry
from tradingflow.chain.client import ChainClient
from tradingflow.core.evm import ZERO_ADDRESS
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import Vault
from tradingflow.prices.book import PriceBook
from tradingflow.prices.pools import TokenPrice

# A vault takes seconds, not minutes: others wait. What is left is left to the next run.
MAX_PRICES = 100


@dataclass(frozen=True)
class BlockPricing:
    """Asks the chain's pools at the very block: a node without the state of old blocks must be asked soon."""

    chains: Mapping[int, ChainClient]
    prices: PriceBook
    tokens: TokenRegistry
    sessions: SessionFactory

    async def price(self, vault: Vault) -> int:
        """Price what is missing, the newest first; returns how many prices were found. Raises DependencyUnavailable.

        A node that has forgotten the old blocks still knows the new ones, and will not for long.
        """
        quote_token = self.chains[vault.chain_id].settings.quote_token
        # A stranger's deposit of these counts once the owner names its token; its block's price must be known by then.
        in_pools = await self.prices.pools[vault.chain_id].tokens()
        async with self.sessions() as session:
            events = await repository.events_of(session, vault, also=in_pools)
            known = await repository.block_prices(session, vault.chain_id, vault.address)
        met = {part.token for event in events for part in event.parts()} - {ZERO_ADDRESS}
        await self.tokens.ensure(self.sessions, vault.chain_id, met)
        missing = [w for w in wanted_prices(events, quote_token) if (w[1], w[2]) not in known]
        newest = missing[::-1][:MAX_PRICES]
        for number, block_hash, token in newest:
            said = await self._at_block(vault, token, number)
            found = Figure(said.price, None if said.reason is None else f"{said.reason}: {token}")
            async with self.sessions() as session, session.begin():
                await repository.keep_block_price(session, vault.chain_id, block_hash, token, found)
        return len(newest)

    async def _at_block(self, vault: Vault, token: str, number: int) -> TokenPrice:
        """The native currency costs what its wrapped form does."""
        if token == ZERO_ADDRESS:
            wrapped = await self.chains[vault.chain_id].call("Vault", vault.address, "wrappedNative")
            if wrapped == ZERO_ADDRESS:
                return TokenPrice(None, "no_wrapped_native")
            token = str(wrapped)
        return await self.prices.pools[vault.chain_id].price(token, number)
