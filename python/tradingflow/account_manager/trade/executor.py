"""The executor: advances one trade by whatever the database and the chain allow now, and returns.

`advance` may be called at any moment, any number of times, by any number of processes: it reads where the trade
stands, asks the chain without holding a lock, and writes each step under the trade's row lock, where the step is
checked against the table of transitions again. The chain has the last word: a trade id that a vault has executed is
settled from the vault's own event, whatever our rows say.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.relayer import repository as transactions
from tradingflow.account_manager.relayer.relayer import Call, Intent, Mined, Relayer, StateBlock, Waiting, state_block
from tradingflow.account_manager.relayer.steps import Step
from tradingflow.account_manager.relayer.transitions import TradeStatus, TransactionStatus
from tradingflow.account_manager.trade import repository, spending
from tradingflow.account_manager.trade.plan import Plan, Planner
from tradingflow.account_manager.trade.repository import Failure
from tradingflow.account_manager.trade.settlement import PURPOSE, Settlement, client_of, revert_reason
from tradingflow.chain.client import ChainClient
from tradingflow.chain.fees import Fees
from tradingflow.chain.transactions import head_number
from tradingflow.chain.vault import VaultContract
from tradingflow.core.errors import Refused
from tradingflow.core.logging import get_logger
from tradingflow.db.models import Trade, Transaction

log = get_logger(__name__)

OPERATOR_CHANGED = Failure("operator_changed", "the vault's owner named another operator while the trade was under way")
NOT_SENT = Failure("not_sent_in_time", "the trade could not be sent before its time was over")
TERMINATED = Failure("node_terminated", "the node that asked for the trade was ended before the trade was sent")
CANNOT_PAY = Failure("operator_cannot_pay", "the operator's account held too little for the gas of the trade")
NOT_MINED = Failure("not_mined_in_time", "no attempt was mined before the trade's time was over")


class TradeExecutor:
    """Executes trades on all chains with the signers of its relayer."""

    def __init__(self, relayer: Relayer) -> None:
        self._relayer = relayer
        self._planner = Planner(relayer)
        self._settlement = Settlement(relayer)

    async def advance(self, trade_id: str) -> None:
        """One step or several; what is left is left to the next call.

        Raises DependencyUnavailable when the chain or the database does not answer, or the operator cannot pay.
        """
        async with self._relayer.sessions() as session:
            trade = await repository.find(session, trade_id)
        if trade is None:
            log.warning("no such trade", trade_id=trade_id)
        elif trade.finalized_at is None:
            self._relayer.reached(Step.INTENT_LOADED)
            await self._advance(trade)

    async def _advance(self, trade: Trade) -> None:
        if trade.status == TradeStatus.REQUESTED:
            await self._begin(trade)
        elif trade.status == TradeStatus.SUBMITTED:
            await self._follow(trade)
        else:
            await self._settlement.confirm(trade)

    # ------------------------------------------------------------------ from intent to a stored attempt

    async def _begin(self, trade: Trade) -> None:
        if not await self._is_its_turn(trade):
            return
        async with self._relayer.sessions() as session:
            lapsed = await self._lapse(session, trade)
        if lapsed is not None:
            await self._end_unsent(trade, lapsed)
            return
        try:
            plan = await self._planner.plan(trade)
        except Refused as refusal:
            await self._refuse(trade, refusal)
            return
        self._relayer.reached(Step.PLANNED)
        await self._relayer.ensure_nonces(trade.chain_id, plan.signer)
        try:
            transaction = await self._prepare(trade, plan)
        except Refused as refusal:
            await self._refuse(trade, refusal)
            return
        if transaction is not None:
            self._relayer.reached(Step.PREPARED)
            await self._relayer.broadcast(transaction)
            await self.advance(trade.id)

    async def _is_its_turn(self, trade: Trade) -> bool:
        async with self._relayer.sessions() as session:
            return await repository.next_requested(session, trade.chain_id, trade.vault_address) == trade.id

    async def _lapse(self, session: AsyncSession, trade: Trade) -> Failure | None:
        """Why a trade that waits is not wanted any more."""
        if trade.failure_code is not None:  # called off while it had a nonce, which then went to somebody else
            return Failure(trade.failure_code, trade.failure_detail or "")
        if self._is_over(trade.retried_at or trade.created_at):
            return NOT_SENT
        return TERMINATED if await repository.was_terminated(session, trade) else None

    async def _refuse(self, trade: Trade, refusal: Refused) -> None:
        if refusal.code == "trade_id_used":
            await self._settlement.settle_from_chain(trade)
        else:
            await self._end_unsent(trade, Failure(refusal.code, refusal.detail))

    async def _end_unsent(self, trade: Trade, failure: Failure) -> None:
        """It may have been executed all the same, and be refused for just that reason (a cool-down).

        Rows do not tell: a backup that was restored knows nothing of the attempts that came after it.
        """
        async with self._relayer.sessions() as session:
            was_sent = trade.settled_at is not None or bool(await transactions.attempts_for(session, trade.id))
        is_served = trade.chain_id in self._relayer.chains
        if is_served and await self._vault(trade).trade_used(trade.id):
            await self._settlement.settle_from_chain(trade)
        else:
            await self._settlement.fail(trade, failure, was_sent=was_sent)

    def _is_over(self, since: datetime) -> bool:
        return self._relayer.clock.now() - since >= timedelta(seconds=self._relayer.settings.trade_ttl_s)

    async def _prepare(self, trade: Trade, plan: Plan) -> Transaction | None:
        """None when the trade is not waiting any more, or another trade of the vault is in flight.

        Raises DependencyUnavailable `operator_cannot_pay`: the trade waits for the purse, until its time is over.
        """
        intent = Intent(PURPOSE, trade.id, trade.chain_id)
        purse = await self._relayer.purse(trade.chain_id, plan.signer)
        now = self._relayer.clock.now()
        try:
            async with self._relayer.sessions() as session, session.begin():
                row = await repository.lock(session, trade.id)
                # Whoever ended it meanwhile has told its flow so: the table of transitions would let it come back.
                if row.status != TradeStatus.REQUESTED or await self._lapse(session, row) is not None:
                    return None
                await repository.move(
                    session,
                    trade.id,
                    TradeStatus.SUBMITTED,
                    submitted_at=now,
                    min_amount_out=plan.min_amount_out,
                )
                await spending.reserve(session, trade, now.date(), plan.policy_on(now.date()))
                await self._relayer.require_funds(session, purse, plan.call, plan.fees)
                transaction = await self._relayer.prepare(session, intent, plan.signer, plan.call, plan.fees)
                self._relayer.reached(Step.PREPARED_BEFORE_COMMIT)
        except IntegrityError as conflict:
            log.info("trade waits for its turn", trade_id=trade.id, constraint=str(conflict.orig).splitlines()[0])
            return None
        return transaction

    # ------------------------------------------------------------------ from a stored attempt to an outcome

    async def _follow(self, trade: Trade) -> None:
        if await self._look(trade):
            await self._look(trade)

    async def _look(self, trade: Trade) -> bool:
        """Act on what the chain says now; True when something was sent, so that a second look may see it mined."""
        async with self._relayer.sessions() as session:
            attempts = await transactions.slot_attempts(session, PURPOSE, trade.id)
        outcome = await self._relayer.look(attempts)
        if isinstance(outcome, Waiting):
            return await self._press(trade, attempts)
        if isinstance(outcome, Mined):
            await self._settle(trade, attempts, outcome)
        else:
            await self._start_over(trade, attempts)
        return False

    async def _settle(self, trade: Trade, attempts: Sequence[Transaction], mined: Mined) -> None:
        client = self._client(trade)
        depth = await head_number(client) - mined.receipt.block_number + 1
        if depth < self._relayer.settings.trade_confirmations:
            return
        if not mined.receipt.succeeded or mined.transaction.gives_up:
            await self._settle_without(trade, attempts, mined, state_block(mined.receipt.block_number, depth))
        else:
            await self._settlement.complete(trade, attempts, mined.receipt)

    async def _settle_without(
        self, trade: Trade, attempts: Sequence[Transaction], mined: Mined, block: StateBlock
    ) -> None:
        """The slot was mined and did not trade. Another slot of the trade may have: the vault knows.

        Asked as of the slot's own block, so that a node which is behind does not answer for an earlier one.
        """
        if await self._vault(trade).trade_used(trade.id, block=block):
            await self._settlement.settle_from_chain(trade)
            return
        if mined.transaction.gives_up:
            failure = Failure(trade.failure_code or NOT_MINED.code, trade.failure_detail or NOT_MINED.detail)
        else:
            failure = await revert_reason(self._client(trade), mined)
        await self._settlement.fail(trade, failure, attempts, mined.receipt)

    async def _start_over(self, trade: Trade, attempts: Sequence[Transaction]) -> None:
        """The nonce is gone to a foreign transaction: this slot is dead, and the trade needs another."""
        if await self._vault(trade).trade_used(trade.id):
            await self._settlement.settle_from_chain(trade)
            return
        log.warning("nonce taken by a foreign transaction", trade_id=trade.id, nonce=attempts[-1].nonce)
        async with self._relayer.sessions() as session, session.begin():
            if not await self._is_current(session, trade, attempts[-1]):
                return
            await transactions.set_status(session, [a.id for a in attempts], TransactionStatus.REPLACED)
            if await repository.move(session, trade.id, TradeStatus.REQUESTED):
                await spending.release(session, trade)

    async def _is_current(self, session: AsyncSession, trade: Trade, latest: Transaction) -> bool:
        """Lock the trade; False when another executor has settled it, replaced this attempt or started over."""
        row = await repository.lock(session, trade.id)
        attempts = await transactions.slot_attempts(session, PURPOSE, trade.id)
        return row.status == TradeStatus.SUBMITTED and attempts[-1].id == latest.id

    # ------------------------------------------------------------------ getting a waiting attempt mined

    async def _press(self, trade: Trade, attempts: Sequence[Transaction]) -> bool:
        """Whether something was sent."""
        latest = attempts[-1]
        is_unwanted = trade.failure_code is not None and not latest.gives_up
        if is_unwanted or self._relayer.is_overdue(latest):
            replacement = await self._replacement(trade, attempts)
            if replacement is not None:
                self._relayer.reached(Step.REPLACEMENT_PREPARED)
                return (await self._relayer.broadcast(replacement)).is_held
        if self._relayer.is_silent(latest) and not is_unwanted and not self._relayer.has_expired(latest):
            return (await self._relayer.broadcast(latest)).is_held
        return False

    async def _replacement(self, trade: Trade, attempts: Sequence[Transaction]) -> Transaction | None:
        """None where none is needed or possible now."""
        latest = attempts[-1]
        try:
            market = await self._relayer.fees(trade.chain_id)
            failure, plan = await self._decide_again(trade, attempts)
            call = plan.call if plan is not None else self._relayer.empty_transfer(latest.signer)
            fees = self._relayer.replacement_fees(attempts, call, market)
            if fees is None:
                return None
            return await self._prepare_replacement(trade, latest, call, fees, failure)
        except Refused as refusal:
            # Nothing to do but wait for the market, or for somebody to raise the ceiling.
            log.warning("trade cannot be replaced now", trade_id=trade.id, code=refusal.code, detail=refusal.detail)
            return None

    async def _prepare_replacement(
        self, trade: Trade, latest: Transaction, call: Call, fees: Fees, failure: Failure | None
    ) -> Transaction | None:
        try:
            async with self._relayer.sessions() as session, session.begin():
                if not await self._is_current(session, trade, latest):
                    return None
                if failure is not None:
                    await repository.amend(session, trade.id, failure_code=failure.code, failure_detail=failure.detail)
                replacement = await self._relayer.prepare_replacement(session, call, latest, fees)
                self._relayer.reached(Step.REPLACEMENT_BEFORE_COMMIT)
        except IntegrityError:
            return None  # another executor replaced this attempt in the meantime
        return replacement

    async def _decide_again(self, trade: Trade, attempts: Sequence[Transaction]) -> tuple[Failure | None, Plan | None]:
        """A fresh plan for the same trade, or why it is called off; neither when that was decided before."""
        if trade.failure_code is not None:
            return None, None
        if trade.submitted_at is not None and self._is_over(trade.submitted_at):
            return NOT_MINED, None
        try:
            plan = await self._planner.plan(trade)
        except Refused as refusal:
            if refusal.code == "trade_id_used":
                raise  # mined this moment: the next look finds the receipt
            return Failure(refusal.code, refusal.detail), None
        if plan.signer != attempts[-1].signer:
            return OPERATOR_CHANGED, None
        # The trades of all other vaults wait behind its nonce.
        is_unpayable = await self._relayer.is_unpayable(attempts, plan.call, plan.fees)
        return (CANNOT_PAY, None) if is_unpayable else (None, plan)

    async def next_after(self, trade_id: str) -> str | None:
        """The trade that waited for this one, when this one is settled."""
        async with self._relayer.sessions() as session:
            trade = await repository.find(session, trade_id)
            if trade is None or trade.status not in (TradeStatus.COMPLETED, TradeStatus.FAILED):
                return None
            return await repository.next_requested(session, trade.chain_id, trade.vault_address)

    def _client(self, trade: Trade) -> ChainClient:
        return client_of(self._relayer.chains, trade)

    def _vault(self, trade: Trade) -> VaultContract:
        return VaultContract(self._client(trade), trade.vault_address)
