"""What may go wrong between a decision and a final receipt, one at a time."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import AsyncMock
from uuid import UUID

import pytest
from sqlalchemy import delete, update
from sqlalchemy.exc import IntegrityError
from web3.types import BlockIdentifier

from devstack.anvil import CHAIN_ID
from devstack.executor_world import ONE_QUOTE, World
from tradingflow.account_manager.relayer import healing
from tradingflow.account_manager.relayer import repository as transactions
from tradingflow.account_manager.relayer.healing import NonceHealer
from tradingflow.account_manager.relayer.relayer import Intent, Relayer, Taken
from tradingflow.account_manager.relayer.steps import Step
from tradingflow.account_manager.trade import settlement
from tradingflow.account_manager.trade.repository import Failure
from tradingflow.account_manager.trade.settlement import Settlement
from tradingflow.account_manager.vault import deployment, deployment_repository
from tradingflow.account_manager.vault.deployment import VaultDeployer
from tradingflow.chain.client import ChainClient
from tradingflow.chain.factory import VaultFactoryContract
from tradingflow.chain.send_outcome import SendOutcome
from tradingflow.chain.transactions import mined_nonce
from tradingflow.core.errors import DependencyUnavailable
from tradingflow.db.models import Signer, Trade, Transaction, Vault


class Crash(BaseException):
    """The process dies here."""


def crash_at(step: Step) -> Any:
    def reached(now: Step) -> None:
        if now is step:
            raise Crash

    return reached


async def test_trade_survives_a_crash_at_each_step_and_is_mined_once(world: World) -> None:
    steps = [s for s in Step if not s.startswith("replacement") and s is not Step.FINALIZED]
    for step in steps:
        identity = await world.request_trade(ONE_QUOTE)
        with pytest.raises(Crash):
            await world.executor(crash_at(step)).advance(identity)
        await world.executor().advance(identity)
        assert (await world.trade(identity)).status == "completed", step
        assert await world.executions(identity) == 1, step
        assert [t.status for t in await world.transactions(identity)] == ["mined"], step
    assert len(await world.told()) == len(steps)


async def test_many_executors_at_once_send_one_transaction(world: World) -> None:
    identity = await world.request_trade(ONE_QUOTE)
    await asyncio.gather(*(world.executor().advance(identity) for _ in range(8)))
    assert (await world.trade(identity)).status == "completed"
    assert len(await world.transactions(identity)) == 1
    assert len(await world.told()) == 1


async def test_refusal_found_with_an_old_view_does_not_end_a_trade_under_way(world: World) -> None:
    identity = await world.request_trade(ONE_QUOTE)
    old_view = await world.trade(identity)
    world.anvil.rpc("evm_setAutomine", False)
    await world.executor().advance(identity)
    await Settlement(world.relayer()).fail(old_view, Failure("cooldown_active", "its own transaction, seen as pending"))
    assert (await world.trade(identity)).status == "submitted"
    world.anvil.rpc("evm_mine")
    await world.executor().advance(identity)
    assert (await world.trade(identity)).status == "completed"
    assert await world.executions(identity) == 1


async def test_deployment_another_executor_has_under_way_is_not_called_failed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment_id = await world.queue_deployment("slow")
    old_view = await world.deployment(deployment_id)
    world.anvil.rpc("evm_setAutomine", False)
    await VaultDeployer(world.relayer()).advance(deployment_id)
    with monkeypatch.context() as patched:
        patched.setattr(deployment_repository, "find", AsyncMock(return_value=old_view))
        await VaultDeployer(world.relayer()).advance(deployment_id)
    assert (await world.deployment(deployment_id)).status == "broadcast"
    world.anvil.rpc("evm_mine")
    await VaultDeployer(world.relayer()).advance(deployment_id)
    assert (await world.deployment(deployment_id)).status == "verified"


async def test_deployment_that_started_over_is_not_started_over_again_with_an_old_view(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would leave the new slot to nobody."""
    deployment_id = await world.queue_deployment("twice")
    world.anvil.rpc("evm_setAutomine", False)
    await VaultDeployer(world.relayer()).advance(deployment_id)
    old = await world.transactions(str(deployment_id))
    await lose_the_nonce_of(world, str(deployment_id))
    world.anvil.rpc("evm_setAutomine", False)
    for _ in range(3):
        await VaultDeployer(world.relayer()).advance(deployment_id)
        world.clock.ahead_s += 16
    new = (await world.transactions(str(deployment_id)))[-1]
    assert new.nonce > old[0].nonce
    attempts = AsyncMock(side_effect=[old, [new]])
    monkeypatch.setattr(Relayer, "look", AsyncMock(return_value=Taken()))
    monkeypatch.setattr(transactions, "slot_attempts", attempts)
    await VaultDeployer(world.relayer()).advance(deployment_id)
    assert (await world.deployment(deployment_id)).status == "broadcast"


