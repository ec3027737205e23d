"""A user with a flow, a funded vault on a real Uniswap market, and an executor: for tests and chaos runs."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

from eth_account import Account
from eth_typing import HexStr
from hexbytes import HexBytes
from pydantic import SecretStr
from sqlalchemy import select
from web3.types import FilterParams

from devstack.anvil import CHAIN_ID, MNEMONIC, Anvil
from devstack.uniswap import LocalMarket, deploy_market
from devstack.vaults import LocalVaults, VaultTerms, deploy_factory
from tradingflow.account_manager.relayer.relayer import Relayer
from tradingflow.account_manager.relayer.signers import SignerSet
from tradingflow.account_manager.relayer.steps import Reached, Step, unheard
from tradingflow.account_manager.trade.executor import TradeExecutor
from tradingflow.chain.client import ChainClient
from tradingflow.chain.factory import VaultFactoryContract
from tradingflow.chain.signer import LocalSigner
from tradingflow.chain.swap_path import encode_path
from tradingflow.chain.vault import TRADE_EXECUTED_TOPIC
from tradingflow.core.clock import SystemClock
from tradingflow.core.config import ChainSettings, ExecutorSettings
from tradingflow.core.evm import keccak
from tradingflow.core.ids import trade_id
from tradingflow.db.engine import SessionFactory, make_engine, make_session_factory
from tradingflow.db.models import (
    Flow,
    FlowVersion,
    OutboxMessage,
    Signer,
    Trade,
    Transaction,
    User,
    Vault,
    VaultDeployment,
)

OPERATOR_INDEX = 5
MINED_WITHIN_S = 5.0
ONE_BASE = 10**18
ONE_QUOTE = 10**6


def operator_key(index: int) -> str:
    """The private key of one of anvil's accounts."""
    Account.enable_unaudited_hdwallet_features()
    return "0x" + bytes(Account.from_mnemonic(MNEMONIC, account_path=f"m/44'/60'/0'/0/{index}").key).hex()


def operator_signer(index: int = OPERATOR_INDEX) -> LocalSigner:
    return LocalSigner.from_key(operator_key(index))


class OffsetClock:
    """The system's time, moved ahead by hand."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(SystemClock().now().timestamp() + self.ahead_s, UTC)


@dataclass
class World:
    """Everything a test of the executor touches."""

    anvil: Anvil
    market: LocalMarket
    client: ChainClient
    sessions: SessionFactory
    settings: ExecutorSettings
    signer: LocalSigner
    vault: str
    owner: str
    user_id: UUID
    flow_pk: UUID
    clock: OffsetClock = field(default_factory=OffsetClock)
    cycles: int = 0

    def relayer(self, reached: Reached = unheard) -> Relayer:
        return Relayer(
            self.sessions,
            {CHAIN_ID: self.client},
            SignerSet([self.signer]),
            self.clock,
            self.settings,
            self._once_mined(reached),
        )

    def _once_mined(self, reached: Reached) -> Reached:
        """The same, a moment later: anvil takes a transaction first, and mines it right after it said so."""

        def reached_later(step: Step) -> None:
            if step is Step.SENT_UNRECORDED and self.anvil.rpc("anvil_getAutomine"):
                deadline_s = time.monotonic() + MINED_WITHIN_S
                while int(self.anvil.rpc("txpool_status")["pending"], 16) and time.monotonic() < deadline_s:
                    time.sleep(0.005)
            reached(step)

        return reached_later

    def executor(self, reached: Reached = unheard) -> TradeExecutor:
        return TradeExecutor(self.relayer(reached))

    async def request_trade(
        self,
        amount_in: int = ONE_QUOTE,
        *,
        slippage_bps: int = 100,
        sell_base: bool = False,
        vault: str | None = None,
        v2_router: str | None = None,
    ) -> str:
        """Insert a requested trade as the worker's gateway does; returns its id."""
        cycle, self.cycles = self.cycles, self.cycles + 1
        tokens = [self.market.quote_token, self.market.base_token]
        token_in, token_out = reversed(tokens) if sell_base else tokens
        identity = trade_id(self.flow_pk, 1, cycle, "swap")
        async with self.sessions() as session, session.begin():
            session.add(
                Trade(
                    id=identity,
                    user_id=self.user_id,
                    flow_pk=self.flow_pk,
                    version=1,
                    cycle=cycle,
                    node_id="swap",
                    chain_id=CHAIN_ID,
                    vault_address=vault or self.vault,
                    router=v2_router or self.market.swap_router,
                    path=encode_path((token_in, token_out), () if v2_router else (self.market.fee,)),
                    token_in=token_in,
                    token_out=token_out,
                    amount_in=amount_in,
                    slippage_bps=slippage_bps,
                    status="requested",
                    created_at=self.clock.now(),
                )
            )
        return identity

    async def queue_deployment(self, request_key: str) -> UUID:
        """Insert a queued deployment as the Account Manager does; returns its id."""
        factory = VaultFactoryContract(self.client)
        salt = "0x" + keccak(request_key.encode()).hex()
        deployment_id, owner = uuid4(), self.owner
        async with self.sessions() as session, session.begin():
            session.add(
                VaultDeployment(
                    id=deployment_id,
                    user_id=self.user_id,
                    request_key=request_key,
                    chain_id=CHAIN_ID,
                    owner_address=owner,
                    salt=salt,
                    predicted_address=await factory.predict_vault(owner, salt),
                    status="queued",
                )
            )
        return deployment_id

    async def deployment(self, deployment_id: UUID) -> VaultDeployment:
        async with self.sessions() as session:
            return await session.get_one(VaultDeployment, deployment_id)

    async def vaults(self) -> list[Vault]:
        async with self.sessions() as session:
            return list(await session.scalars(select(Vault)))

    async def trade(self, identity: str) -> Trade:
        async with self.sessions() as session:
            return await session.get_one(Trade, identity)

    async def transactions(self, identity: str) -> list[Transaction]:
        async with self.sessions() as session:
            query = select(Transaction).where(Transaction.purpose_id == identity).order_by(Transaction.id)
            return list(await session.scalars(query))

    async def next_nonce(self) -> int:
        """The nonce the operator's next transaction would get."""
        async with self.sessions() as session:
            signer = await session.get_one(Signer, (CHAIN_ID, self.signer.address))
            return signer.next_nonce or 0

    async def told(self) -> list[OutboxMessage]:
        async with self.sessions() as session:
            return list(await session.scalars(select(OutboxMessage).order_by(OutboxMessage.id)))

    async def balance(self, token: str, holder: str | None = None) -> int:
        return int(await self.client.call("ERC20", token, "balanceOf", holder or self.vault))

    async def executions(self, identity: str) -> int:
        """How often the chain shows `TradeExecuted` for this trade."""
        vault = self.client.web3.to_checksum_address(self.vault)
        wanted: FilterParams = {"address": vault, "fromBlock": 0, "topics": [TRADE_EXECUTED_TOPIC, HexStr(identity)]}
        return len(await self.client.web3.eth.get_logs(wanted))

    async def all_executions(self) -> list[str]:
        """The trade id of every `TradeExecuted` on the chain, of whatever vault."""
        wanted: FilterParams = {"fromBlock": 0, "topics": [TRADE_EXECUTED_TOPIC]}
        return [HexBytes(log["topics"][1]).to_0x_hex() for log in await self.client.web3.eth.get_logs(wanted)]

    async def open_vaults(self, count: int, repository: Path) -> list[str]:
        """More vaults of the same owner, each funded to buy."""
        factory = str(self.client.settings.vault_factory)
        terms = VaultTerms(deposits={self.market.quote_token: 10_000 * ONE_QUOTE})
        async with LocalVaults(self.anvil.url, repository) as vaults:
            salts = (number.to_bytes(32) for number in range(1, count + 1))
            return [
                await vaults.open_vault(factory, self.market, self.signer.address, terms, salt=salt) for salt in salts
            ]


