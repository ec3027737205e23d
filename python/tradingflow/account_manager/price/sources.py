"""Which markets the settings name for each chain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from tradingflow.account_manager.price.exchange import Exchange
from tradingflow.account_manager.price.markets import CoinGecko, GeckoTerminal, Market
from tradingflow.core.clock import Clock
from tradingflow.core.config import ChainSettings, ExecutorSettings
from tradingflow.outbound.client import GuardedHttp


def markets_of(settings: ExecutorSettings, http: GuardedHttp, clock: Clock) -> dict[int, list[Market]]:
    """The markets of each chain; a chain without a quote token has none."""
    return {
        chain.chain_id: list(_markets_of_chain(settings, chain, chain.quote_token, http, clock))
        for chain in settings.chains
        if chain.quote_token is not None
    }


def _markets_of_chain(
    settings: ExecutorSettings, chain: ChainSettings, quote_token: str, http: GuardedHttp, clock: Clock
) -> Iterator[Market]:
    key = settings.coingecko_api_key.get_secret_value() if settings.coingecko_api_key else None
    if chain.coingecko_platform:
        yield CoinGecko(http, settings.coingecko_url, chain.coingecko_platform, quote_token, clock, key)
    if chain.geckoterminal_network:
        yield GeckoTerminal(http, settings.geckoterminal_url, chain.geckoterminal_network, quote_token, clock)
    by_exchange: dict[str, dict[str, str]] = defaultdict(dict)
    for token, market in chain.exchange_markets.items():
        exchange, _, market_id = market.partition(":")
        by_exchange[exchange][token] = market_id
    for name, markets in by_exchange.items():
        yield Exchange(name, http, markets, clock)