async def test_deployment_is_not_called_failed_by_a_node_that_is_behind(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment_id = await mined_deployment(world, monkeypatch)
    with monkeypatch.context() as patched:
        patched.setattr(ChainClient, "code_at", AsyncMock(return_value=b""))
        await VaultDeployer(world.relayer()).advance(deployment_id)
    assert (await world.deployment(deployment_id)).status == "mined"
    await VaultDeployer(world.relayer()).advance(deployment_id)
    await verified_vault(world, deployment_id)


async def test_deployment_that_a_reorg_takes_out_before_it_is_verified_is_mined_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment_id = await mined_deployment(world, monkeypatch)
    world.anvil.rpc("anvil_reorg", 1, [])
    with monkeypatch.context() as patched:
        patched.setattr(deployment, "block_hash", AsyncMock(return_value=None))
        await VaultDeployer(world.relayer()).advance(deployment_id)
    assert (await world.deployment(deployment_id)).status == "mined", "a node that knows no block there tells nothing"
    await VaultDeployer(world.relayer()).advance(deployment_id)
    assert (await world.deployment(deployment_id)).status == "broadcast"
    world.clock.ahead_s += 11
    for _ in range(2):
        await VaultDeployer(world.relayer()).advance(deployment_id)
    await verified_vault(world, deployment_id)


async def mined_deployment(world: World, monkeypatch: pytest.MonkeyPatch) -> UUID:
    """A deployment whose verification was asked of a node that is a block behind."""

    async def behind(_: VaultFactoryContract, __: str, *, block: BlockIdentifier = "latest") -> bool:
        if block != "latest":
            raise DependencyUnavailable("rpc_error", "header not found")
        return False

    deployment_id = await world.queue_deployment("behind")
    with monkeypatch.context() as patched:
        patched.setattr(VaultFactoryContract, "is_vault", behind)
        with pytest.raises(DependencyUnavailable):
            await VaultDeployer(world.relayer()).advance(deployment_id)
    assert (await world.deployment(deployment_id)).status == "mined"
    return deployment_id


async def test_mined_deployment_is_not_started_over_with_an_old_view(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment_id = await mined_deployment(world, monkeypatch)
    old_view = await world.deployment(deployment_id)
    old_view.status = "broadcast"
    with monkeypatch.context() as patched:
        patched.setattr(deployment_repository, "find", AsyncMock(return_value=old_view))
        patched.setattr(Relayer, "look", AsyncMock(return_value=Taken()))
        await VaultDeployer(world.relayer()).advance(deployment_id)
    assert (await world.deployment(deployment_id)).status == "mined"


async def test_vault_of_somebody_else_that_is_gone_is_created_by_us(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment_id = await world.queue_deployment("foreign")
    with monkeypatch.context() as patched:
        patched.setattr(VaultFactoryContract, "is_vault", AsyncMock(side_effect=[True, False]))
        await VaultDeployer(world.relayer()).advance(deployment_id)
    assert (await world.deployment(deployment_id)).status == "queued"
    await VaultDeployer(world.relayer()).advance(deployment_id)
    await verified_vault(world, deployment_id)


async def test_deployment_whose_transaction_reverted_has_failed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    deployment_id = await world.queue_deployment("starved")
    monkeypatch.setattr(deployment, "estimate_gas", AsyncMock(return_value=30_000))
    await VaultDeployer(world.relayer()).advance(deployment_id)
    ended = await world.deployment(deployment_id)
    assert (ended.status, ended.failure_code) == ("failed", "not_created")


async def test_trades_of_one_vault_go_out_one_after_the_other(world: World) -> None:
    world.anvil.rpc("evm_setAutomine", False)
    first, second = await world.request_trade(ONE_QUOTE), await world.request_trade(ONE_QUOTE)
    executor = world.executor()
    await executor.advance(second)
    await executor.advance(first)
    await executor.advance(second)
    assert [(await world.trade(i)).status for i in (first, second)] == ["submitted", "requested"]
    assert await executor.next_after(first) is None
    world.anvil.rpc("evm_mine")
    await executor.advance(first)
    assert await executor.next_after(first) == second


async def test_database_refuses_a_second_live_slot_for_one_trade(world: World) -> None:
    world.anvil.rpc("evm_setAutomine", False)
    identity = await world.request_trade(ONE_QUOTE)
    await world.executor().advance(identity)
    relayer = world.relayer()
    call, fees = relayer.empty_transfer(world.signer.address), await relayer.fees(CHAIN_ID)
    async with world.sessions() as session, session.begin():
        with pytest.raises(IntegrityError, match="uq_transactions_live_slot"):
            await relayer.prepare(session, Intent("trade", identity, CHAIN_ID), world.signer.address, call, fees)
        await session.rollback()


async def test_database_refuses_a_second_trade_in_flight_for_one_vault(world: World) -> None:
    world.anvil.rpc("evm_setAutomine", False)
    first, second = await world.request_trade(ONE_QUOTE), await world.request_trade(ONE_QUOTE)
    await world.executor().advance(first)
    async with world.sessions() as session:
        with pytest.raises(IntegrityError, match="uq_trades_in_flight"):
            await session.execute(update(Trade).where(Trade.id == second).values(status="submitted"))


async def test_overdue_attempt_is_replaced_with_both_fees_raised_by_a_tenth(world: World) -> None:
    world.anvil.rpc("evm_setAutomine", False)
    identity = await world.request_trade(ONE_QUOTE)
    executor = world.executor()
    await executor.advance(identity)
    world.clock.ahead_s += world.settings.replace_after_s + 1
    await executor.advance(identity)
    first, second = await world.transactions(identity)
    assert first.nonce == second.nonce
    assert second.max_fee_per_gas * 10 >= first.max_fee_per_gas * 11
    assert second.max_priority_fee_per_gas * 10 >= first.max_priority_fee_per_gas * 11
    world.anvil.rpc("evm_mine")
    await executor.advance(identity)
    assert [t.status for t in await world.transactions(identity)] == ["replaced", "mined"]
    assert (await world.trade(identity)).transaction_hash == second.hash


async def test_earlier_attempt_may_be_the_one_that_is_mined(world: World) -> None:
    world.anvil.rpc("evm_setAutomine", False)
    identity = await world.request_trade(ONE_QUOTE)
    executor = world.executor()
    await executor.advance(identity)
    world.clock.ahead_s += world.settings.replace_after_s + 1
    # The replacement is signed and stored, and the process dies before any node hears of it.
    with pytest.raises(Crash):
        await world.executor(crash_at(Step.REPLACEMENT_PREPARED)).advance(identity)
    world.anvil.rpc("evm_mine")
    await executor.advance(identity)
    assert [t.status for t in await world.transactions(identity)] == ["mined", "replaced"]
    assert await world.executions(identity) == 1


async def test_transaction_a_node_dropped_is_sent_again(world: World) -> None:
    world.anvil.rpc("evm_setAutomine", False)
    identity = await world.request_trade(ONE_QUOTE)
    executor = world.executor()
    await executor.advance(identity)
    (transaction,) = await world.transactions(identity)
    world.anvil.rpc("anvil_dropTransaction", transaction.hash)
    world.clock.ahead_s += 11
    await executor.advance(identity)
    world.anvil.rpc("evm_mine")
    await executor.advance(identity)
    assert (await world.trade(identity)).status == "completed"
    assert len(await world.transactions(identity)) == 1


async def test_trade_not_mined_in_time_is_called_off_and_its_nonce_is_taken(world: World) -> None:
    world.anvil.rpc("evm_setAutomine", False)
    identity = await world.request_trade(ONE_QUOTE)
    executor = world.executor()
    await executor.advance(identity)
    world.clock.ahead_s += world.settings.trade_ttl_s + 1
    await executor.advance(identity)
    world.anvil.rpc("evm_mine")
    await executor.advance(identity)
    trade = await world.trade(identity)
    assert (trade.status, trade.failure_code) == ("failed", "not_mined_in_time")
    assert await world.executions(identity) == 0
    assert [(t.status, t.gives_up) for t in await world.transactions(identity)] == [
        ("replaced", False),
        ("mined", True),
    ]


async def test_nonce_taken_by_a_foreign_transaction_gives_the_trade_another_one(world: World) -> None:
    world.anvil.rpc("evm_setAutomine", False)
    identity = await world.request_trade(ONE_QUOTE)
    executor = world.executor()
    await executor.advance(identity)
    await lose_the_nonce_of(world, identity)
    for _ in range(3):
        await executor.advance(identity)
    assert (await world.trade(identity)).status == "submitted", "looks within seconds are not enough: nodes lag"
    world.clock.ahead_s += 16
    await executor.advance(identity)
    await executor.advance(identity)
    assert (await world.trade(identity)).status == "completed"
    assert [t.status for t in await world.transactions(identity)] == ["replaced", "mined"]
    assert await world.executions(identity) == 1


async def test_a_trade_called_off_is_not_sent_again_when_its_nonce_went_to_somebody_else(world: World) -> None:
    world.anvil.rpc("evm_setAutomine", False)
    identity = await world.request_trade(ONE_QUOTE)
    executor = world.executor()
    await executor.advance(identity)
    called_off = {"failure_code": "cancelled", "failure_detail": "by its owner"}
    async with world.sessions.begin() as session:
        await session.execute(update(Trade).where(Trade.id == identity).values(**called_off))
    await lose_the_nonce_of(world, identity)
    await executor.advance(identity)
    world.clock.ahead_s += 16
    for _ in range(3):
        await executor.advance(identity)
    ended = await world.trade(identity)
    assert (ended.status, ended.failure_code) == ("failed", "cancelled")
    assert await world.executions(identity) == 0


async def test_a_node_that_is_behind_is_no_reorg(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = await world.request_trade(ONE_QUOTE)
    await world.executor().advance(identity)
    monkeypatch.setattr(settlement, "block_hash", AsyncMock(return_value=None))
    await world.executor().advance(identity)
    assert (await world.trade(identity)).status == "completed"


async def test_receipt_that_a_reorg_takes_away_goes_back_to_pending_and_is_settled_again(world: World) -> None:
    identity = await world.request_trade(ONE_QUOTE)
    executor = world.executor()
    await executor.advance(identity)
    settled = await world.trade(identity)
    world.anvil.rpc("anvil_reorg", 2, [])
    await executor.advance(identity)
    reopened = await world.trade(identity)
    assert (reopened.status, reopened.transaction_hash) == ("submitted", None)
    world.clock.ahead_s += 11
    await executor.advance(identity)
    await executor.advance(identity)
    again = await world.trade(identity)
    assert again.status == "completed"
    assert again.block_hash != settled.block_hash
    assert await world.executions(identity) == 1


async def test_settled_trade_is_final_once_its_block_is_deep_enough(world: World) -> None:
    identity = await world.request_trade(ONE_QUOTE)
    executor = world.executor()
    await executor.advance(identity)
    await executor.advance(identity)
    assert (await world.trade(identity)).finalized_at is None
    world.anvil.rpc("anvil_mine", 8)
    await executor.advance(identity)
    assert (await world.trade(identity)).finalized_at is not None


async def test_trade_the_chain_has_executed_already_is_settled_from_its_event(world: World) -> None:
    """The database was restored from before the trade: nothing may be sent again."""
    identity = await world.request_trade(ONE_QUOTE)
    executor = world.executor()
    await executor.advance(identity)
    mined = await world.trade(identity)
    async with world.sessions() as session, session.begin():
        await session.execute(delete(Transaction))
        blank = dict.fromkeys(("transaction_hash", "block_number", "block_hash", "amount_out", "settled_at"))
        await session.execute(update(Trade).values(status="requested", **blank))
    await executor.advance(identity)
    trade = await world.trade(identity)
    assert (trade.status, trade.amount_out) == ("completed", mined.amount_out)
    assert trade.transaction_hash == mined.transaction_hash
    assert await world.transactions(identity) == []


async def test_lost_row_of_a_nonce_is_filled_so_that_those_behind_it_go_on(world: World) -> None:
    await world.executor().advance(await world.request_trade(ONE_QUOTE))
    async with world.sessions() as session, session.begin():
        await session.execute(update(Signer).values(next_nonce=Signer.next_nonce + 2))
    identity = await world.request_trade(ONE_QUOTE)
    executor = world.executor()
    await executor.advance(identity)
    assert (await world.trade(identity)).status == "submitted"
    await NonceHealer(world.relayer()).heal(CHAIN_ID, world.signer.address)
    await executor.advance(identity)
    assert (await world.trade(identity)).status == "completed"


async def test_a_filler_that_a_reorg_took_out_is_mined_again(world: World) -> None:
    """Nobody follows it once it was mined, and everything behind it would wait."""
    await world.executor().advance(await world.request_trade(ONE_QUOTE))
    async with world.sessions.begin() as session:
        await session.execute(update(Signer).values(next_nonce=Signer.next_nonce + 1))
    healer = NonceHealer(world.relayer())
    for _ in range(2):
        await healer.heal(CHAIN_ID, world.signer.address)
    assert await mined_nonce(world.client, world.signer.address) == 2
    world.anvil.rpc("anvil_reorg", 1, [])
    assert await mined_nonce(world.client, world.signer.address) == 1
    identity = await world.request_trade(ONE_QUOTE)
    for _ in range(4):
        await world.executor().advance(identity)
        await healer.heal(CHAIN_ID, world.signer.address)
        world.clock.ahead_s += 16
    await world.executor().advance(identity)
    assert (await world.trade(identity)).status == "completed"


async def test_a_verified_vault_that_a_reorg_took_out_is_created_again(world: World) -> None:
    """Its owner was told the address, and may send money there."""
    deployment_id = await world.queue_deployment("undone")
    deployer, healer = VaultDeployer(world.relayer()), NonceHealer(world.relayer())
    await deployer.advance(deployment_id)
    address = (await world.deployment(deployment_id)).predicted_address
    first = await verified_vault(world, deployment_id)
    world.anvil.rpc("anvil_reorg", 1, [])
    assert await world.client.code_at(address) == b""
    for _ in range(3):
        await healer.heal(CHAIN_ID, world.signer.address)
        world.clock.ahead_s += 16
    assert (await world.deployment(deployment_id)).status == "broadcast"
    for _ in range(2):
        await deployer.advance(deployment_id)
    assert await world.client.code_at(address) != b""
    again = await verified_vault(world, deployment_id)
    assert (again.id, again.created_block) == (first.id, first.created_block + 1)
    attempts = await world.transactions(str(deployment_id))
    assert {attempt.purpose for attempt in attempts} == {"vault_deployment"}


async def test_a_vault_verified_while_its_transaction_was_sent_stays_verified(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment_id = await world.queue_deployment("overtaken")
    steps: list[Step] = []
    broadcast = Relayer.broadcast

    async def overtaken(relayer: Relayer, transaction: Transaction) -> SendOutcome:
        outcome = await broadcast(relayer, transaction)
        await VaultDeployer(world.relayer(steps.append)).advance(deployment_id)
        assert (await world.deployment(deployment_id)).status == "verified"
        return outcome

    monkeypatch.setattr(Relayer, "broadcast", overtaken)
    await VaultDeployer(world.relayer(steps.append)).advance(deployment_id)
    await verified_vault(world, deployment_id)
    assert steps.count(Step.SETTLED) == 1


async def verified_vault(world: World, deployment_id: UUID) -> Vault:
    """The one vault of a deployment, which is verified."""
    ended = await world.deployment(deployment_id)
    assert ended.status == "verified"
    (vault,) = [vault for vault in await world.vaults() if vault.address == ended.predicted_address]
    return vault


async def test_signer_used_elsewhere_goes_on_after_the_chains_nonce(world: World) -> None:
    await world.executor().advance(await world.request_trade(ONE_QUOTE))
    for _ in range(3):
        await send_foreign(world)
    before = await world.next_nonce()
    healer = NonceHealer(world.relayer())
    await healer.heal(CHAIN_ID, world.signer.address)
    assert await world.next_nonce() == before, "one answer is not enough: nodes err"
    world.clock.ahead_s += 16
    await healer.heal(CHAIN_ID, world.signer.address)
    assert await world.next_nonce() == before + 3
    identity = await world.request_trade(ONE_QUOTE)
    await world.executor().advance(identity)
    assert (await world.trade(identity)).status == "completed"


async def test_a_nonce_beyond_belief_is_not_followed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every nonce left out would have to be filled by a transaction that is paid for."""
    before = await claim_more_mined(world, monkeypatch, 1_001)
    healer = NonceHealer(world.relayer())
    await healer.heal(CHAIN_ID, world.signer.address)
    world.clock.ahead_s += 16
    await healer.heal(CHAIN_ID, world.signer.address)
    assert await world.next_nonce() == before


async def test_a_nonce_beyond_belief_is_followed_when_it_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a restored backup: otherwise the signer would never trade again."""
    before = await claim_more_mined(world, monkeypatch, 1_001)
    healer = NonceHealer(world.relayer())
    for _ in range(21):
        await healer.heal(CHAIN_ID, world.signer.address)
        world.clock.ahead_s += 30
    assert await world.next_nonce() == before + 1_001


async def test_two_looks_far_apart_are_not_one_observation(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = await claim_more_mined(world, monkeypatch, 3)
    healer = NonceHealer(world.relayer())
    for _ in range(2):
        await healer.heal(CHAIN_ID, world.signer.address)
        world.clock.ahead_s += 3600
    assert await world.next_nonce() == before


async def test_gaps_are_filled_some_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.executor().advance(await world.request_trade(ONE_QUOTE))
    async with world.sessions.begin() as session:
        await session.execute(update(Signer).values(next_nonce=Signer.next_nonce + 5))
    monkeypatch.setattr(healing, "MOST_FILLED", 2)
    healer = NonceHealer(world.relayer())
    counts = []
    for _ in range(3):
        await healer.heal(CHAIN_ID, world.signer.address)
        counts.append(await mined_nonce(world.client, world.signer.address))
    assert counts == [3, 5, 6]


async def claim_more_mined(world: World, monkeypatch: pytest.MonkeyPatch, more: int) -> int:
    """From now on the chain claims so many transactions more than ours; the nonce that is ours to give next."""
    await world.executor().advance(await world.request_trade(ONE_QUOTE))
    following = await world.next_nonce()
    monkeypatch.setattr(healing, "mined_nonce", AsyncMock(return_value=following + more))
    return following


async def lose_the_nonce_of(world: World, identity: str) -> None:
    """What the trade sent is dropped, and a foreign transaction is mined in its place."""
    (ours,) = await world.transactions(identity)
    world.anvil.rpc("anvil_dropTransaction", ours.hash)
    await send_foreign(world, ours.nonce)
    world.anvil.rpc("evm_setAutomine", True)


async def send_foreign(world: World, nonce: int | None = None) -> None:
    """Somebody else uses the operator's key."""
    transaction: dict[str, Any] = {"from": world.signer.address, "to": world.signer.address, "value": "0x1"}
    if nonce is not None:
        transaction["nonce"] = hex(nonce)
    world.anvil.rpc("eth_sendTransaction", transaction)
    world.anvil.rpc("evm_mine")
