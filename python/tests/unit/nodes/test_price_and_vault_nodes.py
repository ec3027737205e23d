from decimal import Decimal

import pytest

from tradingflow.core.errors import InvalidInput, Refused
from tradingflow.py_worker.kit.testing import DOLLAR, ETHER, POOL, VAULT, FixedMarkets, MemoryContext
from tradingflow.py_worker.nodes.dex_price_node import DexPriceNode
from tradingflow.py_worker.nodes.vault_node import VaultNode


async def test_the_price_travels_as_exact_text(ctx: MemoryContext, markets: FixedMarkets) -> None:
    markets.price = Decimal("1999.123456789012345678")
    outputs = await DexPriceNode().execute(ctx, {"chain_id": 1, "pool": POOL}, {})
    assert outputs.signals() == {"price": "1999.123456789012345678"}
    assert outputs.not_taken() == {"quote"}


async def test_a_quote_says_amounts_in_base_units(ctx: MemoryContext) -> None:
    outputs = await DexPriceNode().execute(ctx, {"chain_id": 1, "pool": POOL, "quote_amount": "0.5"}, {})
    quote = outputs.signals()["quote"]
    assert (quote["amount_in"], quote["amount_out"]) == (str(5 * 10**17), str(1000 * 10**6))


@pytest.mark.parametrize("amount", ["1e77", "1e999999"])
async def test_a_quote_for_more_than_a_token_can_hold_is_refused(ctx: MemoryContext, amount: str) -> None:
    with pytest.raises(InvalidInput, match="more than a token can hold"):
        await DexPriceNode().execute(ctx, {"chain_id": 1, "pool": POOL, "quote_amount": amount}, {})


async def test_an_averaged_price_is_asked_for_its_window(ctx: MemoryContext) -> None:
    outputs = await DexPriceNode().execute(ctx, {"chain_id": 1, "pool": POOL, "twap_s": 60}, {})
    assert outputs.signals()["price"] == "1940"


async def test_a_pool_that_is_none_is_refused(ctx: MemoryContext) -> None:
    with pytest.raises(Refused, match="not_a_pool"):
        await DexPriceNode().execute(ctx, {"chain_id": 1, "pool": VAULT}, {})


async def test_a_vault_is_worth_its_tokens_at_pool_prices(ctx: MemoryContext) -> None:
    outputs = await VaultNode().execute(ctx, {"chain_id": 1, "vault": VAULT}, {})
    vault = outputs.signals()["vault"]
    assert Decimal(vault["value"]) == 3 * 2000 + 500
    assert {holding["token"]: holding["amount"] for holding in vault["holdings"]} == {
        ETHER.address: str(3 * 10**18),
        DOLLAR.address: str(500 * 10**6),
    }


async def test_a_token_without_price_is_named_and_not_counted(ctx: MemoryContext, markets: FixedMarkets) -> None:
    strange = ETHER.address.replace("1", "8")
    markets.held[strange] = 5

    async def token(chain_id: int, address: str) -> object:
        return {ETHER.address: ETHER, DOLLAR.address: DOLLAR}.get(address, ETHER)

    markets.token = token  # type: ignore[method-assign,assignment]
    config = {"chain_id": 1, "vault": VAULT, "tokens": [DOLLAR.address, strange]}
    vault = (await VaultNode().execute(ctx, config, {})).signals()["vault"]
    assert vault["unpriced"] == [strange]
    assert Decimal(vault["value"]) == 500
