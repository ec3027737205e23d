"""Keeping a signer's nonces without gaps, in both directions.

Ahead: we gave out a nonce the chain still waits for, and no attempt of ours can take it (its row was lost, or was
written off too early, or served a purpose that ended otherwise). An empty transfer takes it, or everything behind it
would wait for ever.
Behind: the key was used elsewhere, so the chain counts further than we do. Giving out the nonces in between would only
produce transactions that can never be mined.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import islice
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from tradingflow.account_manager.relayer import repository
from tradingflow.account_manager.relayer.relayer import NONCE_TAKEN_AFTER, Intent, Mined, Relayer, Taken
from tradingflow.account_manager.relayer.transitions import TransactionStatus
from tradingflow.account_manager.vault import deployment_repository as deployments
from tradingflow.account_manager.vault.deployment import PURPOSE as VAULT_DEPLOYMENT
from tradingflow.chain.transactions import mined_nonce
from tradingflow.core.errors import Refused
from tradingflow.core.logging import get_logger
from tradingflow.db.models import Transaction

log = get_logger(__name__)

# A slot this old has been replaced at least once: somebody should look.
STUCK_AFTER = timedelta(seconds=60)
# Nobody uses an executor's key this often elsewhere within a tick. A node that says so errs most likely, and every
# nonce it makes us leave out would have to be paid for; after a restored backup it may be true, and stays so.
LARGEST_LEAP = 1_000
LEAP_BELIEVED_AFTER = timedelta(minutes=10)
# Looks further apart than this are not one observation: each process of the pool has its own.
LOOKS_TOGETHER = timedelta(seconds=60)
# Of one look; the next one goes on.
MOST_FILLED = 50


class Sightings:
    """How long something has been seen without a break."""

    def __init__(self) -> None:
        self._seen: dict[object, tuple[datetime, datetime]] = {}

    def lasts(self, what: object, now: datetime) -> timedelta:
        """Seen now, and without a break since so long ago."""
        since, last = self._seen.get(what, (now, now))
        since = since if now - last < LOOKS_TOGETHER else now
        self._seen[what] = since, now
        return now - since

    def ended(self, what: object) -> None:
        self._seen.pop(what, None)


class NonceHealer:
    """Heals one signer on one chain at a time. Safe to run in several processes."""

    def __init__(self, relayer: Relayer) -> None:
        self._relayer = relayer
        self._behind = Sightings()
        self._undone = Sightings()

    async def heal(self, chain_id: int, signer: str) -> None:
        """Raises DependencyUnavailable when the chain does not answer."""
        async with self._relayer.sessions() as session:
            following = await repository.next_nonce(session, chain_id, signer)
        if following is None:
            return
        mined = await mined_nonce(self._relayer.chains[chain_id], signer)
        await self._catch_up(chain_id, signer, mined, following)
        await self._take_up_undone(chain_id, signer, mined)
        async with self._relayer.sessions() as session:
            covered = await repository.covered_nonces(session, chain_id, signer, mined)
        gaps = (nonce for nonce in range(mined, following) if nonce not in covered)
        for nonce in islice(gaps, MOST_FILLED):
            await self._fill(chain_id, signer, nonce)
        await self._tend_fillers(chain_id, signer)
        await self._report_stuck(chain_id, signer)

    async def _catch_up(self, chain_id: int, signer: str, mined: int, following: int) -> None:
        """The database is behind, and not for a moment only: a node that is believed too soon costs a gap to fill."""
        signer_on_chain = (chain_id, signer)
        if mined <= following:
            self._behind.ended(signer_on_chain)
            return
        lasts = self._behind.lasts(signer_on_chain, self._relayer.clock.now())
        if lasts < NONCE_TAKEN_AFTER:
            return
        if mined - following > LARGEST_LEAP and lasts < LEAP_BELIEVED_AFTER:
            log.error("nonce of the chain not believed", chain_id=chain_id, signer=signer, ours=following, chain=mined)
            return
        log.error("signer is used elsewhere", chain_id=chain_id, signer=signer, ours=following, chain=mined)
        async with self._relayer.sessions() as session, session.begin():
            await repository.raise_next_nonce(session, chain_id, signer, mined)

    async def _take_up_undone(self, chain_id: int, signer: str, mined: int) -> None:
        """What a reorg took out of the chain after nobody looked at it any more has left its nonce to be taken.

        The creation of a vault takes it itself: the vault was shown to its owner, who may have sent money there.
        """
        async with self._relayer.sessions() as session:
            unwatched = await repository.unwatched_decided(session, chain_id, signer, mined)
        for gone in unwatched:
            if self._undone.lasts((chain_id, signer, gone.nonce), self._relayer.clock.now()) < NONCE_TAKEN_AFTER:
                continue
            log.warning("mined transaction is gone", chain_id=chain_id, signer=signer, nonce=gone.nonce)
            async with self._relayer.sessions.begin() as session:
                attempts = await repository.attempts_at(session, chain_id, signer, gone.nonce)
                is_creation = gone.purpose == VAULT_DEPLOYMENT
                if not is_creation or not await deployments.reopen(session, UUID(gone.purpose_id), attempts):
                    # A filler first: its trade may have another slot alive.
                    await repository.make_fillers(session, attempts)
                    await repository.record_unmined(session, attempts)

    async def _fill(self, chain_id: int, signer: str, nonce: int) -> None:
        async with self._relayer.sessions() as session:
            attempts = await repository.attempts_at(session, chain_id, signer, nonce)
        log.warning("nonce gap filled", chain_id=chain_id, signer=signer, nonce=nonce, written_off=len(attempts))
        intent = Intent(repository.FILLER, f"{signer}:{nonce}", chain_id)
        call = self._relayer.empty_transfer(signer)
        fees = await self._relayer.fees(chain_id)
        try:
            async with self._relayer.sessions() as session, session.begin():
                filler = await self._relayer.prepare_at(session, intent, signer, nonce, attempts, call, fees)
        except IntegrityError:
            return  # another process fills it
        await self._relayer.broadcast(filler)

    async def _tend_fillers(self, chain_id: int, signer: str) -> None:
        async with self._relayer.sessions() as session:
            nonces = await repository.unmined_nonces(session, chain_id, signer, repository.FILLER)
        for nonce in nonces:
            async with self._relayer.sessions() as session:
                attempts = await repository.attempts_at(session, chain_id, signer, nonce)
            await self._tend(attempts)

    async def _tend(self, attempts: Sequence[Transaction]) -> None:
        outcome = await self._relayer.look(attempts)
        latest = attempts[-1]
        if isinstance(outcome, Mined):
            async with self._relayer.sessions() as session, session.begin():
                # What was written off may be what was mined, while its trade has another slot alive.
                await repository.make_fillers(session, attempts)
                await repository.record_mined(session, attempts, outcome.receipt)
        elif isinstance(outcome, Taken):
            async with self._relayer.sessions() as session, session.begin():
                await repository.set_status(session, [a.id for a in attempts], TransactionStatus.REPLACED)
        elif self._relayer.is_overdue(latest) and await self._replace(attempts):
            return
        elif latest.gives_up and self._relayer.is_silent(latest):  # a swap that was written off stays unsaid
            await self._relayer.broadcast(latest)

    async def _replace(self, attempts: Sequence[Transaction]) -> bool:
        """Whether another attempt was sent."""
        latest = attempts[-1]
        call = self._relayer.empty_transfer(latest.signer)
        try:
            market = await self._relayer.fees(latest.chain_id)
            fees = self._relayer.replacement_fees(attempts, call, market)
            if fees is None:
                return False
            async with self._relayer.sessions() as session, session.begin():
                replacement = await self._relayer.prepare_replacement(session, call, latest, fees)
        except IntegrityError:
            return True  # another process has replaced it
        except Refused as refusal:
            log.warning("filler cannot be replaced now", hash=latest.hash, code=refusal.code)
            return False
        await self._relayer.broadcast(replacement)
        return True

    async def _report_stuck(self, chain_id: int, signer: str) -> None:
        before = self._relayer.clock.now() - STUCK_AFTER
        async with self._relayer.sessions() as session:
            stuck = await repository.unmined_since(session, chain_id, signer, before)
        for latest in stuck:
            log.error(
                "transaction stuck",
                chain_id=chain_id,
                signer=signer,
                nonce=latest.nonce,
                attempts=latest.attempt,
                purpose=latest.purpose,
                purpose_id=latest.purpose_id,
            )
