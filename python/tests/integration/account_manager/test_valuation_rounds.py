"""Every vault gets its turn to be valued, whatever becomes of the others."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from devstack.anvil import CHAIN_ID
from tests.integration.account_manager.conftest import Session
from tradingflow.account_manager.parts import Parts
from tradingflow.account_manager.portfolio import rounds
from tradingflow.account_manager.portfolio.rounds import VALUE_AGAIN_AFTER, ValuationRounds
from tradingflow.account_manager.portfolio.schemas import VaultPortfolio
from tradingflow.account_manager.portfolio.valuation import VaultValuer
from tradingflow.core.clock import SimulatedClock
from tradingflow.core.errors import DependencyUnavailable
from tradingflow.core.evm import address_from_bytes
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import Vault

GOOD, BAD, ALSO_BAD, ELSEWHERE = (address_from_bytes(bytes([n]) * 20) for n in range(1, 5))
OTHER_CHAIN = CHAIN_ID + 1
ROUND = timedelta(seconds=20)


@pytest.fixture
def failures() -> dict[str, Exception]:
    return {vault: DependencyUnavailable("rpc_unavailable", "it always fails") for vault in (BAD, ALSO_BAD)}


@pytest.fixture
async def tried(
    alice: Session, sessions: SessionFactory, failures: dict[str, Exception], monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """The vaults somebody tried to value, as it goes on. Those with failures are the first in line."""
    tried: list[str] = []

    async def value(_: VaultValuer, vault: Vault) -> VaultPortfolio:
        tried.append(vault.address)
        if vault.address in failures:
            raise failures[vault.address]
        return VaultPortfolio(
            chain_id=vault.chain_id,
            vault=vault.address,
            block_number=1,
            as_of=vault.created_at,
            quote_token=None,
            quote_symbol=None,
            positions=[],
            value=None,
            reason="no_quote_token",
        )

    monkeypatch.setattr(VaultValuer, "value", value)
    monkeypatch.setattr(rounds, "BATCH", 2)
    async with sessions.begin() as session:
        made = {"user_id": alice.user_id, "owner_address": alice.account.address, "factory": GOOD, "created_block": 1}
        for number, address in enumerate((BAD, ALSO_BAD, GOOD, ELSEWHERE), start=1):
            chain_id = OTHER_CHAIN if address == ELSEWHERE else CHAIN_ID
            session.add(Vault(id=UUID(int=number), chain_id=chain_id, address=address, **made))
    return tried


async def test_vaults_that_always_fail_hold_up_no_other_and_are_tried_again(
    parts: Parts, sessions: SessionFactory, clock: SimulatedClock, tried: list[str]
) -> None:
    job = ValuationRounds(parts.valuer, sessions, clock)
    for expected in ([BAD, ALSO_BAD], [GOOD], []):
        tried.clear()
        await job.run(CHAIN_ID)
        assert tried == expected
        clock.advance_to(clock.now() + ROUND)
    clock.advance_to(clock.now() + VALUE_AGAIN_AFTER)
    for expected in ([BAD, ALSO_BAD], [GOOD]):
        tried.clear()
        await job.run(CHAIN_ID)
        assert tried == expected


async def test_a_round_that_takes_long_ends_after_the_vault_it_is_at(
    parts: Parts, sessions: SessionFactory, clock: SimulatedClock, tried: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "SLOW_RUN_S", -1.0)
    job = ValuationRounds(parts.valuer, sessions, clock)
    for expected in ([BAD], [BAD, ALSO_BAD], [BAD, ALSO_BAD, GOOD]):
        await job.run(CHAIN_ID)
        assert tried == expected


async def test_a_failure_nobody_foresaw_ends_its_round_and_not_the_next(
    parts: Parts,
    sessions: SessionFactory,
    clock: SimulatedClock,
    failures: dict[str, Exception],
    tried: list[str],
) -> None:
    failures[BAD] = ValueError("unforeseen")
    job = ValuationRounds(parts.valuer, sessions, clock)
    with pytest.raises(ValueError, match="unforeseen"):
        await job.run(CHAIN_ID)
    await job.run(CHAIN_ID)
    assert tried == [BAD, ALSO_BAD, GOOD]


async def test_each_chain_has_its_own_turn(
    parts: Parts, sessions: SessionFactory, clock: SimulatedClock, tried: list[str]
) -> None:
    await ValuationRounds(parts.valuer, sessions, clock).run(OTHER_CHAIN)
    assert tried == [ELSEWHERE]
