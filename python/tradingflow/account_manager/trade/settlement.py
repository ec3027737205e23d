"""How a trade ends, and what happens when the chain changes its mind.

Each ending is one transaction: the slot's attempts, the trade row, and the message that tells the waiting node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.relayer import repository as transactions
from tradingflow.account_manager.relayer.relayer import Mined
from tradingflow.account_manager.relayer.steps import Reached, Step
from tradingflow.account_manager.relayer.transitions import TradeStatus
from tradingflow.account_manager.trade import repository, spending
from tradingflow.account_manager.trade.repository import Failure
from tradingflow.chain.client import CallReverted, ChainClient
from tradingflow.chain.transactions import Receipt, block_hash, find_receipt, head_number, replay
from tradingflow.chain.vault import ExecutedTrade, VaultContract
from tradingflow.core.clock import Clock
from tradingflow.core.config import PlatformSettings
from tradingflow.core.errors import DependencyUnavailable, InvariantBroken, Refused
from tradingflow.core.ids import cycle_partition
from tradingflow.core.logging import get_logger
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import Trade, Transaction
from tradingflow.db.outbox import OutgoingMessage, enqueue
from tradingflow.messaging.messages import TradeSettled, encode
from tradingflow.messaging.topology import CYCLES, partition_queue
from tradingflow.tracing.traces import Ended, Traces

log = get_logger(__name__)

PURPOSE = "trade"
LANE = "account_manager"
# Longer than a node may lag and still be asked; then a trade that no node has seen executed stays failed.
UNSENT_FINAL_AFTER = timedelta(minutes=15)
UNKNOWN_REVERT = Failure("reverted", "the transaction reverted; the same call no longer says why")


class Surroundings(Protocol):
    """What a settlement needs of whoever runs it: no key, so that an operator's tool can settle, too."""

    @property
    def sessions(self) -> SessionFactory: ...
    @property
    def chains(self) -> Mapping[int, ChainClient]: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def settings(self) -> PlatformSettings: ...
    @property
    def reached(self) -> Reached: ...
    @property
    def traces(self) -> Traces: ...


