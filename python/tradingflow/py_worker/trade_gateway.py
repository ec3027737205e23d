"""The live trade gateway: an intent becomes a trade row and its message in one transaction, then the node waits.

The trade id depends on flow, version, cycle and node alone, so a node that runs again finds its own trade.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.chain.pool_math import rate
from tradingflow.core.config import ChainSettings
from tradingflow.core.errors import DependencyUnavailable, Refused
from tradingflow.core.evm import parse_address
from tradingflow.core.ids import trade_id
from tradingflow.core.logging import get_logger
from tradingflow.db.engine import SessionFactory
from tradingflow.db.failures import passing_told
from tradingflow.db.models import Cycle, Trade, Vault
from tradingflow.db.outbox import OutgoingMessage, enqueue
from tradingflow.messaging.messages import TradeRequested, encode
from tradingflow.messaging.topology import TRADE_REQUESTS, TRADES
from tradingflow.py_worker.kit import MarketData, SwapIntent, TradeReceipt
from tradingflow.py_worker.runtime.live import LiveCycle
from tradingflow.py_worker.runtime.settlements import Settlements

log = get_logger(__name__)

# The news of a settled trade may be lost with the broker; the row is looked at this often all the same.
LOOK_AGAIN_S = 2.0
OUTBOX_LANE = "py_worker"


@dataclass(frozen=True)
class LiveTrading:
    """Makes gateways that trade through the executor."""

    sessions: SessionFactory
    chains: Mapping[int, ChainSettings]
    settlements: Settlements

    def gateway(self, live: LiveCycle, node_id: str, markets: MarketData) -> NodeTrades:
        return NodeTrades(self, live, node_id, markets)


@dataclass(frozen=True)
class NodeTrades:
    """`TradeGateway` of one node in one cycle."""

    trading: LiveTrading
    live: LiveCycle
    node_id: str
    markets: MarketData

    async def swap(self, intent: SwapIntent) -> TradeReceipt:
        """Raises Refused with the executor's reason when the trade failed."""
        identity = self._identity()
        try:
            with passing_told():
                await self._request(identity, intent)
        except DependencyUnavailable:
            # A commit whose answer was lost may have been made, and is traded on.
            if await self._known(identity) is None:
                raise
        return await self._outcome(identity)

    async def resume(self) -> TradeReceipt | None:
        """The outcome of the trade this node has already asked for in this cycle; None when it has not."""
        identity = self._identity()
        return None if await self._known(identity) is None else await self._outcome(identity)

    async def _known(self, identity: str) -> Trade | None:
        """The trade as it stands; None when nobody asked for it. Until PostgreSQL says which, the node has no outcome
        to end with: its trade may be mined."""
        while True:
            try:
                with passing_told():
                    async with self.trading.sessions() as session:
                        return await session.get(Trade, identity)
            except DependencyUnavailable as error:
                log.warning("trade is looked at again", trade_id=identity, error=error)
            await asyncio.sleep(LOOK_AGAIN_S)

    def _identity(self) -> str:
        flow_pk, cycle = self.live.key
        return trade_id(flow_pk, self.live.version, cycle, self.node_id)

    async def _outcome(self, identity: str) -> TradeReceipt:
        trade = await self._settled(identity)
        if trade.status == "failed":
            raise Refused(trade.failure_code or "trade_failed", trade.failure_detail or "the trade failed")
        return await receipt_of(trade, self.markets)

    async def _request(self, identity: str, intent: SwapIntent) -> None:
        """The row and its message, once; refused when the cycle was stopped or the vault is not the flow owner's."""
        chain = self.trading.chains.get(intent.chain_id)
        router = None if chain is None else intent.router_on(chain)
        if router is None:
            raise Refused("no_router", f"no swap router is configured for chain {intent.chain_id}")
        async with self.trading.sessions.begin() as session:
            await self._require_running(session)
            await self._require_own_vault(session, intent)
            row = self._row(identity, intent, router)
            inserted = await session.scalar(insert(Trade).values(row).on_conflict_do_nothing().returning(Trade.id))
            if inserted is not None:
                body = encode(TradeRequested(identity))
                await enqueue(session, OUTBOX_LANE, [OutgoingMessage(TRADES, TRADE_REQUESTS, identity, body)])

    async def _require_running(self, session: AsyncSession) -> None:
        """Under a lock, so that a stop and a trade happen one after the other."""
        flow_pk, cycle = self.live.key
        found = select(Cycle.status).where(Cycle.flow_pk == flow_pk, Cycle.cycle == cycle).with_for_update(read=True)
        if await session.scalar(found) != "running":
            raise Refused("cycle_ended", "the cycle was stopped before it traded")

    async def _require_own_vault(self, session: AsyncSession, intent: SwapIntent) -> None:
        found = select(Vault.id).where(
            Vault.user_id == self.live.user_id,
            Vault.chain_id == intent.chain_id,
            Vault.address == parse_address(intent.vault),
        )
        if await session.scalar(found) is None:
            raise Refused("unknown_vault", f"the flow's owner has no vault {intent.vault} on chain {intent.chain_id}")

    def _row(self, identity: str, intent: SwapIntent, router: str) -> dict[str, object]:
        flow_pk, cycle = self.live.key
        return {
            "id": identity,
            "user_id": self.live.user_id,
            "flow_pk": flow_pk,
            "version": self.live.version,
            "cycle": cycle,
            "node_id": self.node_id,
            "chain_id": intent.chain_id,
            "vault_address": parse_address(intent.vault),
            "router": parse_address(router),
            "path": intent.path,
            "token_in": parse_address(intent.token_in),
            "token_out": parse_address(intent.token_out),
            "amount_in": intent.amount_in,
            "slippage_bps": intent.slippage_bps,
            "status": "requested",
        }

    async def _settled(self, identity: str) -> Trade:
        with self.trading.settlements.waiting_for(identity) as news:
            while True:
                news.clear()
                trade = await self._known(identity)
                if trade is not None and trade.status in ("completed", "failed"):
                    return trade
                try:
                    async with asyncio.timeout(LOOK_AGAIN_S):
                        await news.wait()
                except TimeoutError:
                    continue


async def receipt_of(trade: Trade, markets: MarketData) -> TradeReceipt:
    """What the node that asked for a completed trade is told."""
    if trade.amount_out is None or trade.transaction_hash is None or trade.block_number is None:
        raise Refused("incomplete_trade", f"trade {trade.id} is completed without its receipt")
    token_in = await markets.token(trade.chain_id, trade.token_in)
    token_out = await markets.token(trade.chain_id, trade.token_out)
    return TradeReceipt(
        trade_id=trade.id,
        chain_id=trade.chain_id,
        vault=trade.vault_address,
        token_in=trade.token_in,
        token_out=trade.token_out,
        amount_in=trade.amount_in,
        amount_out=trade.amount_out,
        price=rate(trade.amount_in, token_in.decimals, trade.amount_out, token_out.decimals),
        transaction_hash=trade.transaction_hash,
        block_number=trade.block_number,
    )
