from decimal import Decimal
from typing import Any

import pytest

from tradingflow.chain.swap_path import decode_path
from tradingflow.core.config import ChainSettings, ExecutorSettings
from tradingflow.core.errors import InvalidInput
from tradingflow.core.evm import parse_address
from tradingflow.py_worker.kit.testing import DOLLAR, ETHER, POOL, VAULT, FixedMarkets, MemoryContext, SpendingGateway
from tradingflow.py_worker.nodes.buy_node import BuyNode
from tradingflow.py_worker.nodes.sell_node import SellNode
from tradingflow.py_worker.nodes.swap_node import SwapNode

SWAP: dict[str, Any] = {"chain_id": 1, "vault": VAULT, "token_in": ETHER.address, "token_out": DOLLAR.address}
TWO, THREE = parse_address("0x" + "2" * 39 + "a"), parse_address("0x" + "3" * 39 + "a")
PAIR: dict[str, Any] = {"chain_id": 1, "vault": VAULT, "pool": POOL}


@pytest.mark.parametrize("trading", [SwapNode, BuyNode, SellNode])
def test_a_node_waits_longer_than_the_executor_works_at_its_trade(
    trading: type[SwapNode | BuyNode | SellNode],
) -> None:
    given_up_after_s = ExecutorSettings.model_fields["trade_ttl_s"].default
    assert trading.default_timeout.total_seconds() > given_up_after_s


@pytest.mark.parametrize(
    ("amount", "unit", "sold"),
    [
        ("0.5", "human", 5 * 10**17),
        ("123456789012345678", "base_units", 123456789012345678),
        ("25", "percent", 75 * 10**16),
        ("100", "percent", 3 * 10**18),
        ("0.1234567890123456789", "human", 123456789012345678),
    ],
)
async def test_the_amount_sold_is_exact_in_every_unit(
    ctx: MemoryContext, gateway: SpendingGateway, amount: str, unit: str, sold: int
) -> None:
    await SwapNode().execute(ctx, {**SWAP, "amount": amount, "amount_unit": unit}, {})
    assert [intent.amount_in for intent in gateway.intents] == [sold]


async def test_a_large_human_amount_keeps_every_digit(
    ctx: MemoryContext, gateway: SpendingGateway, markets: FixedMarkets
) -> None:
    markets.held[ETHER.address] = 2 * 10**40
    amount = "12345678901234567890123.123456789012345678"
    await SwapNode().execute(ctx, {**SWAP, "amount": amount}, {})
    assert gateway.intents[0].amount_in == int(amount.replace(".", ""))


async def test_the_amount_may_come_from_an_edge(ctx: MemoryContext, gateway: SpendingGateway) -> None:
    await SwapNode().execute(ctx, SWAP, {"amount": "0.25"})
    assert gateway.intents[0].amount_in == 25 * 10**16


async def test_a_receipt_travels_with_amounts_as_text(ctx: MemoryContext) -> None:
    outputs = await SwapNode().execute(ctx, {**SWAP, "amount": "1"}, {})
    receipt = outputs.signals()["trade_receipt"]
    assert receipt["amount_out"] == str(10**20)
    assert receipt["price"] == "2000"


async def test_a_node_run_again_after_a_crash_finds_its_trade_though_the_balance_is_spent(
    ctx: MemoryContext, gateway: SpendingGateway, markets: FixedMarkets
) -> None:
    config = {**SWAP, "amount": "100", "amount_unit": "percent"}
    first = await SwapNode().execute(ctx, config, {})
    assert markets.held[ETHER.address] == 0
    again = await SwapNode().execute(ctx, config, {})
    assert again.signals() == first.signals() != {}
    assert [intent.amount_in for intent in gateway.intents] == [3 * 10**18]


async def test_the_next_cycle_decides_anew(ctx: MemoryContext, gateway: SpendingGateway) -> None:
    config = {**SWAP, "amount": "50", "amount_unit": "percent"}
    await SwapNode().execute(ctx, config, {})
    ctx.cycle, gateway.receipt = 1, None
    await SwapNode().execute(ctx, config, {})
    assert [intent.amount_in for intent in gateway.intents] == [15 * 10**17, 75 * 10**16]


async def test_with_nothing_to_sell_no_trade_is_made_and_the_branch_is_not_taken(
    ctx: MemoryContext, gateway: SpendingGateway, markets: FixedMarkets
) -> None:
    markets.held[ETHER.address] = 0
    outputs = await SwapNode().execute(ctx, {**SWAP, "amount": "100", "amount_unit": "percent"}, {})
    assert (gateway.intents, outputs.signals()) == ([], {})
    assert outputs.not_taken() == {"trade_receipt"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": "0"},
        {"amount": "-1"},
        {"amount": "NaN"},
        {"amount": "Infinity"},
        {"amount": "101", "amount_unit": "percent"},
        {"amount": "1.5", "amount_unit": "base_units"},
        {"amount": "1e78"},
        {"amount": "1e78", "amount_unit": "base_units"},
        {"slippage_bps": 0},
        {"slippage_bps": 1001},
        {"token_out": ETHER.address},
        {"fee": 0},
        {"chain_id": 0},
        {"vault": "0x12"},
        {"min_amount_out": "0"},
        {"route": "v4"},
        {"route": "v2", "fee": 500},
        {"route": "v2", "via": [[500, "0x" + "9" * 40]]},
        {"router": "0x12"},
    ],
)
def test_a_config_that_makes_no_trade_is_refused_before_the_flow_starts(wrong: dict[str, Any]) -> None:
    assert SwapNode().validate_params({**SWAP, "amount": "1", **wrong})


