"""Trades that wait, or wait again: how long, for whom, and what the chain has to say before they fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from unittest.mock import AsyncMock

import pytest
from eth_typing import HexStr
from sqlalchemy import delete, update
from sqlalchemy.ext.asyncio import AsyncSession
from web3.types import BlockIdentifier

from devstack.anvil import CHAIN_ID
from devstack.executor_world import ONE_BASE, ONE_QUOTE, World
from tests.integration.moving_market import rise_after_quotes, rise_before_quotes
from tradingflow.account_manager.relayer.healing import NonceHealer
from tradingflow.account_manager.relayer.relayer import Call, Intent, Relayer
from tradingflow.account_manager.relayer.repository import FILLER
from tradingflow.account_manager.relayer.transitions import TransactionStatus
from tradingflow.account_manager.trade import settlement
from tradingflow.account_manager.trade.desk import TradeDesk
from tradingflow.account_manager.trade.plan import Planner
from tradingflow.account_manager.trade.repository import Failure
from tradingflow.account_manager.trade.settlement import Settlement
from tradingflow.chain.transactions import mined_nonce
from tradingflow.chain.vault import VaultContract
from tradingflow.core.errors import DependencyUnavailable, Refused
from tradingflow.db.models import Cycle, NodeTask, Trade, Transaction, VaultSpend


@pytest.fixture
def desk(world: World) -> TradeDesk:
    return TradeDesk(world.settings, world.sessions, {CHAIN_ID: world.client}, world.clock)


async def outcome(world: World, identity: str) -> tuple[str, str | None]:
    trade = await world.trade(identity)
    return trade.status, trade.failure_code


async def test_a_trade_that_waited_longer_than_its_time_is_not_sent_any_more(world: World, desk: TradeDesk) -> None:
    identity = await world.request_trade(ONE_QUOTE)
    world.clock.ahead_s += world.settings.trade_ttl_s + 1
    world.anvil.rpc("evm_increaseTime", world.settings.trade_ttl_s + 1)
    await world.executor().advance(identity)
    assert await outcome(world, identity) == ("failed", "not_sent_in_time")
    assert await world.transactions(identity) == []
    assert len(await world.told()) == 1
    await desk.retry(identity)
    await world.executor().advance(identity)
    assert await outcome(world, identity) == ("completed", None)


@pytest.mark.parametrize(("status", "expected"), [("terminated", "failed"), ("running", "completed")])
async def test_a_trade_whose_node_was_ended_is_not_sent(
    world: World, desk: TradeDesk, status: str, expected: str
) -> None:
    identity = await world.request_trade(ONE_QUOTE)
    trade = await world.trade(identity)
    async with world.sessions.begin() as session:
        await add_task(session, trade, status)
    await world.executor().advance(identity)
    assert (await world.trade(identity)).status == expected
    if expected == "failed":
        assert await outcome(world, identity) == ("failed", "node_terminated")
        await desk.retry(identity)
        await world.executor().advance(identity)
        assert await outcome(world, identity) == ("completed", None)


async def add_task(session: AsyncSession, trade: Trade, status: str, finished_at: datetime | None = None) -> None:
    session.add(Cycle(flow_pk=trade.flow_pk, cycle=trade.cycle, version=1, fire_time=trade.created_at, status=status))
    await session.flush()
    ended_at = finished_at or trade.created_at
    session.add(
        NodeTask(flow_pk=trade.flow_pk, cycle=trade.cycle, node_id=trade.node_id, status=status, finished_at=ended_at)
    )


async def executed_and_forgotten(world: World) -> str:
    """What a node that hides receipts makes of a mined trade: its nonce seems to have gone to somebody else."""
    identity = await world.request_trade(ONE_QUOTE)
    await world.executor().advance(identity)
    async with world.sessions.begin() as session:
        dead = update(Transaction).where(Transaction.purpose_id == identity)
        await session.execute(dead.values(status=TransactionStatus.REPLACED, block_number=None, block_hash=None))
        blank = dict.fromkeys(("transaction_hash", "block_number", "block_hash", "amount_out", "settled_at"))
        await session.execute(update(Trade).where(Trade.id == identity).values(status="requested", **blank))
    return identity


async def test_refusal_of_a_trade_the_chain_executed_settles_it_from_the_chain(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own execution may be why it is refused."""
    identity = await executed_and_forgotten(world)
    refusal = AsyncMock(side_effect=Refused("cooldown_active", "the vault has just traded"))
    monkeypatch.setattr(Planner, "plan", refusal)
    await world.executor().advance(identity)
    assert await outcome(world, identity) == ("completed", None)


