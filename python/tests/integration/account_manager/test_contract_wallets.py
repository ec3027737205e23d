"""Contract wallets sign in: deployed ones (ERC-1271) and announced ones (ERC-6492); what is not consent is refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_abi.abi import encode
from web3 import AsyncHTTPProvider, AsyncWeb3
from web3.contract import AsyncContract

from devstack.anvil import CHAIN_ID, Anvil
from devstack.ports import free_port
from devstack.private_servers import PrivateServers
from tests.integration.account_manager.conftest import REPOSITORY, login, running, sign, wallet
from tradingflow.account_manager.server import create_app
from tradingflow.chain.contract_signature import MAGIC_SUFFIX
from tradingflow.core.clock import SimulatedClock
from tradingflow.core.config import AccountManagerSettings, ChainSettings
from tradingflow.core.evm import ZERO_ADDRESS

SOURCES = Path(__file__).parent / "contracts"
SALT = b"\7" * 32
KEY = wallet(3)
STRANGER = wallet(4)
OTHER_CHAIN = 10


@pytest.fixture(scope="module")
def compiled() -> dict[str, Any]:
    command = ["node", str(SOURCES / "compile.cjs"), str(SOURCES / "wallets.sol"), str(REPOSITORY / "contracts")]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    contracts: dict[str, Any] = json.loads(output)
    return contracts


class Contracts:
    def __init__(self, web3: AsyncWeb3[AsyncHTTPProvider], compiled: dict[str, Any]) -> None:
        self._web3 = web3
        self._compiled = compiled

    async def deploy(self, name: str, *arguments: Any) -> AsyncContract:
        made = self._compiled[name]
        contract = self._web3.eth.contract(abi=made["abi"], bytecode=made["bytecode"])
        sent = await contract.constructor(*arguments).transact({"from": wallet(0).address})
        receipt = await self._web3.eth.wait_for_transaction_receipt(sent)
        address = receipt["contractAddress"]
        assert address is not None
        return self._web3.eth.contract(address=address, abi=made["abi"])


@pytest.fixture
async def contracts(anvil: Anvil, compiled: dict[str, Any]) -> AsyncIterator[Contracts]:
    web3 = AsyncWeb3(AsyncHTTPProvider(anvil.url))
    yield Contracts(web3, compiled)
    await web3.provider.disconnect()


@pytest.fixture
def other_chain(servers: PrivateServers) -> Iterator[Anvil]:
    with servers.fresh_chain() as chain:
        chain.rpc("anvil_setChainId", OTHER_CHAIN)
        yield chain


def serving_also(settings: AccountManagerSettings, url: str) -> AccountManagerSettings:
    other = ChainSettings(chain_id=OTHER_CHAIN, name="other", rpc_urls=(url,))
    return settings.model_copy(update={"chains": (*settings.chains, other)})


@pytest.fixture
async def both(
    settings: AccountManagerSettings, other_chain: Anvil, clock: SimulatedClock
) -> AsyncIterator[httpx.AsyncClient]:
    async with running(create_app(serving_also(settings, other_chain.url), clock)) as http:
        yield http


async def announcing(contracts: Contracts, anvil: Anvil, other_chain: Anvil) -> tuple[str, Callable[[str], bytes]]:
    """A factory on the other chain only: the address it gives to KEY's wallet, and KEY's ERC-6492 signatures."""
    factory = await contracts.deploy("KeyWalletFactory")
    other_chain.rpc("anvil_setCode", factory.address, anvil.rpc("eth_getCode", factory.address, "latest"))
    address = await factory.functions.predict(KEY.address, SALT).call()
    anvil.rpc("anvil_setCode", factory.address, "0x")
    create = bytes.fromhex(factory.encode_abi("create", args=[KEY.address, SALT])[2:])

    def signature_of(message: str) -> bytes:
        inner = bytes.fromhex(sign(KEY, message)[2:])
        return encode(("address", "bytes", "bytes"), (factory.address, create, inner)) + MAGIC_SUFFIX

    return address, signature_of


async def put_wallet(contracts: Contracts, source: Anvil, target: Anvil, address: str, key: str) -> None:
    """Have the wallet at `address` on `target` obey `key`."""
    deployed = await contracts.deploy("KeyWallet", key)
    target.rpc("anvil_setCode", address, source.rpc("eth_getCode", deployed.address, "latest"))


async def try_to_sign_in(
    http: httpx.AsyncClient, address: str, signature_of: Any, chain_id: int = CHAIN_ID
) -> httpx.Response:
    nonce = (await http.post("/auth/nonce", json={"address": address, "chain_id": chain_id})).json()
    signature = signature_of(nonce["message"])
    return await login(http, nonce["message"], signature if isinstance(signature, str) else "0x" + signature.hex())


async def test_a_deployed_contract_wallet_signs_in_with_its_key_and_no_other(
    http: httpx.AsyncClient, contracts: Contracts
) -> None:
    deployed = await contracts.deploy("KeyWallet", KEY.address)
    good = await try_to_sign_in(http, deployed.address, lambda m: sign(KEY, m))
    assert good.status_code == 200, good.text
    me = await http.get("/users/me", headers={"Authorization": f"Bearer {good.json()['access_token']}"})
    assert me.json()["wallet"] == deployed.address
    bad = await try_to_sign_in(http, deployed.address, lambda m: sign(STRANGER, m))
    assert (bad.status_code, bad.json()["error"]) == (401, "invalid_signature")
    other_message = await try_to_sign_in(http, deployed.address, lambda m: sign(KEY, m + " "))
    assert other_message.status_code == 401


async def test_a_wallet_that_is_not_deployed_yet_signs_in_and_stays_undeployed(
    http: httpx.AsyncClient, contracts: Contracts, anvil: Anvil
) -> None:
    factory = await contracts.deploy("KeyWalletFactory")
    address = await factory.functions.predict(KEY.address, SALT).call()
    create = bytes.fromhex(factory.encode_abi("create", args=[KEY.address, SALT])[2:])

    def announced(inner: str, call: bytes = create, by: str = factory.address) -> bytes:
        return encode(("address", "bytes", "bytes"), (by, call, bytes.fromhex(inner[2:]))) + MAGIC_SUFFIX

    good = await try_to_sign_in(http, address, lambda m: announced(sign(KEY, m)))
    assert good.status_code == 200, good.text
    assert anvil.rpc("eth_getCode", address, "latest") == "0x"
    refused = {
        "another key": lambda m: announced(sign(STRANGER, m)),
        "a factory call that deploys nothing": lambda m: announced(sign(KEY, m), call=b""),
        "a factory that is not there": lambda m: announced(sign(KEY, m), by=ZERO_ADDRESS),
        "an envelope that is cut off": lambda m: announced(sign(KEY, m))[40:],
        "the suffix alone": lambda _: MAGIC_SUFFIX,
        "a bare signature": lambda m: sign(KEY, m),
    }
    for what, signature_of in refused.items():
        answer = await try_to_sign_in(http, address, signature_of)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_signature"), what


async def test_a_wallet_deployed_since_still_signs_in_with_its_old_envelope(
    http: httpx.AsyncClient, contracts: Contracts
) -> None:
    deployed = await contracts.deploy("KeyWallet", KEY.address)

    def announced(message: str) -> bytes:
        inner = bytes.fromhex(sign(KEY, message)[2:])
        return encode(("address", "bytes", "bytes"), (ZERO_ADDRESS, b"", inner)) + MAGIC_SUFFIX

    assert (await try_to_sign_in(http, deployed.address, announced)).status_code == 200


@pytest.mark.parametrize("mood", range(6))
async def test_an_answer_that_is_not_the_magic_value_is_no_consent(
    http: httpx.AsyncClient, contracts: Contracts, mood: int
) -> None:
    odd = await contracts.deploy("OddWallet", mood)
    answer = await try_to_sign_in(http, odd.address, lambda m: sign(KEY, m))
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_signature")


async def test_a_removed_key_signs_nobody_in_through_a_chain_where_the_wallet_is_not_deployed(
    both: httpx.AsyncClient, contracts: Contracts, anvil: Anvil, other_chain: Anvil
) -> None:
    address, announced = await announcing(contracts, anvil, other_chain)
    while_nowhere = await try_to_sign_in(both, address, announced, OTHER_CHAIN)
    assert while_nowhere.status_code == 200, while_nowhere.text
    await put_wallet(contracts, anvil, anvil, address, STRANGER.address)
    for chain_id in (CHAIN_ID, OTHER_CHAIN):
        removed = await try_to_sign_in(both, address, announced, chain_id)
        assert (removed.status_code, removed.json()["error"]) == (401, "invalid_signature")
        present = await try_to_sign_in(both, address, lambda m: sign(STRANGER, m), chain_id)
        assert present.status_code == 200, present.text


async def test_a_wallet_that_obeys_different_keys_on_two_chains_is_signed_in_by_neither(
    both: httpx.AsyncClient, contracts: Contracts, anvil: Anvil, other_chain: Anvil
) -> None:
    address = wallet(7).address
    await put_wallet(contracts, anvil, anvil, address, STRANGER.address)
    await put_wallet(contracts, anvil, other_chain, address, KEY.address)
    for chain_id in (CHAIN_ID, OTHER_CHAIN):
        for key in (KEY, STRANGER):
            refused = await try_to_sign_in(both, address, lambda m, key=key: sign(key, m), chain_id)
            assert (refused.status_code, refused.json()["error"]) == (401, "invalid_signature")
    await put_wallet(contracts, anvil, other_chain, address, STRANGER.address)
    assert (await try_to_sign_in(both, address, lambda m: sign(STRANGER, m))).status_code == 200


async def test_a_chain_that_cannot_be_asked_keeps_contract_wallets_waiting_and_nobody_else(
    settings: AccountManagerSettings, clock: SimulatedClock, contracts: Contracts
) -> None:
    deployed = await contracts.deploy("KeyWallet", KEY.address)
    app = create_app(serving_also(settings, f"http://127.0.0.1:{free_port()}"), clock)
    async with running(app) as http:
        waits = await try_to_sign_in(http, deployed.address, lambda m: sign(KEY, m))
        assert (waits.status_code, waits.json()["error"]) == (503, "rpc_unavailable")
        refused = await try_to_sign_in(http, deployed.address, lambda m: sign(STRANGER, m))
        assert refused.status_code == 401, refused.text
        for chain_id in (CHAIN_ID, OTHER_CHAIN):
            by_key = await try_to_sign_in(http, KEY.address, lambda m: sign(KEY, m), chain_id)
            assert by_key.status_code == 200, by_key.text
