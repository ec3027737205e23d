"""Every refusal has a code that says which rule said no, and sends nothing."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from eth_abi.abi import encode
from sqlalchemy import select

from devstack.executor_world import ONE_QUOTE, World, operator_signer
from devstack.vaults import LocalVaults
from tradingflow.account_manager.trade import spending
from tradingflow.chain.vault import TokenPolicy
from tradingflow.core.errors import Refused
from tradingflow.db.models import Trade, VaultSpend

REPOSITORY = Path(__file__).resolve().parents[4]
# Copies what follows it into memory and reverts with it.
REVERT_WITH = "63{size:08x}80600e6000396000fd"
HOSTILE_REASONS = [("a\0b", "a\ufffdb"), ("x" * 1_000_000, "x" * 400)]


async def refusal_of(world: World, identity: str) -> str | None:
    await world.executor().advance(identity)
    trade = await world.trade(identity)
    assert trade.status == "failed"
    assert await world.transactions(identity) == []
    assert len(await world.told()) == 1
    return trade.failure_code


async def as_owner(world: World, function: str, *arguments: object) -> None:
    async with LocalVaults(world.anvil.url, REPOSITORY) as vaults:
        vault = vaults.deployer.at("Vault", world.vault)
        await vaults.deployer.send(vault.functions[function](*arguments))


async def test_paused_vault_refuses(world: World) -> None:
    await as_owner(world, "pause")
    assert await refusal_of(world, await world.request_trade()) == "trading_paused"


async def test_revoked_operator_refuses(world: World) -> None:
    await as_owner(world, "revokeOperator")
    assert await refusal_of(world, await world.request_trade()) == "operator_not_ours"


async def test_operator_that_is_somebody_else_refuses(world: World) -> None:
    await as_owner(world, "setOperator", operator_signer(6).address, 2**40)
    assert await refusal_of(world, await world.request_trade()) == "operator_not_ours"


async def test_forbidden_router_refuses(world: World) -> None:
    await as_owner(world, "setRouter", world.market.swap_router, 0)
    assert await refusal_of(world, await world.request_trade()) == "router_not_allowed"


async def test_forbidden_token_refuses(world: World) -> None:
    await as_owner(world, "setTokenPolicy", world.market.base_token, False, 0, 0)
    assert await refusal_of(world, await world.request_trade()) == "token_not_allowed"


async def test_more_than_the_balance_refuses(world: World) -> None:
    assert await refusal_of(world, await world.request_trade(20_000 * ONE_QUOTE)) == "balance_too_low"


async def test_more_than_a_trade_may_sell_refuses(world: World) -> None:
    await as_owner(world, "setTokenPolicy", world.market.quote_token, True, ONE_QUOTE, 10 * ONE_QUOTE)
    assert await refusal_of(world, await world.request_trade(2 * ONE_QUOTE)) == "per_trade_cap_exceeded"


def set_reverting_router(world: World, reason: str) -> None:
    """Any contract may revert with any words."""
    data = bytes.fromhex("08c379a0") + encode(["string"], [reason])
    code = bytes.fromhex(REVERT_WITH.format(size=len(data))) + data
    world.anvil.rpc("anvil_setCode", world.market.swap_router, "0x" + code.hex())


@pytest.mark.parametrize(("reason", "kept"), HOSTILE_REASONS, ids=["nul", "huge"])
async def test_hostile_reason_of_a_simulated_revert_ends_the_trade(world: World, reason: str, kept: str) -> None:
    set_reverting_router(world, reason)
    identity = await world.request_trade()
    assert await refusal_of(world, identity) == "reverted"
    assert (await world.trade(identity)).failure_detail == f"the contract reverted: {kept}"


@pytest.mark.parametrize(("reason", "kept"), HOSTILE_REASONS, ids=["nul", "huge"])
async def test_hostile_reason_of_a_mined_revert_ends_the_trade(world: World, reason: str, kept: str) -> None:
    world.anvil.rpc("evm_setAutomine", False)
    identity = await world.request_trade()
    await world.executor().advance(identity)
    set_reverting_router(world, reason)
    world.anvil.rpc("evm_mine")
    await world.executor().advance(identity)
    trade = await world.trade(identity)
    assert (trade.status, trade.failure_detail) == ("failed", f"the contract reverted: {kept}")


async def test_cool_down_refuses(world: World) -> None:
    await as_owner(world, "setCooldown", 3600)
    await world.executor().advance(await world.request_trade())
    identity = await world.request_trade()
    await world.executor().advance(identity)
    assert (await world.trade(identity)).failure_code == "cooldown_active"


async def test_slippage_of_the_whole_amount_refuses_before_the_vault_is_asked(world: World) -> None:
    identity = await world.request_trade(slippage_bps=10_000)
    assert await refusal_of(world, identity) == "min_amount_out_zero"
    assert "leaves nothing to insist on" in str((await world.trade(identity)).failure_detail)


async def test_day_cap_counts_what_is_signed_and_what_the_chain_says(world: World) -> None:
    await as_owner(world, "setTokenPolicy", world.market.quote_token, True, 10 * ONE_QUOTE, 25 * ONE_QUOTE)
    executor = world.executor()
    statuses = []
    for _ in range(3):
        identity = await world.request_trade(10 * ONE_QUOTE)
        await executor.advance(identity)
        statuses.append((await world.trade(identity)).failure_code)
    assert statuses == [None, None, "per_day_cap_exceeded"]
    assert await spent(world) == 20 * ONE_QUOTE


async def test_cap_is_given_back_by_a_trade_that_was_called_off(world: World) -> None:
    world.anvil.rpc("evm_setAutomine", False)
    identity = await world.request_trade(10 * ONE_QUOTE)
    executor = world.executor()
    await executor.advance(identity)
    assert await spent(world) == 10 * ONE_QUOTE
    world.clock.ahead_s += world.settings.trade_ttl_s + 1
    await executor.advance(identity)
    world.anvil.rpc("evm_mine")
    await executor.advance(identity)
    assert (await world.trade(identity)).status == "failed"
    assert await spent(world) == 0


async def test_writers_at_once_never_sign_for_more_than_the_cap(world: World) -> None:
    identity = await world.request_trade(7)
    trade = await world.trade(identity)
    policy = TokenPolicy(allowed=True, per_trade_cap=10, per_day_cap=700, spent_today=0)
    today = datetime.now(UTC).date()

    async def check() -> bool:
        try:
            async with world.sessions() as session, session.begin():
                await spending.reserve(session, trade, today, policy)
        except Refused:
            return False
        return True

    granted = sum(await asyncio.gather(*(check() for _ in range(300))))
    assert granted == 100
    assert await spent(world) == 700


async def spent(world: World) -> int:
    async with world.sessions() as session:
        found = await session.scalar(select(VaultSpend.spent))
    return found or 0


@pytest.mark.parametrize("spent_today", [701, 694])
async def test_first_check_of_a_day_counts_what_others_spent(world: World, spent_today: int) -> None:
    trade: Trade = await world.trade(await world.request_trade(7))
    policy = TokenPolicy(allowed=True, per_trade_cap=10, per_day_cap=700, spent_today=spent_today)
    async with world.sessions() as session, session.begin():
        with pytest.raises(Refused, match="per_day_cap_exceeded"):
            await spending.reserve(session, trade, datetime.now(UTC).date(), policy)
