"""An operator ends following a contract, while the Monitor runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr
from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from devstack.anvil import CHAIN_ID, Anvil
from devstack.emitter import Emitter, transfer_burst_contract, word
from tradingflow.chain.registry import AbiRegistry
from tradingflow.core.config import ChainSettings, MonitorSettings
from tradingflow.core.errors import Conflict, NotFound
from tradingflow.core.evm import parse_address
from tradingflow.db.models import (
    Flow,
    FlowLog,
    NotificationChannel,
    NotificationDelivery,
    Schedule,
    User,
    UserContract,
    Vault,
)
from tradingflow.monitor.desk import Desk, open_desk
from tradingflow.monitor.server import ChainParts, open_chain
from tradingflow.monitor.store import CursorMoved

from .stored import Stored, catch_up


@pytest.fixture
def token(emitter: Emitter) -> str:
    token = emitter.deploy(transfer_burst_contract())
    emitter.send(token, word(2) + word(0))
    return parse_address(token)


@pytest.fixture
def chain(anvil: Anvil, emitter: Emitter) -> ChainSettings:
    pool = parse_address(emitter.deploy(transfer_burst_contract()))
    return ChainSettings(chain_id=CHAIN_ID, name="local", rpc_urls=(anvil.url,), finality_blocks=3, pools=(pool,))


@pytest.fixture
async def parts(chain: ChainSettings, engine: AsyncEngine, stored: Stored, token: str) -> AsyncIterator[ChainParts]:
    """A Monitor that has read the token."""
    async with open_chain(chain, engine, AbiRegistry()) as parts:
        await stored.monitor(token, "erc20")
        await catch_up(parts.follower)
        assert len(await stored.events()) == 2
        yield parts


@pytest.fixture
async def desk(parts: ChainParts, chain: ChainSettings, engine: AsyncEngine) -> AsyncIterator[Desk]:
    settings = MonitorSettings(
        database_url=SecretStr(engine.url.render_as_string(hide_password=False)), chains=(chain,)
    )
    async with open_desk(settings, CHAIN_ID) as desk:
        yield desk


async def register(engine: AsyncEngine, address: str) -> None:
    user = uuid4()
    async with engine.begin() as connection:
        await connection.execute(insert(User).values(id=user))
        values = {"id": uuid4(), "user_id": user, "chain_id": CHAIN_ID, "address": address, "kind": "erc20"}
        await connection.execute(insert(UserContract).values(**values, name="mine"))


async def test_what_nobody_has_registered_is_named_and_ended_under_a_running_monitor(
    parts: ChainParts, desk: Desk, stored: Stored, token: str, emitter: Emitter
) -> None:
    await become_final(parts, stored, emitter)
    assert [contract.address for contract in await desk.unwanted()] == [token]
    assert await desk.unfollow(token, users_too=False) == 2
    emitter.send(token, word(1) + word(7))
    with pytest.raises(CursorMoved):
        await parts.follower.round()
    assert await parts.follower.run_once() == 1
    await catch_up(parts.follower)
    assert await stored.events() == []
    assert await desk.unwanted() == []
    with pytest.raises(NotFound):
        await desk.unfollow(token, users_too=False)
    await stored.monitor(token, "erc20")
    await catch_up(parts.follower)
    assert len(await stored.events()) == 3


async def become_final(parts: ChainParts, stored: Stored, emitter: Emitter) -> None:
    """Everything stored until now."""
    head = emitter.head
    emitter.anvil.rpc("anvil_mine", "0x4")
    await catch_up(parts.follower)
    assert (await stored.cursor()).next_final_block > head


async def test_an_event_whose_notice_could_be_taken_back_stays_for_a_while(
    parts: ChainParts, desk: Desk, engine: AsyncEngine, stored: Stored, emitter: Emitter, token: str
) -> None:
    """A notice whose event is gone is taken back, as if a reorg had removed it."""
    assert await desk.unfollow(token, users_too=False) == 0
    assert len(await stored.events()) == 2
    await parts.follower.run_once()
    emitter.anvil.rpc("anvil_mine", "0x1")
    assert await parts.follower.run_once() == 1
    await become_final(parts, stored, emitter)
    notice = await open_notice(engine, (await stored.events())[0].block_number)
    with pytest.raises(NotFound):
        await desk.unfollow(token, users_too=False)
    async with engine.begin() as connection:
        closed = update(NotificationDelivery).where(NotificationDelivery.id == notice).values(block_number=None)
        await connection.execute(closed)
    assert await desk.unfollow(token, users_too=False) == 2
    assert await stored.events() == []


async def open_notice(engine: AsyncEngine, block_number: int) -> UUID:
    """Of an event that a reorg may still take back, as far as its sender knows."""
    user, channel, notice = uuid4(), uuid4(), uuid4()
    async with engine.begin() as connection:
        await connection.execute(insert(User).values(id=user))
        await connection.execute(
            insert(NotificationChannel).values(id=channel, user_id=user, kind="webhook", target="-", status="active")
        )
        told = {
            "key": "k",
            "topic": "contract_event",
            "payload": {},
            "chain_id": CHAIN_ID,
            "block_number": block_number,
        }
        await connection.execute(insert(NotificationDelivery).values(id=notice, channel_id=channel, **told))
    return notice


async def test_what_a_flow_waits_for_is_wanted_and_its_owner_reads_of_the_end(
    desk: Desk, engine: AsyncEngine, token: str
) -> None:
    user, flow = uuid4(), uuid4()
    trigger = {"type": "contract_event", "chain_id": CHAIN_ID, "address": token, "event": None, "final": False}
    async with engine.begin() as connection:
        await connection.execute(insert(User).values(id=user))
        made = {"flow_id": "f", "status": "running", "mode": "live", "current_version": 1}
        await connection.execute(insert(Flow).values(id=flow, user_id=user, **made))
        await connection.execute(insert(Schedule).values(flow_pk=flow, trigger=trigger))
    assert await desk.unwanted() == []
    with pytest.raises(Conflict, match="1 flows wait"):
        await desk.unfollow(token, users_too=False)
    await desk.unfollow(token, users_too=True)
    async with engine.connect() as connection:
        (line,) = (await connection.execute(select(FlowLog.flow_pk, FlowLog.message))).all()
    assert line.flow_pk == flow
    assert token in line.message


async def test_what_a_user_registered_is_ended_only_when_that_is_said(
    desk: Desk, engine: AsyncEngine, token: str
) -> None:
    await register(engine, token)
    assert await desk.unwanted() == []
    with pytest.raises(Conflict, match="1 users have registered"):
        await desk.unfollow(token, users_too=False)
    await desk.unfollow(token, users_too=True)
    async with engine.connect() as connection:
        assert (await connection.execute(select(UserContract.id))).all() == []


async def test_what_the_settings_name_and_what_is_a_vault_stays(
    desk: Desk, chain: ChainSettings, engine: AsyncEngine, token: str
) -> None:
    with pytest.raises(Conflict, match="CHAINS names"):
        await desk.unfollow(chain.pools[0], users_too=True)
    user = uuid4()
    async with engine.begin() as connection:
        await connection.execute(insert(User).values(id=user))
        values = {"user_id": user, "chain_id": CHAIN_ID, "address": token, "owner_address": token, "factory": token}
        await connection.execute(insert(Vault).values(**values, created_block=1))
    assert await desk.unwanted() == []
    with pytest.raises(Conflict, match="a user's vault"):
        await desk.unfollow(token, users_too=True)


async def test_what_a_factory_announced_stays(desk: Desk, engine: AsyncEngine, stored: Stored, token: str) -> None:
    child = parse_address("0x" + "ab" * 20)
    await stored.monitor(child, "erc20")
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE monitored_contracts SET discovered_by = address"))
    assert await desk.unwanted() == []
    with pytest.raises(Conflict, match="the factory"):
        await desk.unfollow(child, users_too=True)