@pytest.mark.parametrize("amount", ["0", "-3", "NaN", "0.0000000000000000001", "1e70"])
async def test_an_amount_from_an_edge_that_cannot_be_traded_is_refused(
    ctx: MemoryContext, gateway: SpendingGateway, amount: str
) -> None:
    with pytest.raises(InvalidInput):
        await SwapNode().execute(ctx, SWAP, {"amount": amount})
    assert gateway.intents == []


@pytest.mark.parametrize("unit", ["human", "base_units"])
@pytest.mark.parametrize("amount", ["1e999", "1e999999", "9" * 5000])
async def test_an_amount_far_too_large_is_refused_without_becoming_a_whole_number(
    ctx: MemoryContext, gateway: SpendingGateway, unit: str, amount: str
) -> None:
    with pytest.raises(InvalidInput, match="at most"):
        await SwapNode().execute(ctx, {**SWAP, "amount_unit": unit}, {"amount": amount})
    assert gateway.intents == []


async def test_an_amount_nobody_gave_is_refused(ctx: MemoryContext) -> None:
    with pytest.raises(InvalidInput, match="amount_missing"):
        await SwapNode().execute(ctx, SWAP, {})


async def test_a_swap_over_two_pools_names_each_hop(ctx: MemoryContext, gateway: SpendingGateway) -> None:
    middle = "0x" + "9" * 40
    await SwapNode().execute(ctx, {**SWAP, "amount": "1", "via": [[500, middle]], "fee": 3000}, {})
    path = decode_path(gateway.intents[0].path)
    assert (path.tokens, path.fees) == ((ETHER.address, middle, DOLLAR.address), (500, 3000))


async def test_a_v2_route_names_tokens_only_and_the_router_it_is_to_go_through(
    ctx: MemoryContext, gateway: SpendingGateway
) -> None:
    middle, router = "0x" + "9" * 40, "0x" + "8" * 40
    config = {**SWAP, "amount": "1", "route": "v2", "router": router, "via": [[3000, middle]]}
    await SwapNode().execute(ctx, config, {})
    (intent,) = gateway.intents
    path = decode_path(intent.path)
    assert (path.tokens, path.fees) == ((ETHER.address, middle, DOLLAR.address), ())
    assert intent.router == router


async def test_the_kind_of_the_pool_decides_the_route_of_buying_and_selling(
    ctx: MemoryContext, gateway: SpendingGateway, markets: FixedMarkets
) -> None:
    markets.kind = "v2"
    await BuyNode().execute(ctx, {**PAIR, "amount": "1", "router": "0x" + "8" * 40}, {})
    (intent,) = gateway.intents
    assert decode_path(intent.path).is_v2
    assert intent.router == "0x" + "8" * 40


@pytest.mark.parametrize(
    ("route", "named", "chain", "taken"),
    [
        ("v3", None, {"swap_router": THREE}, THREE),
        ("v3", None, {"swap_router": THREE, "v2_router": TWO}, THREE),
        ("v2", None, {"swap_router": THREE, "v2_router": TWO}, TWO),
        ("v2", None, {"swap_router": TWO}, TWO),
        ("v3", None, {"v2_router": TWO}, None),
        ("v2", "0x" + "8" * 40, {"swap_router": THREE, "v2_router": TWO}, "0x" + "8" * 40),
    ],
)
async def test_the_router_is_the_one_named_or_the_chains_for_the_kind_of_route(
    ctx: MemoryContext,
    gateway: SpendingGateway,
    route: str,
    named: str | None,
    chain: dict[str, Any],
    taken: str | None,
) -> None:
    await SwapNode().execute(ctx, {**SWAP, "amount": "1", "route": route, "router": named}, {})
    settings = ChainSettings(chain_id=1, name="test", rpc_urls=("http://127.0.0.1:1",), **chain)
    assert gateway.intents[0].router_on(settings) == taken


async def test_buying_spends_the_quote_token(ctx: MemoryContext, gateway: SpendingGateway) -> None:
    await BuyNode().execute(ctx, {**PAIR, "amount": "10", "amount_unit": "percent"}, {})
    intent = gateway.intents[0]
    assert (intent.token_in, intent.token_out) == (DOLLAR.address, ETHER.address)
    assert intent.amount_in == 50 * 10**6
    assert decode_path(intent.path).fees == (3000,)


async def test_selling_spends_the_base_token(ctx: MemoryContext, gateway: SpendingGateway) -> None:
    await SellNode().execute(ctx, {**PAIR, "amount": "0.1"}, {})
    intent = gateway.intents[0]
    assert (intent.token_in, intent.token_out) == (ETHER.address, DOLLAR.address)
    assert Decimal(intent.amount_in).scaleb(-18) == Decimal("0.1")
