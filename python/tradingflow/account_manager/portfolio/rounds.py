"""Valuing every vault from time to time."""

from __future__ import annotations

import time
from collections import defaultdict
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.exc import DBAPIError

from tradingflow.account_manager.portfolio import repository
from tradingflow.account_manager.portfolio.valuation import VaultValuer
from tradingflow.account_manager.schedule import SLOW_RUN_S
from tradingflow.core.clock import Clock
from tradingflow.core.errors import TradingFlowError
from tradingflow.core.logging import get_logger
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import Vault

log = get_logger(__name__)

VALUE_AGAIN_AFTER = timedelta(minutes=5)
# Vaults of a chain that a round values at most.
BATCH = 200


class ValuationRounds:
    """A vault whose valuation failed waits as long as one that was valued: those that always fail hold up no other."""

    def __init__(self, valuer: VaultValuer, sessions: SessionFactory, clock: Clock) -> None:
        self._valuer = valuer
        self._sessions = sessions
        self._clock = clock
        self._failed: dict[int, dict[UUID, datetime]] = defaultdict(dict)

    async def run(self, chain_id: int) -> None:
        """Value the chain's vaults last valued five minutes ago, the longest ago first."""
        before = self._clock.now() - VALUE_AGAIN_AFTER
        waiting = {vault: at for vault, at in self._failed[chain_id].items() if at >= before}
        self._failed[chain_id] = waiting
        async with self._sessions() as session:
            due = await repository.valued_longest_ago(session, chain_id, before, waiting, BATCH)
        began = time.monotonic()
        for vault in due:
            await self._value_one(vault)
            if time.monotonic() - began > SLOW_RUN_S:
                break

    async def _value_one(self, vault: Vault) -> None:
        """The edge: what fails is said here, and a later round tries again."""
        now = self._clock.now()
        self._failed[vault.chain_id][vault.id] = now
        try:
            await self._valuer.value_and_keep(vault, now)
        except TradingFlowError as error:
            log.warning("vault not valued", vault=vault.address, code=error.code, detail=error.detail)
        except DBAPIError as error:
            log.warning("vault not valued", vault=vault.address, error=error.orig)
        else:
            del self._failed[vault.chain_id][vault.id]