@dataclass(frozen=True)
class WorldContracts:
    """Addresses of what stands on the world's chain."""

    market: LocalMarket
    factory: str
    vault: str
    owner: str


async def deploy_world(anvil: Anvil, repository: Path) -> WorldContracts:
    """Deploy market, factory and a funded vault that the operator may trade."""
    market = await deploy_market(anvil.url, repository)
    factory = await deploy_factory(anvil.url, repository, market.weth)
    terms = VaultTerms(deposits={market.quote_token: 10_000 * ONE_QUOTE, market.base_token: 5 * ONE_BASE})
    async with LocalVaults(anvil.url, repository) as vaults:
        vault = await vaults.open_vault(factory, market, operator_signer().address, terms)
        return WorldContracts(market, factory, vault, vaults.owner)


@asynccontextmanager
async def executor_world(
    anvil: Anvil, database_url: str, repository: Path, contracts: WorldContracts | None = None
) -> AsyncIterator[World]:
    """Deploy the contracts unless they stand there, put the vault's owner into the database, and hand out all of it."""
    found = contracts or await deploy_world(anvil, repository)
    market, factory, vault, owner = found.market, found.factory, found.vault, found.owner
    signer = operator_signer()
    chain = chain_settings(anvil.url, market, factory)
    settings = ExecutorSettings(database_url=SecretStr(database_url), chains=(chain,))
    engine = make_engine(settings, application="executor-world")
    client = ChainClient(chain)
    try:
        sessions = make_session_factory(engine)
        user_id, flow_pk = await insert_owner(sessions, vault, owner, factory)
        yield World(anvil, market, client, sessions, settings, signer, vault, owner, user_id, flow_pk)
    finally:
        await client.close()
        await engine.dispose()


def chain_settings(rpc_url: str, market: LocalMarket, factory: str) -> ChainSettings:
    return ChainSettings(
        chain_id=CHAIN_ID,
        name="local",
        rpc_urls=(rpc_url,),
        vault_factory=factory,
        swap_router=market.swap_router,
        quoter=market.quoter,
        pools=(market.pool,),
        quote_token=market.quote_token,
        finality_blocks=8,
    )


async def insert_owner(sessions: SessionFactory, vault: str, owner: str, factory: str) -> tuple[UUID, UUID]:
    user_id, flow_pk = uuid4(), uuid4()
    async with sessions() as session, session.begin():
        session.add(User(id=user_id))
        await session.flush()
        session.add(Flow(id=flow_pk, user_id=user_id, flow_id="f", status="running", current_version=1))
        await session.flush()
        session.add(FlowVersion(flow_pk=flow_pk, version=1, graph={}))
        address = {"address": vault, "owner_address": owner, "factory": factory}
        session.add(Vault(user_id=user_id, chain_id=CHAIN_ID, created_block=1, **address))
    return user_id, flow_pk
