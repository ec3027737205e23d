"""Prices that at least two sources agree on."""

from __future__ import annotations

from datetime import UTC, datetime

from tradingflow.account_manager.parts import Parts
from tradingflow.account_manager.price.agreement import agree
from tradingflow.account_manager.price.pools import TokenPrice
from tradingflow.account_manager.price.schemas import PriceResponse, SourcePrice

MEAN_WINDOW_S = 300


async def read_price(parts: Parts, chain_id: int, token: str, max_age_s: int) -> PriceResponse:
    """Raises InvalidInput for a chain we do not serve."""
    client = parts.chain(chain_id)
    pools = parts.prices[chain_id]
    block = await client.guard(client.web3.eth.get_block("latest"))
    number, as_of = int(block["number"]), datetime.fromtimestamp(block["timestamp"], UTC)
    sources = {
        "pool_spot": await pools.price(token, number),
        "pool_mean": await pools.mean_price(token, MEAN_WINDOW_S, number),
    }
    age_s = max(0, int((parts.clock.now() - as_of).total_seconds()))
    if token == client.settings.quote_token:
        agreed = TokenPrice(sources["pool_spot"].price)
    else:
        agreed = TokenPrice(None, "stale") if age_s > max_age_s else agree(sources)
    return PriceResponse(
        chain_id=chain_id,
        token=token,
        quote_token=client.settings.quote_token,
        price=agreed.price,
        reason=agreed.reason,
        block_number=number,
        as_of=as_of,
        age_s=age_s,
        sources=[SourcePrice(source=name, price=said.price, reason=said.reason) for name, said in sources.items()],
    )