async def sent_once_more(world: World, identity: str) -> None:
    """The trade is under way in a second slot, in a node's pool or mined there, where the vault refuses it."""
    (dead,) = await world.transactions(identity)
    relayer = world.relayer()
    call = Call(world.client.web3.to_checksum_address(world.vault), await sent_data(world, dead), dead.gas_limit)
    fees = await relayer.fees(CHAIN_ID)
    async with world.sessions.begin() as session:
        again = await relayer.prepare(session, Intent("trade", identity, CHAIN_ID), dead.signer, call, fees)
        under_way = {"status": "submitted", "submitted_at": world.clock.now()}
        await session.execute(update(Trade).where(Trade.id == identity).values(**under_way))
    await relayer.broadcast(again)


async def sent_data(world: World, transaction: Transaction) -> bytes:
    sent = await world.client.web3.eth.get_transaction(HexStr(transaction.hash))
    return bytes(sent["input"])


async def test_a_trade_is_settled_that_an_older_slot_executed(world: World) -> None:
    """The newer one, refused for that, is still counted as alive."""
    identity = await executed_and_forgotten(world)
    await sent_once_more(world, identity)
    await world.executor().advance(identity)
    assert await outcome(world, identity) == ("completed", None)
    assert await slots(world, identity) == [("trade", "mined"), ("nonce_filler", "broadcast")]
    await NonceHealer(world.relayer()).heal(CHAIN_ID, world.signer.address)
    assert await slots(world, identity) == [("trade", "mined"), ("nonce_filler", "reverted")]


async def test_healing_goes_on_when_the_slot_it_filled_has_executed_its_trade(world: World) -> None:
    identity = await executed_and_forgotten(world)
    (dead,) = await world.transactions(identity)
    relayer = world.relayer()
    call, fees = relayer.empty_transfer(dead.signer), await relayer.fees(CHAIN_ID)
    filler = Intent(FILLER, f"{dead.signer}:{dead.nonce}", CHAIN_ID)
    async with world.sessions.begin() as session:
        await relayer.prepare_at(session, filler, dead.signer, dead.nonce, [dead], call, fees)
    world.anvil.rpc("evm_setAutomine", False)
    await sent_once_more(world, identity)
    await NonceHealer(relayer).heal(CHAIN_ID, dead.signer)
    assert await slots(world, identity) == [("nonce_filler", "mined"), ("trade", "broadcast")]
    world.anvil.rpc("evm_mine")
    await world.executor().advance(identity)
    assert await outcome(world, identity) == ("completed", None)
    world.anvil.rpc("anvil_reorg", 3, [])
    await world.executor().advance(identity)
    assert (await world.trade(identity)).status == "requested", "no slot is left to follow"


async def slots(world: World, identity: str) -> list[tuple[str, str]]:
    return [(transaction.purpose, transaction.status) for transaction in await world.transactions(identity)]


async def test_a_restored_backup_fails_no_trade_the_chain_executed(world: World) -> None:
    """The trade is older than its time, and what was sent for it is not in the backup."""
    identity = await executed_and_forgotten(world)
    async with world.sessions.begin() as session:
        await session.execute(delete(Transaction))
    world.clock.ahead_s += world.settings.trade_ttl_s + 1
    await world.executor().advance(identity)
    assert await outcome(world, identity) == ("completed", None)


async def test_a_trade_the_chain_executed_cannot_be_cancelled(world: World, desk: TradeDesk) -> None:
    identity = await executed_and_forgotten(world)
    await desk.cancel(identity)
    await world.executor().advance(identity)
    assert await outcome(world, identity) == ("completed", None)


