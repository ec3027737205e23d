"""Whether a loss cap could measure by a contract. One that cannot value a token makes every trade of it revert."""

from __future__ import annotations

from collections.abc import Collection

from tradingflow.account_manager.vault.bounds import CALLS_AT_ONCE
from tradingflow.chain.client import ChainClient
from tradingflow.chain.price_source import PriceSourceContract
from tradingflow.core.errors import InvalidInput, Refused
from tradingflow.core.tasks import in_groups

# A million whole tokens of 18 decimals: of any token with a price, so much is worth more than nothing.
AMOUNT_ASKED_FOR = 10**24


async def require_price_source(client: ChainClient, address: str, tokens: Collection[str]) -> None:
    """Raises InvalidInput unless there is a contract that values each of `tokens`, and one of them to ask it for."""
    if not await client.code_at(address):
        detail = f"{address} has no code on chain {client.chain_id}; a price source is a contract with valueOf()"
        raise InvalidInput("not_a_price_source", detail)
    if not tokens:
        detail = "the vault allows no token that a price source could be asked for; name `tokens` in the same request"
        raise InvalidInput("no_tokens_to_value", detail)
    source = PriceSourceContract(client, address)
    reasons = await in_groups((_why_not_valued(source, token) for token in sorted(tokens)), CALLS_AT_ONCE)
    if found := [reason for reason in reasons if reason is not None]:
        detail = f"trades would revert: {address} has no value for {'; '.join(found)}"
        raise InvalidInput("token_not_valued", f"{detail}. Name a source for all allowed tokens, or forbid these")


async def _why_not_valued(source: PriceSourceContract, token: str) -> str | None:
    try:
        value = await source.value_of(token, AMOUNT_ASKED_FOR)
    except Refused as refusal:
        return f"{token} ({refusal.detail})"
    return None if value else f"{token} (it says 0)"
