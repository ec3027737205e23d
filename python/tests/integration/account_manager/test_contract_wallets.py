"""Contract wallets sign in: deployed ones (ERC-1271) and announced ones (ERC-6492); what is not consent is refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_abi.abi import encode
from web3 import AsyncHTTPProvider, AsyncWeb3
from web3.contract import AsyncContract

from devstack.anvil import CHAIN_ID, Anvil
from tests.integration.account_manager.conftest import REPOSITORY, login, sign, wallet
from tradingflow.chain.contract_signature import MAGIC_SUFFIX
from tradingflow.core.evm import ZERO_ADDRESS

SOURCES = Path(__file__).parent / "contracts"
SALT = b"\7" * 32
KEY = wallet(3)
STRANGER = wallet(4)


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


async def try_to_sign_in(http: httpx.AsyncClient, address: str, signature_of: Any) -> httpx.Response:
    nonce = (await http.post("/auth/nonce", json={"address": address, "chain_id": CHAIN_ID})).json()
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
