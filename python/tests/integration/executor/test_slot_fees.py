"""What another attempt at a slot pays, and what happens where none can be paid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select, update
from web3.types import BlockIdentifier

from devstack.anvil import CHAIN_ID
from devstack.executor_world import ONE_QUOTE, World
from tradingflow.account_manager.relayer import repository
from tradingflow.account_manager.relayer.healing import NonceHealer
from tradingflow.account_manager.relayer.steps import Reached, Step
from tradingflow.account_manager.trade.desk import TradeDesk
from tradingflow.account_manager.vault.deployment import VaultDeployer
from tradingflow.chain.fees import WEI_PER_GWEI
from tradingflow.chain.vault import Swap, VaultContract
from tradingflow.core.errors import DependencyUnavailable
from tradingflow.db.models import Signer, Transaction

REPOSITORY = Path(__file__).resolve().parents[4]
ETHER = 10**18


def set_purse(world: World, wei: int) -> None:
    world.anvil.rpc("anvil_setBalance", world.signer.address, hex(wei))


def set_base_fee(world: World, wei: int) -> None:
    world.anvil.rpc("anvil_setNextBlockBaseFeePerGas", hex(wei))
    world.anvil.rpc("evm_mine")


def pass_time(world: World, seconds: int) -> None:
    """For us and for the chain."""
    world.clock.ahead_s += seconds
    world.anvil.rpc("evm_increaseTime", seconds)


def with_ceiling(world: World, gwei: int) -> World:
    return replace(world, settings=world.settings.model_copy(update={"max_fee_per_gas_gwei": gwei}))


def drop(world: World, transaction: Transaction) -> None:
    world.anvil.rpc("anvil_dropTransaction", transaction.hash)


async def test_fees_do_not_climb_while_the_purse_is_empty_and_the_nonce_is_free_once_it_is_filled(world: World) -> None:
    """It was emptied between the signature and the sending."""
    identity = await world.request_trade(ONE_QUOTE)
    await world.executor(emptying_purse_at(world, Step.PREPARED)).advance(identity)
    executor = world.executor()
    for _ in range(25):
        await executor.advance(identity)
        pass_time(world, 31)
    attempts = await world.transactions(identity)
    assert {attempt.status for attempt in attempts} == {"dropped"}
    assert attempts[1].gives_up, "others wait behind the nonce, so the trade does not wait for its time to be over"
    assert len(attempts) < 12, "an attempt nobody holds is sent again, not replaced, while it may still be mined"
    assert max(a.max_fee_per_gas for a in attempts) <= attempts[0].max_fee_per_gas * 2
    set_purse(world, ETHER)
    await executor.advance(identity)
    ended = await world.trade(identity)
    assert (ended.status, ended.failure_code) == ("failed", "operator_cannot_pay")
    following = await world.request_trade(ONE_QUOTE)
    await executor.advance(following)
    assert (await world.trade(following)).status == "completed"


def emptying_purse_at(world: World, step: Step) -> Reached:
    def reached(now: Step) -> None:
        if now is step:
            set_purse(world, 0)

    return reached


async def test_a_trade_the_purse_does_not_cover_waits_and_holds_up_no_other_vault(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (other,) = await world.open_vaults(1, REPOSITORY)
    estimate = VaultContract.estimate_swap

    async def heavy_for_one(vault: VaultContract, swap: Swap, sender: str, *, block: BlockIdentifier) -> int:
        return 2_000_000 if vault.address == world.vault else await estimate(vault, swap, sender, block=block)

    monkeypatch.setattr(VaultContract, "estimate_swap", heavy_for_one)
    heavy, plain = await world.request_trade(), await world.request_trade(vault=other)
    set_purse(world, 1_000_000 * (await world.relayer().fees(CHAIN_ID)).max_fee)
    executor = world.executor()
    with pytest.raises(DependencyUnavailable, match="operator_cannot_pay"):
        await executor.advance(heavy)
    await executor.advance(plain)
    assert (await world.trade(plain)).status == "completed"
    assert (await world.trade(heavy)).status == "requested"
    set_purse(world, ETHER)
    await executor.advance(heavy)
    assert (await world.trade(heavy)).status == "completed"


async def test_the_purse_counts_what_is_signed_until_it_is_mined(world: World) -> None:
    (other,) = await world.open_vaults(1, REPOSITORY)
    first, second = await world.request_trade(), await world.request_trade(vault=other)
    world.anvil.rpc("evm_setAutomine", False)
    executor = world.executor()
    await executor.advance(first)
    (signed,) = await world.transactions(first)
    set_purse(world, signed.gas_limit * signed.max_fee_per_gas * 3 // 2)
    with pytest.raises(DependencyUnavailable, match="operator_cannot_pay"):
        await executor.advance(second)
    world.anvil.rpc("evm_mine")
    world.anvil.rpc("evm_setAutomine", True)
    await executor.advance(second)
    assert (await world.trade(second)).status == "completed"
    assert (await world.trade(first)).status == "submitted", "mined, and nobody has looked since"


async def test_attempt_at_the_ceiling_is_sent_again_when_the_node_dropped_it(world: World) -> None:
    set_base_fee(world, 2 * WEI_PER_GWEI)
    held = with_ceiling(world, 4)
    world.anvil.rpc("evm_setAutomine", False)
    identity = await held.request_trade(ONE_QUOTE)
    executor = held.executor()
    for _ in range(4):
        await executor.advance(identity)
        pass_time(world, 31)
    attempts = await world.transactions(identity)
    assert attempts[-1].max_fee_per_gas == 4 * WEI_PER_GWEI
    for attempt in attempts:
        drop(world, attempt)
    await executor.advance(identity)
    world.anvil.rpc("evm_mine")
    await executor.advance(identity)
    assert (await world.trade(identity)).status == "completed"
    assert await world.executions(identity) == 1


async def sent_and_dropped(world: World) -> str:
    """A trade whose one attempt no node holds any more, on a chain that mines when told to."""
    set_base_fee(world, 2 * WEI_PER_GWEI)
    world.anvil.rpc("evm_setAutomine", False)
    identity = await world.request_trade(ONE_QUOTE)
    await world.executor().advance(identity)
    (attempt,) = await world.transactions(identity)
    drop(world, attempt)
    return identity


async def test_attempt_is_sent_again_while_the_market_asks_for_more_than_we_pay(world: World) -> None:
    identity = await sent_and_dropped(world)
    world.clock.ahead_s += 31
    poor = with_ceiling(world, 1)
    await poor.executor().advance(identity)
    assert len(await world.transactions(identity)) == 1
    world.anvil.rpc("evm_mine")
    await poor.executor().advance(identity)
    assert (await world.trade(identity)).status == "completed"


async def test_trade_called_off_is_not_said_again_and_loses_its_nonce_at_once(world: World) -> None:
    identity = await sent_and_dropped(world)
    await TradeDesk(world.settings, world.sessions, {CHAIN_ID: world.client}, world.clock).cancel(identity)
    world.clock.ahead_s += 11
    await with_ceiling(world, 1).executor().advance(identity)
    world.anvil.rpc("evm_mine")
    assert await world.executions(identity) == 0, "the market was too dear for the empty transfer, not for silence"
    await world.executor().advance(identity)
    world.anvil.rpc("evm_mine")
    await world.executor().advance(identity)
    ended = await world.trade(identity)
    assert (ended.status, ended.failure_code) == ("failed", "cancelled_by_operator")
    assert [a.gives_up for a in await world.transactions(identity)] == [False, True]


async def test_gap_is_filled_at_the_markets_fee_once_the_purse_is_filled(world: World) -> None:
    await world.executor().advance(await world.request_trade(ONE_QUOTE))
    async with world.sessions.begin() as session:
        await session.execute(update(Signer).values(next_nonce=Signer.next_nonce + 1))
    set_purse(world, 0)
    healer = NonceHealer(world.relayer())
    for _ in range(20):
        await healer.heal(CHAIN_ID, world.signer.address)
        world.clock.ahead_s += 31
    set_purse(world, ETHER)
    await healer.heal(CHAIN_ID, world.signer.address)
    await healer.heal(CHAIN_ID, world.signer.address)
    async with world.sessions() as session:
        fillers = list(await session.scalars(select(Transaction).where(Transaction.purpose == repository.FILLER)))
    assert [filler.status for filler in fillers] == ["mined"]


async def test_vault_is_created_once_the_purse_is_filled(world: World) -> None:
    deployment_id = await world.queue_deployment("poor")
    set_purse(world, 0)
    deployer = VaultDeployer(world.relayer())
    for _ in range(20):
        await deployer.advance(deployment_id)
        world.clock.ahead_s += 31
    set_purse(world, ETHER)
    await deployer.advance(deployment_id)
    await deployer.advance(deployment_id)
    assert (await world.deployment(deployment_id)).status == "verified"
    assert len(await world.transactions(str(deployment_id))) == 1


@pytest.mark.parametrize("gas", [100_000, 400_000])
async def test_a_trade_that_burns_more_gas_than_the_chain_allows_is_refused(world: World, gas: int) -> None:
    chain = world.client.settings
    world.client.settings = chain.model_copy(update={"max_trade_gas": gas})
    identity = await world.request_trade(ONE_QUOTE)
    await world.executor().advance(identity)
    ended = await world.trade(identity)
    assert (ended.status, ended.failure_code) == (("failed", "gas_too_high") if gas == 100_000 else ("completed", None))
