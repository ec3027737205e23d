"""The simulated vault, its venue and its gateway: nothing moves when refused, and a node trades once."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from tradingflow.chain.amm.constant_product import ConstantProductPool
from tradingflow.chain.swap_path import encode_path
from tradingflow.chain.vault_policy import KIND_UNISWAP_V2, LossCap, TokenRule, VaultPolicy
from tradingflow.core.clock import SimulatedClock
from tradingflow.core.errors import Refused
from tradingflow.core.evm import address_from_bytes
from tradingflow.core.ids import trade_id
from tradingflow.py_worker.kit import SwapIntent
from tradingflow.py_worker.kit.testing import DOLLAR, ETHER, FixedMarkets
from tradingflow.py_worker.simulation.gateway import (
    NodeIdentity,
    SimulatedChain,
    SimulatedExecutor,
    SimulatedTrades,
)
from tradingflow.py_worker.simulation.vault import SimulatedVault
from tradingflow.py_worker.simulation.venue import PoolKey, PoolVenue

VAULT, ROUTER, SOURCE, THIRD = (address_from_bytes(bytes([n]) * 20) for n in (0xA1, 0xA2, 0xA3, 0xA4))
KEY: PoolKey = (ETHER.address, DOLLAR.address, None)
PATH = encode_path([DOLLAR.address, ETHER.address])
FLOW = UUID(int=7)
CHAIN = 1
POLICY = VaultPolicy({ROUTER: KIND_UNISWAP_V2}, {ETHER.address: TokenRule(), DOLLAR.address: TokenRule()})
POOL = ConstantProductPool(ETHER.address, DOLLAR.address, 10**21, 2 * 10**12)
INTENT = SwapIntent(CHAIN, VAULT, PATH, DOLLAR.address, ETHER.address, 100 * 10**6, 50)


def executor(policy: VaultPolicy = POLICY, *, prices: object = None) -> SimulatedExecutor:
    vault = SimulatedVault(VAULT, CHAIN, policy, {DOLLAR.address: 1_000 * 10**6})
    chain = SimulatedChain(PoolVenue({KEY: POOL}), ROUTER, prices, block_number=12)  # type: ignore[arg-type]
    return SimulatedExecutor(SimulatedClock(datetime(2026, 1, 1, tzinfo=UTC)), {CHAIN: chain}, {(CHAIN, VAULT): vault})


def gateway(made: SimulatedExecutor, cycle: int = 0) -> SimulatedTrades:
    return SimulatedTrades(made, NodeIdentity(FLOW, 3, cycle, "buy"), FixedMarkets())


def standing(made: SimulatedExecutor) -> tuple[object, ...]:
    """Everything a refused trade must leave as it was."""
    vault = made.vaults[CHAIN, VAULT]
    ledger = vault.ledger
    return dict(vault.balances), set(ledger.used), dict(ledger.spent), pool_of(made)


def pool_of(made: SimulatedExecutor) -> object:
    venue = made.chains[CHAIN].venue
    assert isinstance(venue, PoolVenue)
    return venue.pools[KEY]


async def test_a_trade_moves_the_vault_and_the_pool_by_the_same_amounts() -> None:
    made = executor()
    receipt = await gateway(made).swap(INTENT)
    expected = POOL.swap(DOLLAR.address, INTENT.amount_in)
    assert (receipt.trade_id, receipt.amount_out) == (trade_id(FLOW, 3, 0, "buy"), expected.amount_out)
    assert receipt.block_number == 12
    held = made.vaults[CHAIN, VAULT].balances
    assert held == {DOLLAR.address: 900 * 10**6, ETHER.address: expected.amount_out}
    assert pool_of(made) == expected.pool


async def test_a_node_that_runs_again_finds_its_own_trade_whatever_it_now_intends() -> None:
    made = executor()
    assert await gateway(made).resume() is None
    first = await gateway(made).swap(INTENT)
    after = standing(made)
    again = await gateway(made).swap(SwapIntent(CHAIN, VAULT, PATH, DOLLAR.address, ETHER.address, 5, 50))
    assert again == first == await gateway(made).resume()
    assert standing(made) == after
    assert (await gateway(made, cycle=1).swap(INTENT)).trade_id != first.trade_id


async def test_a_refused_trade_is_kept_changes_nothing_and_is_refused_again() -> None:
    made = executor(VaultPolicy({ROUTER: KIND_UNISWAP_V2}, {**POLICY.tokens, DOLLAR.address: TokenRule(99 * 10**6)}))
    before = standing(made)
    with pytest.raises(Refused, match="per_trade_cap_exceeded"):
        await gateway(made).swap(INTENT)
    with pytest.raises(Refused, match="per_trade_cap_exceeded"):
        await gateway(made).resume()
    assert standing(made) == before
    (kept,) = made.trades.values()
    assert (kept.failure_code, kept.fill) == ("per_trade_cap_exceeded", None)


class Worthless:
    """Values what is sold and nothing else."""

    def value_of(self, token: str, amount: int) -> int:
        return amount if token == DOLLAR.address else 0


async def test_a_loss_found_after_the_swap_takes_the_swap_back() -> None:
    policy = VaultPolicy(POLICY.routers, POLICY.tokens, loss_cap=LossCap(SOURCE, 10**6, 3600))
    made = executor(policy, prices=Worthless())
    before = standing(made)
    with pytest.raises(Refused, match="loss_cap_exceeded"):
        await gateway(made).swap(INTENT)
    assert standing(made) == before


@pytest.mark.parametrize(
    ("intent", "code"),
    [
        (SwapIntent(2, VAULT, PATH, DOLLAR.address, ETHER.address, 1, 50), "no_router"),
        (SwapIntent(CHAIN, THIRD, PATH, DOLLAR.address, ETHER.address, 1, 50), "unknown_vault"),
    ],
)
async def test_what_the_live_gateway_never_writes_down_leaves_no_trade(intent: SwapIntent, code: str) -> None:
    made = executor()
    with pytest.raises(Refused, match=code):
        await gateway(made).swap(intent)
    assert not made.trades


@pytest.mark.parametrize(
    ("path", "amount", "slippage", "code"),
    [
        (PATH, 1, 50, "quote_zero"),
        (encode_path([ETHER.address, DOLLAR.address]), 10**9, 10_000, "min_amount_out_zero"),
        (encode_path([DOLLAR.address, THIRD]), 10**9, 50, "no_pool"),
        (encode_path([DOLLAR.address, ETHER.address], [3000]), 10**9, 50, "quote_refused"),
    ],
)
async def test_quotes_refuse_as_the_executor_does(path: bytes, amount: int, slippage: int, code: str) -> None:
    tiny = ConstantProductPool(ETHER.address, DOLLAR.address, 10**6, 2 * 10**12)
    made = executor()
    made.chains[CHAIN].venue = PoolVenue({KEY: tiny if code == "quote_zero" else POOL})
    intent = SwapIntent(CHAIN, VAULT, path, DOLLAR.address, ETHER.address, amount, slippage)
    with pytest.raises(Refused, match=code):
        await gateway(made).swap(intent)


def test_a_path_through_one_pool_twice_is_quoted_apart_and_traded_together() -> None:
    """As QuoterV2, which undoes each hop before the next, and routers, which do not."""
    venue = PoolVenue({KEY: POOL})
    there_and_back = encode_path([DOLLAR.address, ETHER.address, DOLLAR.address])
    amount = 10**11
    out = POOL.swap(DOLLAR.address, amount)
    assert venue.quote(there_and_back, amount) == POOL.swap(ETHER.address, out.amount_out).amount_out
    moved = venue.swap(there_and_back, amount)
    assert moved.amount_out == out.pool.swap(ETHER.address, out.amount_out).amount_out
