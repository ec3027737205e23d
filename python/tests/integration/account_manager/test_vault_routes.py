"""Asking for a vault and building its owner's transactions, against real contracts."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any
from unittest.mock import AsyncMock
from uuid import uuid4

import pytest
from sqlalchemy import func, select, text

from devstack.anvil import CHAIN_ID, Anvil
from devstack.uniswap import Deployer, LocalMarket
from tests.integration.account_manager.conftest import OPERATOR_WALLET, Session, wallet
from tradingflow.account_manager.portfolio.schemas import VaultPortfolio
from tradingflow.account_manager.portfolio.valuation import VaultValuer
from tradingflow.account_manager.user import repository as users
from tradingflow.account_manager.vault import service
from tradingflow.chain.client import ChainClient
from tradingflow.core.clock import SimulatedClock
from tradingflow.core.config import ChainSettings
from tradingflow.core.errors import DependencyUnavailable
from tradingflow.core.evm import ZERO_ADDRESS, address_from_bytes
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import ContractEvent, Token, Vault, VaultDeployment, VaultValuation

OPERATOR = wallet(OPERATOR_WALLET).address
ONE = 10**18


@pytest.fixture
def chain_settings(market_chain: ChainSettings) -> ChainSettings:
    return market_chain


async def send_all(owner: Deployer, transactions: list[dict[str, Any]]) -> None:
    for step in transactions:
        call = {k: step[k] for k in ("to", "data")} | {"value": int(step["value"]), "gas": int(step["gas"])}
        sent = await owner.web3.eth.send_transaction({"from": owner.account, **call})  # type: ignore[typeddict-item]
        receipt = await owner.web3.eth.wait_for_transaction_receipt(sent)
        assert receipt["status"] == 1, step["description"]


async def test_a_vault_is_accepted_with_the_address_the_factory_will_give_it(
    alice: Session, owner: Deployer, market_chain: ChainSettings, sessions: SessionFactory
) -> None:
    estimate = (await alice.post("/evm/vaults/estimate", {"chain_id": CHAIN_ID})).json()
    assert int(estimate["max_cost"]) == int(estimate["gas"]) * int(estimate["max_fee_per_gas"]) > 0
    answer = await alice.post("/evm/vaults/create", {"chain_id": CHAIN_ID, "request_key": "first"})
    assert answer.status_code == 202, answer.text
    task = answer.json()
    assert abs(int(task["gas_estimate"]) - int(estimate["gas"])) < 1_000
    assert task["status"] == "queued"
    assert int(task["gas_estimate"]) > 50_000
    async with sessions() as session:
        row = (await session.scalars(select(VaultDeployment))).one()
    factory = owner.at("VaultFactory", market_chain.vault_factory or "")
    await owner.send(factory.functions.createVault(alice.account.address, bytes.fromhex(row.salt[2:])))
    assert await factory.functions.isVault(task["predicted_address"]).call()
    polled = await alice.get(f"/evm/vaults/tasks/{task['task_id']}")
    assert polled.json()["predicted_address"] == task["predicted_address"]


async def test_a_repeated_request_key_is_the_same_deployment(alice: Session, sessions: SessionFactory) -> None:
    body = {"chain_id": CHAIN_ID, "request_key": "once"}
    first, second = await alice.post("/evm/vaults/create", body), await alice.post("/evm/vaults/create", body)
    assert first.json()["task_id"] == second.json()["task_id"]
    async with sessions() as session:
        assert await session.scalar(select(func.count()).select_from(VaultDeployment)) == 1


async def test_a_vault_for_somebody_elses_wallet_is_refused(alice: Session) -> None:
    body = {"chain_id": CHAIN_ID, "owner_address": wallet(7).address}
    answer = await alice.post("/evm/vaults/create", body)
    assert (answer.status_code, answer.json()["error"]) == (403, "not_your_wallet")


async def waits_for_a_lock(sessions: SessionFactory) -> bool:
    waiting = (
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')"
    )
    async with sessions() as session:
        return bool(await session.scalar(text(waiting)))


async def test_a_wallet_that_is_unlinked_while_the_chain_is_asked_gets_no_vault(
    alice: Session, sessions: SessionFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sessions() as unlinking:

        async def estimate(*_: object) -> int:
            await users.lock_account(unlinking, alice.user_id)
            await users.remove_wallet(unlinking, alice.user_id, alice.account.address)
            return 1

        monkeypatch.setattr(service, "_estimate_deployment", estimate)
        asking = asyncio.create_task(alice.post("/evm/vaults/create", {"chain_id": CHAIN_ID}))
        while not await waits_for_a_lock(sessions):
            assert not asking.done(), "it waits for the account's lock"
        await unlinking.commit()
        answer = await asking
    assert (answer.status_code, answer.json()["error"]) == (403, "not_your_wallet")


async def test_the_owner_allows_the_operator_deposits_and_withdraws_with_the_built_transactions(
    alice: Session, owner: Deployer, vault: str, market: LocalMarket
) -> None:
    base = f"/evm/vaults/{CHAIN_ID}/{vault}"
    expires = datetime.now(UTC) + timedelta(days=30)
    policy = {
        "operator": {"expires_at": expires.isoformat()},
        "tokens": [
            {"token": market.base_token, "per_trade_cap": str(ONE), "per_day_cap": str(5 * ONE)},
            {"token": market.quote_token},
        ],
        "cooldown_s": 1,
    }
    built = await alice.post(f"{base}/transactions/policy", policy)
    assert built.status_code == 200, built.text
    assert len(built.json()["transactions"]) == 1
    await send_all(owner, built.json()["transactions"])
    token = owner.at("TestToken", market.base_token)
    await owner.send(token.functions.mint(owner.account, 10 * ONE))
    deposit = await alice.post(f"{base}/transactions/deposit", {"token": market.base_token, "amount": str(10 * ONE)})
    assert [t["to"] for t in deposit.json()["transactions"]] == [market.base_token, vault]
    await send_all(owner, deposit.json()["transactions"])
    on_chain = owner.at("Vault", vault)
    assert await token.functions.balanceOf(vault).call() == 10 * ONE
    assert await on_chain.functions.operator().call() == OPERATOR
    assert await on_chain.functions.routerKind(market.swap_router).call() == 1
    assert await on_chain.functions.tokenPolicy(market.base_token).call() == [True, ONE, 5 * ONE, 0]
    for step in ("pause", "unpause", "revoke-operator"):
        await send_all(owner, (await alice.post(f"{base}/transactions/{step}")).json()["transactions"])
    assert await on_chain.functions.operator().call() == ZERO_ADDRESS
    withdraw = await alice.post(f"{base}/transactions/withdraw", {"token": market.base_token})
    await send_all(owner, withdraw.json()["transactions"])
    assert await token.functions.balanceOf(owner.account).call() == 10 * ONE


async def test_native_currency_is_deposited_and_valued_as_its_wrapped_token(
    alice: Session, owner: Deployer, vault: str
) -> None:
    base = f"/evm/vaults/{CHAIN_ID}/{vault}"
    deposit = await alice.post(f"{base}/transactions/deposit", {"token": ZERO_ADDRESS, "amount": str(ONE)})
    await send_all(owner, deposit.json()["transactions"])
    portfolio = (await alice.get(f"{base}/portfolio")).json()
    native = next(p for p in portfolio["positions"] if p["token"] == ZERO_ADDRESS)
    assert (native["amount"], native["price"], native["reason"]) == ("1", None, "no_pool")
    assert portfolio["value"] is None
    assert portfolio["reason"].startswith("no_pool")


async def test_a_vault_is_worth_its_balances_at_the_pool_price(
    alice: Session, owner: Deployer, vault: str, market: LocalMarket, sessions: SessionFactory
) -> None:
    base, quote = owner.at("TestToken", market.base_token), owner.at("TestToken", market.quote_token)
    await owner.send(base.functions.mint(vault, 2 * ONE))
    await owner.send(quote.functions.mint(vault, 500 * 10**6))
    answer = await alice.get(f"/evm/vaults/{CHAIN_ID}/{vault}/portfolio")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    positions = {p["token"]: p for p in body["positions"]}
    assert positions[market.base_token]["amount"] == "2"
    assert positions[market.quote_token]["value"] == "500"
    price = Decimal(positions[market.base_token]["price"])
    assert price > 1
    with localcontext(prec=100):
        assert Decimal(body["value"]) == 500 + 2 * price
    whole = (await alice.get("/portfolio")).json()
    assert whole["totals"][0]["value"] == body["value"]
    async with sessions() as session:
        assert await session.scalar(select(func.count()).select_from(Token)) == 2


async def test_polls_of_a_vault_within_five_seconds_are_one_valuation(
    alice: Session, owner: Deployer, vault: str, market: LocalMarket, sessions: SessionFactory, clock: SimulatedClock
) -> None:
    path = f"/evm/vaults/{CHAIN_ID}/{vault}/portfolio"
    first = (await alice.get(path)).json()
    await owner.send(owner.at("TestToken", market.base_token).functions.mint(vault, ONE))
    clock.advance_to(clock.now() + timedelta(seconds=4))
    second = (await alice.get(path)).json()
    assert {**second, "as_of": first["as_of"]} == first
    clock.advance_to(clock.now() + timedelta(seconds=2))
    third = (await alice.get(path)).json()
    assert third["block_number"] > first["block_number"]
    assert third["value"] != first["value"]
    async with sessions() as session:
        assert await session.scalar(select(func.count()).select_from(VaultValuation)) == 2


IN_A_MONTH = (datetime.now(UTC) + timedelta(days=30)).isoformat()
TRANSACTIONS = "/evm/vaults/{chain}/{vault}/transactions"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/portfolio", None),
        ("/evm/vaults/{chain}/{vault}/portfolio", None),
        ("/evm/vaults/{chain}/{vault}", None),
        ("/evm/vaults/estimate", {"chain_id": CHAIN_ID}),
        ("/evm/vaults/create", {"chain_id": CHAIN_ID, "request_key": "first"}),
        (TRANSACTIONS + "/deposit", {"token": ZERO_ADDRESS, "amount": "1"}),
        (TRANSACTIONS + "/policy", {"operator": {"expires_at": IN_A_MONTH}}),
        (TRANSACTIONS + "/operator", {"expires_at": IN_A_MONTH}),
        (TRANSACTIONS + "/pause", {}),
    ],
)
async def test_no_connection_waits_while_the_chain_is_asked(
    alice: Session,
    vault: str,
    held_while_asked: list[int],
    path: str,
    body: dict[str, Any] | None,
) -> None:
    """A chain that hangs must not take the database from the routes that do not need it."""
    path = path.format(chain=CHAIN_ID, vault=vault)
    answer = await (alice.get(path) if body is None else alice.post(path, body))
    assert answer.is_success, answer.text
    assert set(held_while_asked) == {0}


# More than there are connections.
BATCHES = 25


async def test_tokens_asked_of_a_chain_that_hangs_leave_the_database_to_others(
    alice: Session, market: LocalMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging, all_hang, goes_on = 0, asyncio.Event(), asyncio.Event()
    guard = ChainClient.guard

    async def hang(client: ChainClient, request: Any) -> Any:
        nonlocal hanging
        hanging += 1
        if hanging == 2 * BATCHES:
            all_hang.set()
        await goes_on.wait()
        return await guard(client, request)

    monkeypatch.setattr(ChainClient, "guard", hang)
    body = {"chain_id": CHAIN_ID, "addresses": [market.base_token, market.quote_token]}
    # Each asks for the code of its two tokens first.
    batches = [asyncio.create_task(alice.post("/token/batch", body)) for _ in range(BATCHES)]
    try:
        await asyncio.wait({asyncio.create_task(all_hang.wait()), *batches}, return_when=asyncio.FIRST_COMPLETED)
        assert all_hang.is_set(), "some wait for a connection"
        assert (await alice.get(f"/token/chain/{CHAIN_ID}")).json()["items"] == []
    finally:
        goes_on.set()
        answers = await asyncio.gather(*batches)
    assert {answer.status_code for answer in answers} == {201}


async def test_polls_at_once_share_one_valuation(
    alice: Session, vault: str, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, valued, all_asked = 0, 0, asyncio.Event()
    value_and_keep, value = VaultValuer.value_and_keep, VaultValuer.value

    async def counted_question(valuer: VaultValuer, of: Vault, now: datetime) -> VaultPortfolio:
        nonlocal asked
        asked += 1
        if asked == 8:
            all_asked.set()
        return await value_and_keep(valuer, of, now)

    async def counted_value(valuer: VaultValuer, of: Vault) -> VaultPortfolio:
        nonlocal valued
        valued += 1
        await all_asked.wait()
        return await value(valuer, of)

    with monkeypatch.context() as patched:
        patched.setattr(VaultValuer, "value_and_keep", counted_question)
        patched.setattr(VaultValuer, "value", counted_value)
        answers = await asyncio.gather(*(alice.get(f"/evm/vaults/{CHAIN_ID}/{vault}/portfolio") for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert valued == 1
    clock.advance_to(clock.now() + timedelta(seconds=6))
    hangs = AsyncMock(side_effect=DependencyUnavailable("rpc_unavailable", "it hangs"))
    monkeypatch.setattr(ChainClient, "call", hangs)
    answers = await asyncio.gather(*(alice.get(f"/evm/vaults/{CHAIN_ID}/{vault}/portfolio") for _ in range(2)))
    assert {answer.status_code for answer in answers} == {503}, "a failure is shared, and not kept"


async def test_a_vault_that_names_very_much_is_asked_about_in_part_and_in_groups(
    alice: Session, vault: str, sessions: SessionFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = [("TokenPolicySet", "token", n) for n in range(500)] + [("RouterSet", "router", n) for n in range(300)]
    async with sessions.begin() as session:
        session.add_all(
            ContractEvent(
                chain_id=CHAIN_ID,
                block_number=1,
                log_index=index,
                block_hash="0x" + "cd" * 32,
                transaction_hash="0x" + "ef" * 32,
                address=vault,
                kind="vault",
                name=name,
                args={key: address_from_bytes((n + 1000).to_bytes(20))},
                topics=[],
                data=b"",
                block_time=datetime.now(UTC),
            )
            for index, (name, key, n) in enumerate(named)
        )
    asked, under_way, most = 0, 0, 0
    guard = ChainClient.guard

    async def counted(client: ChainClient, request: Any) -> Any:
        nonlocal asked, under_way, most
        asked += 1
        under_way += 1
        most = max(most, under_way)
        try:
            return await guard(client, request)
        finally:
            under_way -= 1

    monkeypatch.setattr(ChainClient, "guard", counted)
    valued = (await alice.get(f"/evm/vaults/{CHAIN_ID}/{vault}/portfolio")).json()
    assert valued["value"] is None
    assert valued["reason"] == "too_many_tokens: the vault names 500, of which 200 are looked at"
    assert asked < 300
    whole = (await alice.get(f"/evm/vaults/{CHAIN_ID}/{vault}")).json()
    assert (len(whole["tokens"]), whole["tokens_left_out"]) == (200, 300)
    assert (len(whole["routers"]), whole["routers_left_out"]) == (200, 101)  # the chain's own is one more
    assert asked < 800
    assert most <= 20
    loss_cap = {"price_source": vault, "cap": "1", "window_s": 3600}
    refused = await alice.post(f"/evm/vaults/{CHAIN_ID}/{vault}/transactions/policy", {"loss_cap": loss_cap})
    assert (refused.status_code, refused.json()["error"]) == (422, "too_many_tokens")
    assert asked < 800


async def test_the_vault_is_read_with_its_policy(alice: Session, owner: Deployer, vault: str) -> None:
    answer = await alice.get(f"/evm/vaults/{CHAIN_ID}/{vault}")
    assert answer.status_code == 200, answer.text
    assert answer.json()["owner_address"] == alice.account.address
    assert answer.json()["operator"] is None
    assert answer.json()["paused"] is False
    assert [v["address"] for v in (await alice.get("/evm/vaults")).json()] == [vault]


async def test_a_foreign_vault_does_not_exist(mallory: Session, vault: str) -> None:
    for path in ("", "/portfolio", "/operations"):
        assert (await mallory.get(f"/evm/vaults/{CHAIN_ID}/{vault}{path}")).status_code == 404
    answer = await mallory.post(f"/evm/vaults/{CHAIN_ID}/{vault}/transactions/pause")
    assert answer.status_code == 404
    assert (await mallory.get(f"/evm/vaults/tasks/{uuid4()}")).status_code == 404


async def test_the_operator_is_named_once_an_executor_has_registered(
    alice: Session, vault: str, sessions: SessionFactory
) -> None:
    answer = await alice.get(f"/evm/vaults/{CHAIN_ID}/operator")
    assert answer.json() == {"chain_id": CHAIN_ID, "operator": OPERATOR}


async def test_a_withdrawal_that_would_revert_is_refused_when_it_is_built(
    alice: Session, vault: str, market: LocalMarket
) -> None:
    answer = await alice.post(
        f"/evm/vaults/{CHAIN_ID}/{vault}/transactions/withdraw", {"token": market.base_token, "amount": "1"}
    )
    assert answer.status_code == 409


async def test_a_price_needs_two_sources_that_agree_and_a_fresh_block(
    alice: Session, anvil: Anvil, market: LocalMarket
) -> None:
    path = f"/price/{CHAIN_ID}/{market.base_token}"
    young = (await alice.get(path)).json()
    assert young["price"] is None
    assert young["reason"] == "too_few_sources"
    assert "pool_mean: twap_too_long" in young["detail"]
    anvil.rpc("evm_increaseTime", 400)
    anvil.rpc("anvil_mine", "0x1")
    agreed = (await alice.get(path)).json()
    assert agreed["reason"] is None
    # The mean is rounded down to a whole tick of 0.01 %.
    assert Decimal("1999.8") <= Decimal(agreed["price"]) <= Decimal(2000)
    assert [s["source"] for s in agreed["sources"]] == ["pool_spot", "pool_mean"]
    unknown = (await alice.post(f"/price/{CHAIN_ID}/batch", {"tokens": [wallet(9).address]})).json()
    assert unknown[0]["price"] is None