async def fail(world: World, trade: Trade) -> None:
    await Settlement(world.relayer()).fail(trade, Failure("fee_ceiling", "as another executor saw it"))


async def cancel(world: World, trade: Trade) -> None:
    await TradeDesk(world.settings, world.sessions, {CHAIN_ID: world.client}, world.clock).cancel(trade.id)


async def terminate(world: World, trade: Trade) -> None:
    async with world.sessions.begin() as session:
        await add_task(session, trade, "terminated")


async def grow_old(world: World, _: Trade) -> None:
    world.clock.ahead_s += world.settings.trade_ttl_s + 1


@pytest.mark.parametrize("end", [fail, cancel, terminate, grow_old])
async def test_a_trade_that_was_ended_while_it_was_planned_is_not_sent(
    world: World, monkeypatch: pytest.MonkeyPatch, end: Callable[[World, Trade], Awaitable[None]]
) -> None:
    identity = await world.request_trade(ONE_QUOTE)
    waiting = await world.trade(identity)
    ensure = Relayer.ensure_nonces

    async def ended_meanwhile(relayer: Relayer, chain_id: int, signer: str) -> None:
        await end(world, waiting)
        await ensure(relayer, chain_id, signer)

    with monkeypatch.context() as patched:
        patched.setattr(Relayer, "ensure_nonces", ended_meanwhile)
        await world.executor().advance(identity)
    assert await world.transactions(identity) == []
    await world.executor().advance(identity)
    assert (await world.trade(identity)).status == "failed"
    assert await world.executions(identity) == 0


async def test_a_retried_trade_has_its_time_again_and_no_more(world: World, desk: TradeDesk) -> None:
    identity = await world.request_trade(20_000 * ONE_QUOTE)
    await world.executor().advance(identity)
    await desk.retry(identity)
    await grow_old(world, await world.trade(identity))
    await world.executor().advance(identity)
    assert await outcome(world, identity) == ("failed", "not_sent_in_time")
    await desk.retry(identity)
    trade = await world.trade(identity)
    async with world.sessions.begin() as session:
        await add_task(session, trade, "terminated", finished_at=world.clock.now() + timedelta(seconds=1))
    await world.executor().advance(identity)
    assert await outcome(world, identity) == ("failed", "node_terminated")


async def test_a_reopened_trade_is_not_its_own_successor(world: World) -> None:
    identity = await world.request_trade(ONE_QUOTE)
    async with world.sessions.begin() as session:
        await session.execute(update(Trade).values(settled_at=world.clock.now()))
    assert await world.executor().next_after(identity) is None


