"""From a call to a mined transaction.

A slot is one nonce of one signer; its attempts differ in fees or content, and at most one of them is ever mined. Every
attempt is signed and stored, in one transaction with the change it serves, before any node sees it. So a crash leaves
nothing but rows to go on from, and sending a stored attempt again is harmless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.relayer import repository
from tradingflow.account_manager.relayer.signers import SignerSet
from tradingflow.account_manager.relayer.steps import Reached, Step, unheard
from tradingflow.account_manager.relayer.transitions import UNMINED, TransactionStatus
from tradingflow.chain.client import ChainClient
from tradingflow.chain.fees import WEI_PER_GWEI, Fees, current_fees
from tradingflow.chain.send_outcome import SendOutcome
from tradingflow.chain.signer import UnsignedTransaction
from tradingflow.chain.transactions import (
    Receipt,
    find_receipt,
    mined_nonce,
    native_balance,
    pending_nonce,
    send_raw,
)
from tradingflow.core.clock import Clock
from tradingflow.core.config import ExecutorSettings
from tradingflow.core.errors import DependencyUnavailable
from tradingflow.core.logging import get_logger
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import Transaction
from tradingflow.tracing.traces import NO_TRACES, Traces

log = get_logger(__name__)

# A node may forget what it holds; it is told again this often.
REBROADCAST_AFTER = timedelta(seconds=10)
# Nodes behind one URL lag each other by seconds: only a nonce that stays used this long without a receipt is gone.
NONCE_TAKEN_AFTER = timedelta(seconds=15)
# Nodes forget the state of blocks below the newest 128; how far they lag each other is less than half of that.
STATE_KEPT_BLOCKS = 64
EMPTY_TRANSFER_GAS = 21_000

StateBlock = int | Literal["latest"]


@dataclass(frozen=True)
class Intent:
    """What a transaction is for: `purpose` as in the transactions table, and the id of the row it serves."""

    purpose: str
    id: str
    chain_id: int


@dataclass(frozen=True)
class Call:
    """What is to be mined. After `expires_at` it would revert; None means it never expires."""

    to: str
    data: bytes
    gas_limit: int
    expires_at: datetime | None = None
    gives_up: bool = False


@dataclass(frozen=True)
class Purse:
    """What a signer holds, in wei; `mined` of its transactions are paid."""

    chain_id: int
    signer: str
    mined: int
    balance: int


@dataclass(frozen=True)
class Mined:
    """One attempt of the slot is in a block; it may still have reverted there."""

    transaction: Transaction
    receipt: Receipt


@dataclass(frozen=True)
class Waiting:
    """None of the slot's attempts is mined, and one may be."""


@dataclass(frozen=True)
class Taken:
    """The nonce went to a transaction we do not know: none of the slot's attempts can be mined."""


Outcome = Mined | Waiting | Taken