class Settlement:
    """Writes the ends of trades. Safe to repeat: an end that is written already changes nothing."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._around = surroundings

    async def complete(self, trade: Trade, attempts: Sequence[Transaction], receipt: Receipt) -> None:
        """The vault executed the trade in this receipt. Raises InvariantBroken when it does not say so."""
        executed = self._vault(trade).executed_trade(receipt, trade.id)
        if executed is None:
            raise InvariantBroken("trade_event_missing", f"{receipt.transaction_hash} succeeded without TradeExecuted")
        await self._write(trade, TradeStatus.COMPLETED, _facts_of(executed), attempts, receipt)

    async def fail(
        self,
        trade: Trade,
        failure: Failure,
        attempts: Sequence[Transaction] = (),
        receipt: Receipt | None = None,
        *,
        was_sent: bool = False,
    ) -> None:
        """The trade did not happen: it was refused before anything was sent, or its slot was mined without it.

        `was_sent`: it once had an attempt, in a slot that is dead; the chain is asked again before that is final.
        """
        facts: dict[str, Any] = {"failure_code": failure.code, "failure_detail": failure.detail}
        if receipt is None and not was_sent:
            facts["finalized_at"] = self._around.clock.now()  # nothing on chain that a reorg could change
        elif receipt is not None:
            facts |= _place_of(receipt)
        await self._write(trade, TradeStatus.FAILED, facts, attempts, receipt)

    async def settle_from_chain(self, trade: Trade) -> None:
        """The vault knows the trade id: settle by its event. Left for later while a lagging node hides that."""
        client = self._client(trade)
        first = await self._first_block(trade)
        executed = await self._vault(trade).find_executed_trade(trade.id, first, await head_number(client))
        receipt = await find_receipt(client, executed.transaction_hash) if executed is not None else None
        if executed is None or receipt is None:
            log.warning("trade id is used, its event is not visible yet", trade_id=trade.id)
            return
        async with self._around.sessions() as session:
            own = await transactions.find_by_hash(session, executed.transaction_hash)
            siblings = await transactions.attempts_at(session, own.chain_id, own.signer, own.nonce) if own else []
        await self._write(trade, TradeStatus.COMPLETED, _facts_of(executed), siblings, receipt)

    async def confirm(self, trade: Trade) -> None:
        """A settled trade is final once its block is deep enough; a trade whose block is gone is reopened."""
        if trade.block_number is None:
            await self._confirm_unsent(trade)
            return
        client = self._client(trade)
        found = await block_hash(client, trade.block_number)
        if found is None:
            return  # a node that is behind knows no block there yet: that is no reorg
        if found != trade.block_hash:
            await self._reopen(trade)
        elif await head_number(client) - trade.block_number >= client.settings.finality_blocks:
            await self._finalize(trade)

    async def _confirm_unsent(self, trade: Trade) -> None:
        """A failed trade with dead attempts: the node that knew nothing of its execution may have been a frozen one."""
        if await self._vault(trade).trade_used(trade.id):
            await self.settle_from_chain(trade)
        elif trade.settled_at is not None and self._around.clock.now() - trade.settled_at >= UNSENT_FINAL_AFTER:
            await self._finalize(trade)

    async def _finalize(self, trade: Trade) -> None:
        async with self._around.sessions() as session, session.begin():
            row = await repository.lock(session, trade.id)
            if (row.status, row.settled_at) != (trade.status, trade.settled_at):
                return  # tried again or settled anew since we looked: that end is not final
            await repository.amend(session, trade.id, finalized_at=self._around.clock.now())
        self._around.reached(Step.FINALIZED)

    async def _reopen(self, trade: Trade) -> None:
        log.warning("block of a settled trade was reorganised away", trade_id=trade.id, block=trade.block_number)
        async with self._around.sessions() as session, session.begin():
            row = await repository.lock(session, trade.id)
            if row.block_hash != trade.block_hash:
                return
            own = await transactions.find_by_hash(session, row.transaction_hash) if row.transaction_hash else None
            is_followed = own is not None and own.purpose == PURPOSE
            target = TradeStatus.SUBMITTED if is_followed else TradeStatus.REQUESTED
            if own is not None:
                siblings = await transactions.attempts_at(session, own.chain_id, own.signer, own.nonce)
                await transactions.record_unmined(session, siblings)
            undone = dict.fromkeys(("transaction_hash", "block_number", "block_hash", "amount_out"))
            if row.status == TradeStatus.FAILED:
                await spending.take_again(session, row)  # given back when it failed, and it may be mined after all
            await repository.move(session, trade.id, target, **undone)

    async def _write(
        self,
        trade: Trade,
        target: TradeStatus,
        facts: dict[str, Any],
        attempts: Sequence[Transaction],
        receipt: Receipt | None,
    ) -> None:
        async with self._around.sessions() as session, session.begin():
            row = await repository.lock(session, trade.id)
            if row.status != trade.status:
                return  # another executor has moved it since we looked: what we found may be its doing
            if row.status == TradeStatus.SUBMITTED and target is TradeStatus.FAILED:
                await spending.release(session, row)
            if not await repository.move(session, trade.id, target, settled_at=self._around.clock.now(), **facts):
                return
            if receipt is not None:
                # First, as only one slot of a trade may be alive or mined, and this may be an older one.
                await transactions.abandon(session, PURPOSE, trade.id, attempts[-1] if attempts else None)
                await transactions.record_mined(session, attempts, receipt)
            await self._tell(session, trade, receipt)
            self._around.reached(Step.SETTLED_BEFORE_COMMIT)
        self._trace(trade, target, facts)
        log.info("trade settled", trade_id=trade.id, status=target, code=facts.get("failure_code"))
        self._around.reached(Step.SETTLED)

    def _trace(self, trade: Trade, target: TradeStatus, facts: Mapping[str, Any]) -> None:
        attributes: dict[str, str | int] = {"tradingflow.trade_id": trade.id, "tradingflow.chain_id": trade.chain_id}
        if transaction := facts.get("transaction_hash"):
            attributes["tradingflow.transaction_hash"] = str(transaction)
        now = self._around.clock.now()
        ended = Ended("trade", trade.created_at, now, target, facts.get("failure_code"), attributes)
        self._around.traces.trade(trade.flow_pk, trade.cycle, trade.node_id, trade.id, ended)

    async def _tell(self, session: AsyncSession, trade: Trade, receipt: Receipt | None) -> None:
        partition = cycle_partition(trade.flow_pk, trade.cycle, self._around.settings.cycle_partitions)
        told = TradeSettled(flow_pk=trade.flow_pk, cycle=trade.cycle, node_id=trade.node_id, trade_id=trade.id)
        # A trade that a reorg settles anew is told of anew; the same settlement twice is the same message.
        message_id = f"{trade.id}:{receipt.block_hash if receipt else 'refused'}"
        message = OutgoingMessage(CYCLES, partition_queue(partition), message_id, encode(told))
        await enqueue(session, LANE, [message])

    async def _first_block(self, trade: Trade) -> int:
        """Where the search for the trade's event may begin."""
        async with self._around.sessions() as session:
            created = await repository.vault_created_block(session, trade.chain_id, trade.vault_address)
        return created if created is not None else self._client(trade).settings.start_block

    def _client(self, trade: Trade) -> ChainClient:
        return client_of(self._around.chains, trade)

    def _vault(self, trade: Trade) -> VaultContract:
        return VaultContract(self._client(trade), trade.vault_address)


def _facts_of(executed: ExecutedTrade) -> dict[str, Any]:
    return {
        "amount_out": executed.amount_out,
        "transaction_hash": executed.transaction_hash,
        "block_number": executed.block_number,
        "block_hash": executed.block_hash,
        "failure_code": None,
        "failure_detail": None,
    }


def _place_of(receipt: Receipt) -> dict[str, Any]:
    return {
        "transaction_hash": receipt.transaction_hash,
        "block_number": receipt.block_number,
        "block_hash": receipt.block_hash,
    }


def client_of(chains: Mapping[int, ChainClient], trade: Trade) -> ChainClient:
    """Raises Refused `unknown_chain` where the trade's chain is not served (any more)."""
    client = chains.get(trade.chain_id)
    if client is None:
        raise Refused("unknown_chain", f"chain {trade.chain_id} is not served")
    return client


async def revert_reason(client: ChainClient, mined: Mined) -> Failure:
    """Why a mined transaction reverted: the same call once more on top of its own block.

    Later transactions of that block have changed the state it sees, so it may find no reason any more; and a node
    that has dropped the block's state since then has none to give, which must not keep the trade open.
    """
    try:
        await replay(client, mined.receipt)
    except CallReverted as reverted:
        return Failure(reverted.code, reverted.detail)
    except DependencyUnavailable as error:
        if error.code != "rpc_error":
            raise
    return UNKNOWN_REVERT