async def test_failure_with_dead_attempts_is_final_only_after_the_chain_was_asked_for_a_while(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = await executed_and_forgotten(world)
    monkeypatch.setattr(Planner, "plan", AsyncMock(side_effect=Refused("trading_paused", "by its owner")))
    with monkeypatch.context() as frozen:
        frozen.setattr(VaultContract, "trade_used", AsyncMock(return_value=False))
        await world.executor().advance(identity)
        await world.executor().advance(identity)
    assert await outcome(world, identity) == ("failed", "trading_paused")
    await world.executor().advance(identity)
    assert await outcome(world, identity) == ("completed", None)


async def test_failure_with_dead_attempts_is_final_in_the_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = await executed_and_forgotten(world)
    monkeypatch.setattr(Planner, "plan", AsyncMock(side_effect=Refused("trading_paused", "by its owner")))
    monkeypatch.setattr(VaultContract, "trade_used", AsyncMock(return_value=False))
    await world.executor().advance(identity)
    await world.executor().advance(identity)
    assert (await world.trade(identity)).finalized_at is None
    world.clock.ahead_s += 901
    await world.executor().advance(identity)
    assert (await world.trade(identity)).finalized_at is not None


async def test_reverted_trade_ends_although_no_node_keeps_its_state(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = await reverted(world)
    pruned = DependencyUnavailable("rpc_error", "missing trie node")
    monkeypatch.setattr(settlement, "replay", AsyncMock(side_effect=pruned))
    used = VaultContract.trade_used

    async def without_old_state(vault: VaultContract, trade_id: str, *, block: BlockIdentifier = "latest") -> bool:
        if block != "latest":
            raise pruned
        return await used(vault, trade_id)

    monkeypatch.setattr(VaultContract, "trade_used", without_old_state)
    world.anvil.rpc("anvil_mine", 100)
    await world.executor().advance(identity)
    assert await outcome(world, identity) == ("failed", "reverted")


async def test_cap_is_given_back_once_by_a_failure_that_a_reorg_undoes_and_makes_again(world: World) -> None:
    identity = await reverted(world)
    await world.executor().advance(identity)
    assert (await world.trade(identity)).status == "failed"
    assert await spent(world) == 0
    world.anvil.rpc("anvil_reorg", 2, [])
    await world.executor().advance(identity)
    assert (await world.trade(identity)).status == "submitted"
    assert await spent(world) == ONE_QUOTE


@pytest.mark.parametrize("is_settled_anew", [False, True])
async def test_nonce_of_a_retried_trade_that_a_reorg_takes_out_is_filled(
    world: World, desk: TradeDesk, *, is_settled_anew: bool
) -> None:
    """The trade is followed in its new slot only, which would wait for the old nonce for ever."""
    identity = await reverted(world)
    await world.executor().advance(identity)
    assert await outcome(world, identity) == ("failed", "trading_paused")
    await ask_as_owner(world, "unpause")
    world.anvil.rpc("evm_mine")
    await desk.retry(identity)
    await world.executor().advance(identity)
    if is_settled_anew:
        world.anvil.rpc("evm_mine")
        await world.executor().advance(identity)
        assert await outcome(world, identity) == ("completed", None)
    world.anvil.rpc("anvil_reorg", 3 if is_settled_anew else 2, [])
    assert await mined_nonce(world.client, world.signer.address) == 0
    healer = NonceHealer(world.relayer())
    for _ in range(6):
        await healer.heal(CHAIN_ID, world.signer.address)
        await world.executor().advance(identity)
        world.anvil.rpc("evm_mine")
        world.clock.ahead_s += 16
    assert await mined_nonce(world.client, world.signer.address) == 2
    await world.executor().advance(identity)
    assert await outcome(world, identity) == ("completed", None)
    assert await world.executions(identity) == 1


async def reverted(world: World) -> str:
    """A trade whose attempt is mined after the owner paused the vault."""
    world.anvil.rpc("evm_setAutomine", False)
    identity = await world.request_trade(ONE_QUOTE)
    await world.executor().advance(identity)
    await ask_as_owner(world, "pause")
    world.anvil.rpc("evm_mine")
    return identity


async def ask_as_owner(world: World, function: str) -> None:
    """The vault's owner calls a function without arguments, ahead of whatever else waits."""
    vault = world.client.web3.to_checksum_address(world.vault)
    data = world.client.contract("Vault", world.vault).encode_abi(function, [])
    first = {"from": world.owner, "to": vault, "data": data, "maxPriorityFeePerGas": hex(50 * 10**9)}
    world.anvil.rpc("eth_sendTransaction", first | {"maxFeePerGas": hex(100 * 10**9)})


async def spent(world: World) -> int:
    async with world.sessions() as session:
        row = await session.get(VaultSpend, (CHAIN_ID, world.vault, world.market.quote_token, datetime.now(UTC).date()))
    return row.spent if row else 0


@pytest.mark.parametrize("sell_base", [True, False])
async def test_market_that_moves_around_the_quote_refuses_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, *, sell_base: bool
) -> None:
    """What the quote says and what the simulation says come from one block: no dearer one, and no cheaper one."""
    (rise_before_quotes if sell_base else rise_after_quotes)(world, monkeypatch)
    amount = ONE_BASE // 100 if sell_base else ONE_QUOTE
    trade = await world.trade(await world.request_trade(amount, sell_base=sell_base))
    plan = await Planner(world.relayer()).plan(trade)
    assert plan.min_amount_out > 0
