"""Market data read from the chains themselves: what live and paper flows see."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TypeVar

from tradingflow.chain.client import ChainClient
from tradingflow.chain.pool_math import default_base, rate
from tradingflow.chain.swap_path import decode_path
from tradingflow.chain.uniswap import Pool, UniswapReader
from tradingflow.core.errors import InvalidInput
from tradingflow.core.evm import parse_address
from tradingflow.py_worker.kit import PoolPrice, Quote, TokenInfo

T = TypeVar("T")


class OnChainMarkets:
    """`MarketData` over one client a chain. It owns no connection: close the clients where they were made."""

    def __init__(self, clients: Mapping[int, ChainClient]) -> None:
        self._clients = clients
        self._readers = {chain_id: UniswapReader(client) for chain_id, client in clients.items()}

    async def token(self, chain_id: int, address: str) -> TokenInfo:
        return TokenInfo(parse_address(address), await self._reader(chain_id).decimals(address))

    async def pool_price(self, chain_id: int, pool: str, base_token: str | None = None) -> PoolPrice:
        found, block = await self._pool_at_head(chain_id, pool)
        return self._as_price(found, await self._reader(chain_id).spot_price(found, block), base_token, chain_id, block)

    async def pool_twap(self, chain_id: int, pool: str, window_s: int, base_token: str | None = None) -> PoolPrice:
        found, block = await self._pool_at_head(chain_id, pool)
        mean = await self._reader(chain_id).mean_price(found, window_s, block)
        return self._as_price(found, mean, base_token, chain_id, block)

    async def quote(self, chain_id: int, path: bytes, amount_in: int, router: str | None = None) -> Quote:
        tokens = decode_path(path).tokens
        token_in = await self.token(chain_id, tokens[0])
        token_out = await self.token(chain_id, tokens[-1])
        amount_out = await self._reader(chain_id).quote(path, amount_in, router=router)
        price = rate(amount_in, token_in.decimals, amount_out, token_out.decimals)
        return Quote(token_in, token_out, amount_in, amount_out, price)

    async def balances(self, chain_id: int, holder: str, tokens: Sequence[str]) -> dict[str, int]:
        client, owner = self._client(chain_id), parse_address(holder)
        block = await self._head(chain_id)
        addresses = [parse_address(token) for token in tokens]
        answers = await asyncio.gather(
            *(client.call("ERC20", address, "balanceOf", owner, block=block) for address in addresses)
        )
        return dict(zip(addresses, map(int, answers), strict=True))

    def quote_token(self, chain_id: int) -> str | None:
        return self._client(chain_id).settings.quote_token

    def pools(self, chain_id: int) -> tuple[str, ...]:
        return self._client(chain_id).settings.pools

    async def _pool_at_head(self, chain_id: int, pool: str) -> tuple[Pool, int]:
        return await self._reader(chain_id).pool(pool), await self._head(chain_id)

    async def _head(self, chain_id: int) -> int:
        client = self._client(chain_id)
        return int(await client.guard(client.web3.eth.block_number))

    def _as_price(
        self, pool: Pool, token1_per_token0: Decimal, base_token: str | None, chain_id: int, block: int
    ) -> PoolPrice:
        base = (
            parse_address(base_token)
            if base_token
            else default_base(pool.token0, pool.token1, self.quote_token(chain_id))
        )
        quote = pool.other(base)
        decimals = {pool.token0: pool.decimals0, pool.token1: pool.decimals1}
        price = pool.oriented(token1_per_token0, base)
        tokens = (TokenInfo(base, decimals[base]), TokenInfo(quote, decimals[quote]))
        return PoolPrice(chain_id, pool.address, *tokens, price, pool.fee, block, pool.kind)

    def _client(self, chain_id: int) -> ChainClient:
        return _of_chain(self._clients, chain_id)

    def _reader(self, chain_id: int) -> UniswapReader:
        return _of_chain(self._readers, chain_id)


def _of_chain(by_chain: Mapping[int, T], chain_id: int) -> T:
    if chain_id not in by_chain:
        served = ", ".join(map(str, sorted(by_chain))) or "none"
        raise InvalidInput("unknown_chain", f"chain {chain_id} is not served; allowed: {served}")
    return by_chain[chain_id]
