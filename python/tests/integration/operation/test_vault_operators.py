"""The doctor beside real vaults: does the chain let this deployment trade, and is the factory one?"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import insert
from web3 import AsyncHTTPProvider, AsyncWeb3

import tradingflow.operation.vault_operators as module
from devstack.anvil import CHAIN_ID, Anvil
from devstack.executor_world import ONE_QUOTE, World, executor_world
from devstack.uniswap import Artifacts, Deployer
from tradingflow.account_manager.relayer.repository import hold_signers
from tradingflow.core.config import PlatformSettings
from tradingflow.db.models import Signer, Vault
from tradingflow.operation.doctor import examine
from tradingflow.operation.finding import Finding, State

REPOSITORY = Path(__file__).resolve().parents[4]
CHAIN = f"chain {CHAIN_ID}"
SOMEBODY = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
DAY_S = 86_400


@pytest.fixture
async def world(anvil: Anvil, database_url: str) -> AsyncIterator[World]:
    """A vault that names the executor's operator, whom the executor has registered."""
    async with executor_world(anvil, database_url, REPOSITORY) as world:
        async with world.sessions() as session, session.begin():
            await session.execute(insert(Signer).values(chain_id=CHAIN_ID, address=world.signer.address))
        yield world


async def findings(settings: PlatformSettings, world: World, **chain: object) -> dict[str, Finding]:
    served = world.settings.chains[0].model_copy(update=chain)
    return {finding.check: finding for finding in await examine(settings.model_copy(update={"chains": (served,)}))}


async def owner_sends(world: World, function: str, *arguments: object) -> None:
    """The owner of the world's vault calls one of its functions."""
    web3 = AsyncWeb3(AsyncHTTPProvider(world.anvil.url))
    owner = Deployer(web3, Artifacts(REPOSITORY), world.owner)
    await owner.send(owner.at("Vault", world.vault).functions[function](*arguments))
    await web3.provider.disconnect()


async def test_a_vault_that_lets_us_trade_is_counted(settings: PlatformSettings, world: World) -> None:
    found = await findings(settings, world)
    assert found[f"{CHAIN}: vaults"].state is State.OK
    assert "1 of 1 looked at: 1 let us trade" in found[f"{CHAIN}: vaults"].found
    assert found[f"{CHAIN}: factory"].state is State.OK
    assert "made 1 vaults" in found[f"{CHAIN}: factory"].found


async def test_what_the_owner_changed_on_chain_is_seen(settings: PlatformSettings, world: World) -> None:
    now_s = int(world.anvil.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
    await owner_sends(world, "setOperator", world.signer.address, now_s + DAY_S)
    assert world.vault in (await findings(settings, world))[f"{CHAIN}: vaults, operator expires"].found

    await owner_sends(world, "setOperator", SOMEBODY, now_s + DAY_S)
    found = await findings(settings, world)
    assert world.vault in found[f"{CHAIN}: vaults, other operator"].found
    assert found[f"{CHAIN}: vaults"].state is State.FAIL

    await owner_sends(world, "revokeOperator")
    assert f"{CHAIN}: vaults, operator revoked" not in await findings(settings, world)
    await world.request_trade(ONE_QUOTE)
    assert world.vault in (await findings(settings, world))[f"{CHAIN}: vaults, operator revoked"].found


async def test_a_key_that_was_taken_out_while_a_vault_names_it_is_missed(
    settings: PlatformSettings, world: World
) -> None:
    async with world.sessions() as session, session.begin():
        await hold_signers(session, [CHAIN_ID], [SOMEBODY])
    found = await examine(settings.model_copy(update={"chains": world.settings.chains}))
    missed = [finding.found for finding in found if finding.check == f"{CHAIN}: vaults, other operator"]
    assert [world.vault in said for said in missed] == [True]
    assert [finding.found.split()[0] for finding in found if finding.check == f"{CHAIN}: operator"] == [SOMEBODY]


async def test_of_too_many_vaults_those_with_trades_are_looked_at_first(
    settings: PlatformSettings, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_VAULTS", 2)
    await world.request_trade(ONE_QUOTE)
    async with world.sessions() as session, session.begin():
        row = {"user_id": world.user_id, "chain_id": CHAIN_ID, "owner_address": world.owner, "factory": world.owner}
        newer = [{**row, "address": f"0xdead{number:036x}", "created_block": 1} for number in (1, 2, 3)]
        await session.execute(insert(Vault), newer)
    found = await findings(settings, world)
    assert "2 of 4 looked at, those with trades and then the newest: 1 let us trade" in found[f"{CHAIN}: vaults"].found
    assert found[f"{CHAIN}: vaults, not there"].found.startswith("1 ")


async def test_a_factory_that_is_something_else_is_a_failure(settings: PlatformSettings, world: World) -> None:
    for address, said in (
        (SOMEBODY, "nothing is deployed"),
        (world.market.quote_token, "does not answer as a VaultFactory"),
        (world.market.weth, "does not answer as a VaultFactory"),
        (world.vault, "does not answer as a VaultFactory"),
    ):
        finding = (await findings(settings, world, vault_factory=address))[f"{CHAIN}: factory"]
        assert finding.state is State.FAIL
        assert said in finding.found
        assert finding.fix


async def test_no_key_is_ever_shown(settings: PlatformSettings, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPERATOR_PRIVATE_KEY", "0x" + "5e" * 32)
    assert "5e5e" not in str(await findings(settings, world))
