"""`make prove-caps`: many writers take from the day caps of a few vaults at once; nothing is ever taken beyond a cap.

Sizes by environment: WRITERS (64), CHECKS a writer (10000), VAULTS (16), SEED (1). Each cap has room for half of what
is asked for, so that half of all checks race for the last of it; amounts differ, and some are given back as those of
trades that were called off are. What the ledger holds is compared with what the writers were granted.
"""

import asyncio
import os
import random
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import select

from bench.figure import Figures, progress
from devstack.private_servers import PrivateServers
from tradingflow.account_manager.trade import spending
from tradingflow.chain.vault import TokenPolicy
from tradingflow.core.config import PlatformSettings
from tradingflow.core.errors import Refused
from tradingflow.core.evm import address_from_bytes
from tradingflow.core.tasks import running
from tradingflow.db.engine import SessionFactory, make_engine, make_session_factory
from tradingflow.db.models import Trade, VaultSpend

REPOSITORY = Path(__file__).resolve().parents[2]
WRITERS = int(os.environ.get("WRITERS") or 64)
CHECKS = int(os.environ.get("CHECKS") or 10_000)
VAULTS = int(os.environ.get("VAULTS") or 16)
SEED = int(os.environ.get("SEED") or 1)
LARGEST = 100
GIVEN_BACK = 0.1
TELL_EVERY_S = 30.0
# Half of what all writers ask of one vault: the mean amount is LARGEST / 2.
CAP = WRITERS * CHECKS * LARGEST // 4 // VAULTS
POLICY = TokenPolicy(allowed=True, per_trade_cap=LARGEST, per_day_cap=CAP, spent_today=0)
TOKEN = address_from_bytes(bytes([9]) * 20)


class Ledger:
    """What the writers were told, by vault."""

    def __init__(self) -> None:
        self.taken: Counter[str] = Counter()
        self.refused = 0
        self.granted = 0


def trade_of(vault: int, amount: int, now: datetime) -> Trade:
    return Trade(
        chain_id=1,
        vault_address=address_from_bytes(vault.to_bytes(20)),
        token_in=TOKEN,
        amount_in=amount,
        submitted_at=now,
    )


async def write(sessions: SessionFactory, seed: int, ledger: Ledger, now: datetime) -> None:
    dice = random.Random(seed)  # noqa: S311 - repeatable, not secret
    for _ in range(CHECKS):
        trade = trade_of(dice.randrange(1, VAULTS + 1), dice.randint(1, LARGEST), now)
        try:
            async with sessions() as session, session.begin():
                await spending.reserve(session, trade, now.date(), POLICY)
        except Refused:
            ledger.refused += 1
            continue
        ledger.granted += 1
        ledger.taken[trade.vault_address] += trade.amount_in
        if dice.random() < GIVEN_BACK:
            async with sessions() as session, session.begin():
                await spending.release(session, trade)
            ledger.taken[trade.vault_address] -= trade.amount_in


async def tell(ledger: Ledger) -> None:
    while True:
        await asyncio.sleep(TELL_EVERY_S)
        progress(f"  {ledger.granted + ledger.refused} of {WRITERS * CHECKS} checks")


async def run() -> int:
    figures, ledger, now = Figures(), Ledger(), datetime.now(UTC)
    progress(f"seed {SEED}, {WRITERS} writers x {CHECKS} checks on {VAULTS} vaults")
    with PrivateServers(REPOSITORY) as servers, servers.fresh_database() as url:
        engine = make_engine(PlatformSettings(database_url=SecretStr(url)), application="caps", pool_size=WRITERS)
        sessions = make_session_factory(engine)
        began = time.monotonic()
        async with running(tell(ledger)):
            await asyncio.gather(*(write(sessions, SEED * WRITERS + n, ledger, now) for n in range(WRITERS)))
        seconds = time.monotonic() - began
        async with sessions() as session:
            stored = {row.vault_address: row.spent for row in await session.scalars(select(VaultSpend))}
        await engine.dispose()
    checks = ledger.granted + ledger.refused
    overspent = sum(max(0, spent - CAP) for spent in stored.values())
    differing = sum(stored.get(vault, 0) != taken for vault, taken in ledger.taken.items())
    figures.show("caps_overspent", overspent, "base units", target="== 0", ok=overspent == 0, cap=CAP)
    figures.show("caps_ledger_differs", differing, "vaults", target="== 0", ok=differing == 0)
    asked = WRITERS * CHECKS
    figures.show("caps_checks", checks, "checks", target=f"== {asked}", ok=checks == asked,
                 granted=ledger.granted, refused=ledger.refused)  # fmt: skip
    figures.show("caps_refused", ledger.refused, "checks", target="> 0", ok=ledger.refused > 0)
    figures.show("caps_rate", checks / seconds, "checks/s", target="shown", ok=True)
    return figures.exit_code


if __name__ == "__main__":
    sys.exit(asyncio.run(run()))
