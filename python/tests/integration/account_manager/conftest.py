"""The Account Manager's app on real PostgreSQL, Redis, RabbitMQ and a real chain, spoken to over HTTP (ASGI)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import httpx
import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import event, insert
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import Session as OrmSession
from web3 import AsyncHTTPProvider, AsyncWeb3

from devstack.anvil import CHAIN_ID, MNEMONIC, Anvil
from devstack.uniswap import Artifacts, Deployer, LocalMarket, deploy_market
from devstack.vaults import deploy_factory
from tests.deployed_chain import with_contracts
from tradingflow.account_manager.parts import Parts
from tradingflow.account_manager.server import create_app
from tradingflow.chain.client import ChainClient
from tradingflow.core.clock import SimulatedClock
from tradingflow.core.config import AccountManagerSettings, ChainSettings
from tradingflow.db.engine import SessionFactory, make_engine, make_session_factory
from tradingflow.db.models import Signer, Vault

REPOSITORY = Path(__file__).resolve().parents[4]
BASE_URL = "http://127.0.0.1:7000"
OPERATOR_WALLET = 5


def wallet(index: int) -> LocalAccount:
    """One of the development phrase's accounts, funded on anvil."""
    Account.enable_unaudited_hdwallet_features()
    account: LocalAccount = Account.from_mnemonic(MNEMONIC, account_path=f"m/44'/60'/0'/0/{index}")
    return account


def sign(account: LocalAccount, message: str) -> str:
    return "0x" + account.sign_message(encode_defunct(text=message)).signature.hex().removeprefix("0x")


@dataclass
class Session:
    """A signed-in caller."""

    http: httpx.AsyncClient
    account: LocalAccount
    user_id: UUID
    access_token: str
    refresh_token: str

    async def get(self, path: str, **params: Any) -> httpx.Response:
        return await self.http.get(path, params=params, headers=self.headers)

    async def post(self, path: str, body: Any = None) -> httpx.Response:
        return await self.http.post(path, json=body, headers=self.headers)

    async def request(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return await self.http.request(method, path, json=body, headers=self.headers)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.access_token}"}


class SignIn(Protocol):
    async def __call__(self, account: LocalAccount) -> Session: ...


@pytest.fixture
def clock() -> SimulatedClock:
    """Starts at the real time, so that what PostgreSQL and Redis stamp themselves fits."""
    return SimulatedClock(datetime.now(UTC))


@pytest.fixture
def chain_settings(anvil: Anvil) -> ChainSettings:
    """A chain without our contracts; `platform` tests override it with a whole market."""
    return ChainSettings(chain_id=CHAIN_ID, name="local", rpc_urls=(anvil.url,))


async def _deploy(anvil: Anvil) -> tuple[LocalMarket, str]:
    market = await deploy_market(anvil.url, REPOSITORY)
    return market, await deploy_factory(anvil.url, REPOSITORY, market.weth)


@pytest.fixture
async def market_and_factory(anvil: Anvil) -> tuple[LocalMarket, str]:
    return await with_contracts(anvil, "market and factory", lambda: _deploy(anvil))


@pytest.fixture
def market(market_and_factory: tuple[LocalMarket, str]) -> LocalMarket:
    return market_and_factory[0]


@pytest.fixture
def market_chain(anvil: Anvil, market_and_factory: tuple[LocalMarket, str]) -> ChainSettings:
    market, factory = market_and_factory
    return ChainSettings(
        chain_id=CHAIN_ID,
        name="local",
        rpc_urls=(anvil.url,),
        vault_factory=factory,
        swap_router=market.swap_router,
        quoter=market.quoter,
        pools=(market.pool,),
        quote_token=market.quote_token,
    )


@pytest.fixture
def settings(
    database_url: str, redis_url: str, rabbitmq_url: str, chain_settings: ChainSettings
) -> AccountManagerSettings:
    return AccountManagerSettings(
        database_url=SecretStr(database_url),
        redis_url=SecretStr(redis_url),
        rabbitmq_url=SecretStr(rabbitmq_url),
        chains=(chain_settings,),
        cycle_partitions=2,
        sign_in_limit="1000/minute",
    )


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 50_000))
        async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as http:
            yield http


