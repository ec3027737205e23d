"""A worker with the product's own nodes on a chain with a market, and a user with a vault there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
from fastapi import FastAPI

from devstack.anvil import CHAIN_ID, Anvil
from devstack.executor_world import ONE_BASE, ONE_QUOTE, operator_signer
from devstack.uniswap import LocalMarket, deploy_market
from devstack.vaults import LocalVaults, VaultTerms, deploy_factory
from tests.deployed_chain import with_contracts
from tests.integration.worker.conftest import Client, UserIsToken
from tradingflow.chain.client import ChainClient
from tradingflow.core.config import ChainSettings, WorkerSettings
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import User, Vault
from tradingflow.prices import points
from tradingflow.prices.agreement import Quote
from tradingflow.py_worker.kit.registry import node_types
from tradingflow.py_worker.server import create_app

REPOSITORY = Path(__file__).resolve().parents[4]
DEPOSIT = 10_000 * ONE_QUOTE
TRADE_CAP = 1_000 * ONE_QUOTE


@dataclass
class World:
    """Everything a test of paper trading touches."""

    app: FastAPI
    anvil: Anvil
    market: LocalMarket
    chain: ChainClient
    sessions: SessionFactory
    vault: str
    client: Client
    stranger: Client

    def buy(self, **config: Any) -> dict[str, Any]:
        """A node that spends quote tokens of the vault on base tokens."""
        terms = {"chain_id": CHAIN_ID, "vault": self.vault, "pool": self.market.pool, **config}
        return {"id": "buy", "type": "buy_node", "config": terms}

    def price(self) -> dict[str, Any]:
        return {"id": "price", "type": "dex_price_node", "config": {"chain_id": CHAIN_ID, "pool": self.market.pool}}

    def flow(self, *, cheap_below: str = "1000000.0", **config: Any) -> tuple[list[Any], list[Any]]:
        """Price, then a condition on it, then a buy."""
        condition = {"id": "cheap", "type": "condition_node", "config": {"expression": f"price < {cheap_below}"}}
        nodes = [self.price(), condition, self.buy(**config)]
        return nodes, [edge("price", "price", "cheap", "price"), edge("cheap", "true", "buy", "trigger")]

    async def market_says(self, price: str) -> None:
        """What a source besides the pool quotes the base token at, in whole quote tokens."""
        quote = Quote("coingecko", "coingecko", Decimal(price), datetime.now(UTC) + timedelta(seconds=400))
        async with self.sessions.begin() as session:
            await points.keep(session, CHAIN_ID, self.market.base_token, [quote])

    async def open_vault(self, user_id: UUID) -> None:
        """Make the vault on chain the user's."""
        async with self.sessions.begin() as session:
            session.add(
                Vault(
                    user_id=user_id,
                    chain_id=CHAIN_ID,
                    address=self.vault,
                    owner_address=self.market.factory,
                    factory=self.market.factory,
                    created_block=0,
                )
            )


def edge(source: str, source_handle: str, target: str, target_handle: str) -> dict[str, str]:
    return {"source": source, "source_handle": source_handle, "target": target, "target_handle": target_handle}


async def _deploy(anvil: Anvil) -> tuple[LocalMarket, str]:
    market = await deploy_market(anvil.url, REPOSITORY)
    factory = await deploy_factory(anvil.url, REPOSITORY, market.weth)
    terms = VaultTerms({market.quote_token: DEPOSIT}, per_trade_cap=TRADE_CAP)
    async with LocalVaults(anvil.url, REPOSITORY) as vaults:
        return market, await vaults.open_vault(factory, market, operator_signer().address, terms)


@asynccontextmanager
async def paper_world(anvil: Anvil, settings: WorkerSettings, sessions: SessionFactory) -> AsyncIterator[World]:
    market, vault = await with_contracts(anvil, "paper", lambda: _deploy(anvil))
    chain = ChainSettings(
        chain_id=CHAIN_ID,
        name="local",
        rpc_urls=(anvil.url,),
        swap_router=market.swap_router,
        quoter=market.quoter,
        pools=(market.pool,),
        quote_token=market.quote_token,
    )
    served = settings.model_copy(update={"chains": (chain,), "sandbox_processes": 1})
    app = create_app(served, types=node_types(), authenticator=UserIsToken())
    users = [User(id=uuid4()), User(id=uuid4())]
    async with sessions.begin() as session:
        session.add_all(users)
    transport = httpx.ASGITransport(app=app)
    client = ChainClient(chain)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://w") as http:
        owner, stranger = (Client(http, user.id) for user in users)
        world = World(app, anvil, market, client, sessions, vault, owner, stranger)
        await world.open_vault(owner.user_id)
        yield world
    await client.close()


__all__ = ["DEPOSIT", "ONE_BASE", "TRADE_CAP", "World", "edge", "paper_world"]
