"""What a trade would put on chain now: quoted, bounded, simulated. Nothing is stored here."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Literal

from tradingflow.account_manager.relayer.relayer import Call, Relayer
from tradingflow.account_manager.trade.settlement import client_of
from tradingflow.chain.fees import Fees
from tradingflow.chain.transactions import BlockHead, newest_block
from tradingflow.chain.uniswap import UniswapReader
from tradingflow.chain.vault import LONGEST_DEADLINE, Swap, TokenPolicy, VaultContract
from tradingflow.core.errors import Refused
from tradingflow.core.ids import onchain_flow_id
from tradingflow.core.money import minus_bps
from tradingflow.db.models import Trade
from tradingflow.prices.check import PriceCheck

# A pool crossed by others meanwhile may cost some ticks more than the estimate.
GAS_HEADROOM_PERCENT = 130
# Less than this is not worth sending: two blocks of the slowest chain served.
SHORTEST_DEADLINE = timedelta(seconds=30)


@dataclass(frozen=True)
class Timing:
    """The swap's deadline, and the block it is simulated on."""

    deadline: datetime
    block: int | Literal["pending"]


@dataclass(frozen=True)
class Plan:
    """A trade ready to be signed. `min_amount_out` in base units of the token bought."""

    signer: str
    call: Call
    fees: Fees
    min_amount_out: int
    policy: TokenPolicy
    block_time: datetime

    def policy_on(self, day: date) -> TokenPolicy:
        """The token's policy on a UTC day: what the newest block counts is of its own day."""
        return self.policy if self.block_time.date() == day else replace(self.policy, spent_today=0)


class Planner:
    """Turns trades into calls. Every refusal is Refused with a code that says which rule said no."""

    def __init__(self, relayer: Relayer) -> None:
        self._relayer = relayer
        self._readers = {chain_id: UniswapReader(client) for chain_id, client in relayer.chains.items()}
        self._prices: PriceCheck | None = None
        if relayer.settings.checks_prices:
            self._prices = PriceCheck(relayer.chains, relayer.sessions, relayer.clock)

    async def plan(self, trade: Trade) -> Plan:
        """Raises Refused, or DependencyUnavailable when the chain cannot be asked."""
        client = client_of(self._relayer.chains, trade)
        vault = VaultContract(client, trade.vault_address)
        head = await newest_block(client)
        operator, policy, min_amount_out, fees = await asyncio.gather(
            vault.operator(),
            vault.token_policy(trade.token_in),
            self._min_amount_out(trade, head),
            self._relayer.fees(trade.chain_id),
        )
        signer = self._relayer.signers.of(operator.address).address
        timing = self._timing(head)
        swap = _swap(trade, min_amount_out, timing.deadline)
        _, gas = await asyncio.gather(
            vault.simulate_swap(swap, signer, block=timing.block),
            vault.estimate_swap(swap, signer, block=timing.block),
        )
        call = Call(
            trade.vault_address, vault.encode_swap(swap), gas * GAS_HEADROOM_PERCENT // 100, expires_at=timing.deadline
        )
        return Plan(signer, call, fees, min_amount_out, policy, head.time)

    async def _min_amount_out(self, trade: Trade, head: BlockHead) -> int:
        """Fixed by the first quote: a later attempt may not accept a worse price than the trade set out with.

        So what the prices of that moment allowed stays allowed. Quoted on the block of the simulation, or a market
        that moves in between would look like a trade that cannot hold its own minimum.
        """
        if trade.min_amount_out is not None:
            return trade.min_amount_out
        quoted = await self._readers[trade.chain_id].quote(
            trade.path, trade.amount_in, head.number, router=trade.router
        )
        if self._prices is not None:
            await self._prices.check(trade, quoted)
        least = minus_bps(quoted, trade.slippage_bps)
        if least <= 0:
            raise Refused("min_amount_out_zero", "the quote less the slippage leaves nothing to insist on")
        return least

    def _timing(self, head: BlockHead) -> Timing:
        """A deadline that suits the clock of the newest block, by which the simulation runs.

        Only on a chain that stands still is that clock too far behind; there the block to come has the present time.
        It also holds what waits in the node's pool, so it is no place to simulate a replacement.
        """
        now = max(self._relayer.clock.now(), head.time)
        wanted = now + timedelta(seconds=self._relayer.settings.trade_deadline_s)
        latest_allowed = head.time + LONGEST_DEADLINE
        if latest_allowed - now < SHORTEST_DEADLINE:
            return Timing(wanted, "pending")
        return Timing(min(wanted, latest_allowed), head.number)


def _swap(trade: Trade, min_amount_out: int, deadline: datetime) -> Swap:
    return Swap(
        trade_id=trade.id,
        flow_id=onchain_flow_id(trade.flow_pk),
        router=trade.router,
        path=trade.path,
        amount_in=trade.amount_in,
        min_amount_out=min_amount_out,
        deadline=int(deadline.timestamp()),
    )
