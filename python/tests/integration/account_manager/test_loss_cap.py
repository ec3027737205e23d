"""The owner's loss cap: set, read while it counts, and lifted, on a real vault with a real pool's mean price."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from devstack.anvil import CHAIN_ID, Anvil
from devstack.uniswap import Artifacts, Deployer, LocalMarket
from tests.integration.account_manager.conftest import OPERATOR_WALLET, REPOSITORY, Session, wallet
from tests.integration.account_manager.test_history_routes import event
from tests.integration.account_manager.test_vault_routes import send_all
from tradingflow.account_manager.parts import Parts
from tradingflow.chain.swap_path import encode_path
from tradingflow.chain.vault import Swap
from tradingflow.core.config import ChainSettings
from tradingflow.core.evm import ZERO_ADDRESS, address_from_bytes
from tradingflow.db.engine import SessionFactory

ONE = 10**18
ONE_QUOTE = 10**6
PERIOD_S = 60
WINDOW_S = 3600
FAKE = address_from_bytes(b"\xfa" * 20)
# Runtime code that answers every call alike: with a word of zeros, with one byte, with nothing.
SAYS_ZERO, SAYS_A_BYTE, SAYS_NOTHING = "0x60206000f3", "0x60016000f3", "0x00"


@pytest.fixture
def chain_settings(market_chain: ChainSettings) -> ChainSettings:
    return market_chain


@pytest.fixture
async def price_source(owner: Deployer, anvil: Anvil, market: LocalMarket) -> str:
    """The mean price of the market's pool, which is old enough to have one."""
    anvil.rpc("evm_increaseTime", 2 * PERIOD_S)
    anvil.rpc("anvil_mine", "0x1")
    source = await owner.deploy("TwapPriceSource", market.quote_token, PERIOD_S, [market.base_token], [market.pool])
    return str(source.address)


def policy_of(market: LocalMarket, **changes: Any) -> dict[str, Any]:
    expires = datetime.now(UTC) + timedelta(days=30)
    tokens = [{"token": market.base_token}, {"token": market.quote_token}]
    return {"operator": {"expires_at": expires.isoformat()}, "tokens": tokens} | changes


def capped_by(price_source: str) -> dict[str, Any]:
    return {"price_source": price_source, "cap": str(100 * ONE_QUOTE), "window_s": WINDOW_S}


async def set_policy(alice: Session, owner: Deployer, vault: str, policy: dict[str, Any]) -> None:
    built = await alice.post(f"/evm/vaults/{CHAIN_ID}/{vault}/transactions/policy", policy)
    assert built.status_code == 200, built.text
    await send_all(owner, built.json()["transactions"])


async def loss_cap(alice: Session, vault: str) -> Any:
    return (await alice.get(f"/evm/vaults/{CHAIN_ID}/{vault}")).json()["loss_cap"]