@pytest.fixture
async def app(settings: AccountManagerSettings, clock: SimulatedClock) -> FastAPI:
    return create_app(settings, clock)


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with running(app) as client:
        yield client


@pytest.fixture
def parts(app: FastAPI, http: httpx.AsyncClient) -> Parts:
    found: Parts = app.state.parts
    return found


@pytest.fixture
async def engine(settings: AccountManagerSettings) -> AsyncIterator[AsyncEngine]:
    engine = make_engine(settings, application="test")
    yield engine
    await engine.dispose()


@pytest.fixture
def sessions(engine: AsyncEngine) -> SessionFactory:
    return make_session_factory(engine)


@pytest.fixture
def holding() -> Iterator[set[OrmSession]]:
    """The sessions that hold a connection now. What listens all the time does so without a session."""
    held: set[OrmSession] = set()

    def begun(session: OrmSession, *_: Any) -> None:
        held.add(session)

    def ended(session: OrmSession, *_: Any) -> None:
        held.discard(session)

    event.listen(OrmSession, "after_begin", begun)
    event.listen(OrmSession, "after_transaction_end", ended)
    yield held
    event.remove(OrmSession, "after_begin", begun)
    event.remove(OrmSession, "after_transaction_end", ended)


@pytest.fixture
def held_while_asked(holding: set[OrmSession], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many sessions held a connection at each question to a chain."""
    held: list[int] = []
    guard = ChainClient.guard

    async def counted(client: ChainClient, request: Any) -> Any:
        held.append(len(holding))
        return await guard(client, request)

    monkeypatch.setattr(ChainClient, "guard", counted)
    return held


async def request_nonce(http: httpx.AsyncClient, account: LocalAccount) -> dict[str, str]:
    answer = await http.post("/auth/nonce", json={"address": account.address, "chain_id": CHAIN_ID})
    assert answer.status_code == 200, answer.text
    body: dict[str, str] = answer.json()
    return body


async def login(http: httpx.AsyncClient, message: str, signature: str) -> httpx.Response:
    return await http.post("/auth/login", json={"message": message, "signature": signature})


@pytest.fixture
def sign_in(http: httpx.AsyncClient) -> SignIn:
    async def sign_in(account: LocalAccount) -> Session:
        message = (await request_nonce(http, account))["message"]
        answer = await login(http, message, sign(account, message))
        assert answer.status_code == 200, answer.text
        body = answer.json()
        return Session(http, account, UUID(body["user_id"]), body["access_token"], body["refresh_token"])

    return sign_in


@pytest.fixture
async def alice(sign_in: SignIn) -> Session:
    return await sign_in(wallet(1))


@pytest.fixture
async def mallory(sign_in: SignIn) -> Session:
    return await sign_in(wallet(2))


@pytest.fixture
async def owner(anvil: Anvil) -> AsyncIterator[Deployer]:
    """The chain as alice's own wallet (account 1) sends to it."""
    web3 = AsyncWeb3(AsyncHTTPProvider(anvil.url))
    yield Deployer(web3, Artifacts(REPOSITORY), wallet(1).address)
    await web3.provider.disconnect()


@pytest.fixture
async def vault(owner: Deployer, alice: Session, market_chain: ChainSettings, sessions: SessionFactory) -> str:
    """Alice's vault, deployed and registered as the deployment job would."""
    assert market_chain.vault_factory
    factory = owner.at("VaultFactory", market_chain.vault_factory)
    await owner.send(factory.functions.createVault(owner.account, b"\1" * 32))
    address = str(await factory.functions.predictVault(owner.account, b"\1" * 32).call())
    async with sessions.begin() as session:
        await session.execute(
            insert(Signer).values(chain_id=CHAIN_ID, address=wallet(OPERATOR_WALLET).address, next_nonce=0)
        )
        session.add(
            Vault(
                user_id=alice.user_id,
                chain_id=CHAIN_ID,
                address=address,
                owner_address=owner.account,
                factory=market_chain.vault_factory,
                created_block=1,
            )
        )
    return address