class Relayer:
    """Signs, sends and follows transactions on all chains. Safe to run in any number of processes at once."""

    def __init__(
        self,
        sessions: SessionFactory,
        chains: Mapping[int, ChainClient],
        signers: SignerSet,
        clock: Clock,
        settings: ExecutorSettings,
        reached: Reached = unheard,
        traces: Traces = NO_TRACES,
    ) -> None:
        self.sessions = sessions
        self.chains = chains
        self.signers = signers
        self.clock = clock
        self.settings = settings
        self.reached = reached
        self.traces = traces

    async def fees(self, chain_id: int) -> Fees:
        """What the market asks now. Raises Refused `fee_ceiling` above what the settings allow."""
        return (await current_fees(self.chains[chain_id])).limited_to(self._fee_ceiling)

    @property
    def _fee_ceiling(self) -> int:
        return self.settings.max_fee_per_gas_gwei * WEI_PER_GWEI

    async def ensure_nonces(self, chain_id: int, signer: str) -> None:
        """Ask the chain for a signer's first nonce, once in its life. Later nonces are the database's to give."""
        async with self.sessions() as session, session.begin():
            if await repository.next_nonce(session, chain_id, signer) is not None:
                return
        client = self.chains[chain_id]
        first = max(await asyncio.gather(mined_nonce(client, signer), pending_nonce(client, signer)))
        async with self.sessions() as session, session.begin():
            await repository.begin_nonces(session, chain_id, signer, first)

    async def purse(self, chain_id: int, signer: str) -> Purse:
        client = self.chains[chain_id]
        # The nonce first: what is mined between the two questions counts twice then, and not never.
        mined = await mined_nonce(client, signer)
        return Purse(chain_id, signer, mined, await native_balance(client, signer))

    async def require_funds(self, session: AsyncSession, purse: Purse, call: Call, fees: Fees) -> None:
        """To be asked before a nonce is taken, in the same transaction.

        Raises DependencyUnavailable `operator_cannot_pay` where the purse does not cover the call and all that is
        signed already. A node would refuse it, and whatever gets a later nonce would wait behind it.
        """
        cost = call.gas_limit * fees.max_fee
        pledged = await repository.pledged(session, purse.chain_id, purse.signer, purse.mined)
        if pledged + cost > purse.balance:
            raise DependencyUnavailable(
                "operator_cannot_pay",
                f"{purse.signer} holds {purse.balance} wei on chain {purse.chain_id}; this may cost {cost} wei, and"
                f" {pledged} wei go to what is under way",
            )

    async def prepare(self, session: AsyncSession, intent: Intent, signer: str, call: Call, fees: Fees) -> Transaction:
        """Take a nonce, sign and store a first attempt, all in the caller's transaction; nothing is sent."""
        nonce = await repository.take_nonce(session, intent.chain_id, signer)
        return await self._store(session, intent, signer, nonce, 1, call, fees)

    async def prepare_at(
        self,
        session: AsyncSession,
        intent: Intent,
        signer: str,
        nonce: int,
        attempts: Sequence[Transaction],
        call: Call,
        fees: Fees,
    ) -> Transaction:
        """Sign and store an attempt for a nonce that was given out before, after whatever attempts it had.

        Raises IntegrityError when somebody else did so first.
        """
        return await self._store(session, intent, signer, nonce, len(attempts) + 1, call, fees)

    def replacement_fees(self, attempts: Sequence[Transaction], call: Call, market: Fees) -> Fees | None:
        """What another attempt at the slot has to pay; None while sending the latest again gets as far.

        Only what a node may hold is outbid: fees that rose with each attempt of an empty purse would be beyond the
        ceiling by the time it is filled. At the ceiling there is nothing left to outbid with.
        """
        latest = attempts[-1]
        held = [attempt for attempt in attempts if _may_be_held(attempt)]
        fees = market
        if held:
            best = Fees(max(a.max_fee_per_gas for a in held), max(a.max_priority_fee_per_gas for a in held))
            fees = market.replacing(best).at_most(self._fee_ceiling)
        if call.gives_up != latest.gives_up or self.has_expired(latest):
            return fees
        outbid = fees.max_fee if _may_be_held(latest) else market.base_fee
        return fees if latest.max_fee_per_gas < outbid else None

    async def prepare_replacement(
        self, session: AsyncSession, call: Call, latest: Transaction, fees: Fees
    ) -> Transaction:
        """Sign and store another attempt for the same nonce, for what `replacement_fees` says.

        A losing race for the attempt number raises IntegrityError: somebody else has replaced it.
        """
        intent = Intent(latest.purpose, latest.purpose_id, latest.chain_id)
        return await self._store(session, intent, latest.signer, latest.nonce, latest.attempt + 1, call, fees)

    async def _store(
        self, session: AsyncSession, intent: Intent, signer: str, nonce: int, attempt: int, call: Call, fees: Fees
    ) -> Transaction:
        unsigned = UnsignedTransaction(intent.chain_id, nonce, call.to, call.data, call.gas_limit, fees)
        signed = await self.signers.of(signer).sign(unsigned)
        transaction = Transaction(
            chain_id=intent.chain_id,
            signer=signer,
            nonce=nonce,
            attempt=attempt,
            purpose=intent.purpose,
            purpose_id=intent.id,
            gives_up=call.gives_up,
            hash=signed.hash,
            raw=signed.raw,
            gas_limit=call.gas_limit,
            max_fee_per_gas=fees.max_fee,
            max_priority_fee_per_gas=fees.tip,
            expires_at=call.expires_at,
            status=TransactionStatus.PREPARED,
            created_at=self.clock.now(),  # ages are judged by this clock, not by the database's
        )
        session.add(transaction)
        await session.flush()
        return transaction

    async def broadcast(self, transaction: Transaction) -> SendOutcome:
        """Send a stored attempt, again or for the first time, and record what the node said.

        Raises DependencyUnavailable when it said nothing.
        """
        outcome = await send_raw(self.chains[transaction.chain_id], transaction.raw)
        self.reached(Step.SENT_UNRECORDED)
        async with self.sessions() as session, session.begin():
            if outcome.is_held:
                now = self.clock.now()
                await repository.set_status(session, [transaction.id], TransactionStatus.BROADCAST, broadcast_at=now)
            elif outcome not in (SendOutcome.NONCE_TOO_LOW, SendOutcome.UNDERPRICED):
                await repository.set_status(session, [transaction.id], TransactionStatus.DROPPED)
        self._report(transaction, outcome)
        self.reached(Step.BROADCAST)
        return outcome

    def _report(self, transaction: Transaction, outcome: SendOutcome) -> None:
        was_held = transaction.status == TransactionStatus.BROADCAST
        told = {"hash": transaction.hash, "nonce": transaction.nonce, "attempt": transaction.attempt}
        if outcome is SendOutcome.ACCEPTED and was_held:
            log.warning("node had dropped a transaction; sent again", **told)
        elif not outcome.is_held and outcome is not SendOutcome.NONCE_TOO_LOW:
            log.error("node refuses a transaction", outcome=outcome, signer=transaction.signer, **told)

    async def look(self, attempts: Sequence[Transaction]) -> Outcome:
        """What the chain says about a slot now."""
        if mined := await self._find_mined(attempts):
            return mined
        latest = attempts[-1]
        is_used = await mined_nonce(self.chains[latest.chain_id], latest.signer) > latest.nonce
        # Mined between the two questions? Then the receipt is there now.
        if is_used and (mined := await self._find_mined(attempts)):
            return mined
        return await self._judge_missing(attempts, is_used)

    async def _find_mined(self, attempts: Sequence[Transaction]) -> Mined | None:
        client = self.chains[attempts[0].chain_id]
        receipts = await asyncio.gather(*(find_receipt(client, attempt.hash) for attempt in attempts))
        for attempt, receipt in zip(attempts, receipts, strict=True):
            if receipt is not None:
                self.reached(Step.RECEIPT_FOUND)
                return Mined(attempt, receipt)
        return None

    async def _judge_missing(self, attempts: Sequence[Transaction], is_used: bool) -> Outcome:
        since = min((a.missing_since for a in attempts if a.missing_since), default=None)
        now = self.clock.now()
        if is_used and since is not None and now - since >= NONCE_TAKEN_AFTER:
            return Taken()
        if is_used != (since is not None):
            async with self.sessions() as session, session.begin():
                await repository.mark_missing(session, [a.id for a in attempts], now if is_used else None)
        return Waiting()

    def is_silent(self, transaction: Transaction) -> bool:
        """Whether a node should hear of this attempt (again)."""
        if transaction.status not in UNMINED:
            return False
        told_at = transaction.broadcast_at
        return told_at is None or self.clock.now() - told_at >= REBROADCAST_AFTER

    async def is_unpayable(self, attempts: Sequence[Transaction], call: Call, fees: Fees) -> bool:
        """Whether no node ever took any of these attempts, and the signer cannot pay for the call either."""
        if any(_may_be_held(attempt) for attempt in attempts):
            return False
        latest = attempts[-1]
        held = await native_balance(self.chains[latest.chain_id], latest.signer)
        return held < call.gas_limit * fees.max_fee

    def is_overdue(self, transaction: Transaction) -> bool:
        """Whether this attempt had its time to be mined and should be replaced."""
        return self.clock.now() - transaction.created_at >= timedelta(seconds=self.settings.replace_after_s)

    def has_expired(self, transaction: Transaction) -> bool:
        """Whether this attempt would only revert by now."""
        return transaction.expires_at is not None and self.clock.now() >= transaction.expires_at

    def empty_transfer(self, signer: str) -> Call:
        """A call that moves nothing and only takes a nonce."""
        return Call(to=signer, data=b"", gas_limit=EMPTY_TRANSFER_GAS, gives_up=True)


def state_block(number: int, depth: int) -> StateBlock:
    """As of which block to ask what a block of this depth brought about, so that no node answers for an earlier one.

    A node that is behind does not know the block, and says so. Of an old one no node knows the state any more.
    """
    return number if depth <= STATE_KEPT_BLOCKS else "latest"


def _may_be_held(attempt: Transaction) -> bool:
    """Whether some node may have this attempt in its pool: all but those no node ever took."""
    return attempt.status != TransactionStatus.DROPPED or attempt.broadcast_at is not None
