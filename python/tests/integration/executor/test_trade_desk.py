"""What an operator may do to trades by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from devstack.anvil import CHAIN_ID
from devstack.executor_world import ONE_QUOTE, World
from tradingflow.account_manager.trade.desk import TradeDesk
from tradingflow.account_manager.trade.repository import Failure
from tradingflow.account_manager.trade.settlement import UNSENT_FINAL_AFTER, Settlement
from tradingflow.chain.vault import VaultContract
from tradingflow.core.errors import Conflict, NotFound
from tradingflow.db.models import Cycle, Trade

PYTHON_ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def desk(world: World) -> TradeDesk:
    return TradeDesk(world.settings, world.sessions, {CHAIN_ID: world.client}, world.clock)


async def test_reconcile_says_where_rows_and_chain_differ(world: World, desk: TradeDesk) -> None:
    identities = [await world.request_trade(ONE_QUOTE) for _ in range(3)]
    for identity in identities:
        await world.executor().advance(identity)
    assert await desk.reconcile(CHAIN_ID) == []
    async with world.sessions() as session, session.begin():
        await session.execute(update(Trade).where(Trade.id == identities[0]).values(status="failed"))
        await session.execute(update(Trade).where(Trade.id == identities[1]).values(amount_out=1))
    differing = {found.trade_id: found.row.split(":")[0] for found in await desk.reconcile(CHAIN_ID)}
    assert differing == {identities[0]: "not executed", identities[1]: "executed"}


async def test_failed_trade_is_tried_again_with_a_new_quote(world: World, desk: TradeDesk) -> None:
    identity = await world.request_trade(20_000 * ONE_QUOTE)
    await world.executor().advance(identity)
    with pytest.raises(NotFound):
        await desk.retry("0x" + "ab" * 32)
    async with world.sessions() as session, session.begin():
        await session.execute(update(Trade).values(amount_in=ONE_QUOTE))
    await desk.retry(identity)
    await world.executor().advance(identity)
    assert (await world.trade(identity)).status == "completed"
    with pytest.raises(Conflict):
        await desk.retry(identity)


async def test_trade_tried_again_while_its_failure_becomes_final_is_sent(
    world: World, desk: TradeDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = await world.request_trade(ONE_QUOTE)
    failure = Failure("trading_paused", "by its owner")
    await Settlement(world.relayer()).fail(await world.trade(identity), failure, was_sent=True)
    passed_s = int(UNSENT_FINAL_AFTER.total_seconds())
    world.clock.ahead_s += passed_s
    world.anvil.rpc("evm_increaseTime", passed_s)

    async def tried_again(*_: object) -> bool:
        await desk.retry(identity)
        return False

    with monkeypatch.context() as patched:
        patched.setattr(VaultContract, "trade_used", tried_again)
        await world.executor().advance(identity)
    await world.executor().advance(identity)
    assert (await world.trade(identity)).status == "completed"


async def test_a_trade_that_a_rerun_makes_anew_is_not_tried_again(world: World, desk: TradeDesk) -> None:
    identity = await world.request_trade(20_000 * ONE_QUOTE)
    await world.executor().advance(identity)
    trade = await world.trade(identity)
    async with world.sessions() as session, session.begin():
        for number, rerun_of in ((trade.cycle, None), (trade.cycle + 1, trade.cycle)):
            fire_time = world.clock.now() + timedelta(seconds=number)
            cycle = Cycle(flow_pk=world.flow_pk, cycle=number, version=1, fire_time=fire_time, status="failed")
            cycle.rerun_of = rerun_of
            session.add(cycle)
    with pytest.raises(Conflict, match=f"was rerun as cycle {trade.cycle + 1}"):
        await desk.retry(identity)
    assert (await world.trade(identity)).status == "failed"


async def test_waiting_trade_is_cancelled_unsent_and_its_node_is_told(world: World, desk: TradeDesk) -> None:
    identity = await world.request_trade()
    assert await desk.cancel(identity) == "called off: it will not be sent"
    await world.executor().advance(identity)
    assert (await world.trade(identity)).failure_code == "cancelled_by_operator"
    assert len(await world.told()) == 1


async def test_sent_trade_is_called_off_unless_mined_first(world: World, desk: TradeDesk) -> None:
    world.anvil.rpc("evm_setAutomine", False)
    identity = await world.request_trade()
    executor = world.executor()
    await executor.advance(identity)
    await desk.cancel(identity)
    world.clock.ahead_s += world.settings.replace_after_s + 1
    await executor.advance(identity)
    world.anvil.rpc("evm_mine")
    await executor.advance(identity)
    trade = await world.trade(identity)
    assert (trade.status, trade.failure_code) == ("failed", "cancelled_by_operator")
    assert await world.executions(identity) == 0


async def test_command_line_lists_shows_and_reconciles_without_a_key(world: World, database_url: str) -> None:
    identity = await world.request_trade()
    await world.executor().advance(identity)
    chains = "[" + world.client.settings.model_dump_json() + "]"
    environment = {**os.environ, "DATABASE_URL": database_url, "CHAINS": chains, "OPERATOR_PRIVATE_KEY": "broken"}

    def type_in(*words: str) -> str:
        command = [sys.executable, "-m", "tradingflow.cli", "trades", *words]
        done = subprocess.run(command, env=environment, cwd=PYTHON_ROOT, capture_output=True, text=True, check=True)
        return done.stdout

    assert identity in type_in("list")
    assert "mined" in type_in("show", identity)
    assert "agree" in type_in("reconcile", str(CHAIN_ID))
