"""The parts of the running web process, wired once in `server.py` and handed to routes by `dependencies.py`."""

from __future__ import annotations

from dataclasses import dataclass

from redis.asyncio import Redis

from tradingflow.account_manager.job_queue import JobQueue
from tradingflow.account_manager.performance.service import VaultReporter
from tradingflow.account_manager.portfolio.valuation import VaultValuer
from tradingflow.account_manager.rate_limits import RateLimits
from tradingflow.account_manager.token.registry import TokenRegistry
from tradingflow.chain.client import ChainClient
from tradingflow.core.access_token import TokenSigner
from tradingflow.core.clock import Clock
from tradingflow.core.config import AccountManagerSettings
from tradingflow.core.sealing import Sealer
from tradingflow.db.engine import SessionFactory
from tradingflow.db.reads import ReadPool
from tradingflow.db.revocation import RevokedSessions
from tradingflow.prices.book import PriceBook


@dataclass(frozen=True)
class Parts:
    """`sessions` are transactions; `reads` run each statement by itself, for routes that change nothing.

    `hot` is for what is read all the time.
    """

    settings: AccountManagerSettings
    clock: Clock
    sessions: SessionFactory
    reads: SessionFactory
    hot: ReadPool
    redis: Redis
    chains: dict[int, ChainClient]
    prices: PriceBook
    tokens: TokenRegistry
    valuer: VaultValuer
    reporter: VaultReporter
    signer: TokenSigner
    jobs: JobQueue
    revoked: RevokedSessions
    sealer: Sealer
    limits: RateLimits

    def chain(self, chain_id: int) -> ChainClient:
        """Raises InvalidInput for a chain we do not serve, naming those we do."""
        self.settings.chain(chain_id)
        return self.chains[chain_id]