async def sell_one(owner: Deployer, anvil: Anvil, vault: str, market: LocalMarket) -> None:
    """One base token, sold by the operator's own key: with the pool's fee it loses several quote tokens."""
    await owner.send(owner.at("TestToken", market.base_token).functions.mint(vault, ONE))
    operator = Deployer(owner.web3, Artifacts(REPOSITORY), wallet(OPERATOR_WALLET).address)
    now = int(anvil.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
    path = encode_path((market.base_token, market.quote_token), (market.fee,))
    swap = Swap("0x" + "01" * 32, "0x" + "02" * 32, market.swap_router, path, ONE, 1, now + 60)
    await operator.send(operator.at("Vault", vault).functions.executeSwap(swap.as_argument()))


async def test_the_owner_caps_losses_sees_them_counted_and_lifts_the_cap(
    alice: Session, owner: Deployer, anvil: Anvil, vault: str, market: LocalMarket, price_source: str
) -> None:
    assert await loss_cap(alice, vault) is None
    await set_policy(alice, owner, vault, policy_of(market, loss_cap=capped_by(price_source)))
    assert await loss_cap(alice, vault) == capped_by(price_source) | {"loss_in_window": "0"}

    await sell_one(owner, anvil, vault, market)
    counted = int((await loss_cap(alice, vault))["loss_in_window"])
    assert 6 * ONE_QUOTE < counted < 10 * ONE_QUOTE

    await set_policy(alice, owner, vault, {"cooldown_s": 1, "loss_cap": None})
    kept = capped_by(price_source) | {"loss_in_window": str(counted)}
    assert await loss_cap(alice, vault) == kept, "what is not named stays"

    await set_policy(alice, owner, vault, {"loss_cap": {"price_source": ZERO_ADDRESS}})
    assert await loss_cap(alice, vault) is None


async def test_a_cap_without_a_source_is_measured_by_the_chains_own(
    alice: Session, owner: Deployer, parts: Parts, vault: str, market: LocalMarket, price_source: str
) -> None:
    policy = policy_of(market, loss_cap={"cap": "1000", "window_s": WINDOW_S})
    assert (await refusal(alice, vault, policy))[0] == "no_price_source"
    client = parts.chain(CHAIN_ID)
    client.settings = client.settings.model_copy(update={"price_source": price_source})
    built = await alice.post(f"/evm/vaults/{CHAIN_ID}/{vault}/transactions/policy", policy)
    assert price_source in built.json()["transactions"][0]["description"], "the owner sees it before signing"
    await send_all(owner, built.json()["transactions"])
    assert (await loss_cap(alice, vault))["price_source"] == price_source


async def refusal(alice: Session, vault: str, policy: dict[str, Any]) -> tuple[str, str]:
    answer = await alice.post(f"/evm/vaults/{CHAIN_ID}/{vault}/transactions/policy", policy)
    assert answer.status_code == 422, answer.text
    return answer.json()["error"], answer.json()["detail"]


@pytest.mark.parametrize(
    ("code", "error", "said"),
    [
        (None, "not_a_price_source", "has no code"),
        (SAYS_ZERO, "token_not_valued", "it says 0"),
        (SAYS_A_BYTE, "token_not_valued", "with 1 bytes"),
        (SAYS_NOTHING, "token_not_valued", "with 0 bytes"),
    ],
)
async def test_what_is_no_price_source_is_refused_before_it_stops_every_trade(
    alice: Session, anvil: Anvil, vault: str, market: LocalMarket, code: str | None, error: str, said: str
) -> None:
    if code is not None:
        anvil.rpc("anvil_setCode", FAKE, code)
    refused, detail = await refusal(alice, vault, policy_of(market, loss_cap=capped_by(FAKE)))
    assert refused == error
    assert said in detail


async def test_a_source_that_lacks_a_token_is_refused_by_the_tokens_name(
    alice: Session, vault: str, market: LocalMarket, price_source: str
) -> None:
    policy = policy_of(market, loss_cap=capped_by(price_source))
    policy["tokens"].append({"token": market.weth})
    refused, detail = await refusal(alice, vault, policy)
    assert refused == "token_not_valued"
    assert market.weth in detail
    assert market.base_token not in detail


async def test_a_source_nobody_could_ask_for_a_token_is_refused(alice: Session, vault: str, price_source: str) -> None:
    refused, _ = await refusal(alice, vault, {"loss_cap": capped_by(price_source)})
    assert refused == "no_tokens_to_value"


async def test_tokens_allowed_before_count_until_they_are_forbidden(
    alice: Session, owner: Deployer, vault: str, market: LocalMarket, price_source: str, sessions: SessionFactory
) -> None:
    await set_policy(alice, owner, vault, {"tokens": [{"token": market.weth}, {"token": market.base_token}]})
    async with sessions.begin() as session:
        for block, token in enumerate((market.weth, market.base_token), start=1):
            allowed = event(vault, block, "TokenPolicySet")
            allowed.args = {"token": token, "allowed": True}
            session.add(allowed)
    capped = {"loss_cap": capped_by(price_source)}
    refused, detail = await refusal(alice, vault, capped)
    assert refused == "token_not_valued"
    assert market.weth in detail
    await set_policy(alice, owner, vault, capped | {"tokens": [{"token": market.weth, "allowed": False}]})
    await set_policy(alice, owner, vault, capped)
    assert (await loss_cap(alice, vault))["price_source"] == price_source
