"""The trade gateway of simulated vaults. It refuses what the live executor refuses, in the same order and words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from tradingflow.chain.pool_math import rate
from tradingflow.chain.swap_path import decode_path
from tradingflow.chain.vault_policy import LONGEST_DEADLINE_S, PriceSource
from tradingflow.core.clock import Clock
from tradingflow.core.errors import Refused
from tradingflow.core.evm import keccak, parse_address, to_bytes
from tradingflow.core.ids import trade_id
from tradingflow.core.money import minus_bps
from tradingflow.py_worker.kit import MarketData, SwapIntent, TradeReceipt
from tradingflow.py_worker.simulation.vault import SimulatedVault
from tradingflow.py_worker.simulation.venue import Fill, Venue

_TRANSACTION_DOMAIN = b"tradingflow.simulated_transaction.v1"


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Who trades: what a trade id is made of."""

    flow_pk: UUID
    version: int
    cycle: int
    node_id: str

    @property
    def trade_id(self) -> str:
        return trade_id(self.flow_pk, self.version, self.cycle, self.node_id)


@dataclass(frozen=True, slots=True)
class SimulatedTrade:
    """One trade and how it ended: filled, or refused with a code and a detail. `at` is Unix seconds."""

    trade_id: str
    identity: NodeIdentity
    intent: SwapIntent
    at: int
    block_number: int
    min_amount_out: int | None = None
    fill: Fill | None = None
    failure_code: str | None = None
    failure_detail: str | None = None


@dataclass
class SimulatedChain:
    """One chain's venue and routers; without a `v2_router`, `router` stands for both kinds, as in a chain's settings.

    `block_number` is what receipts say; whoever moves the chain moves it.
    """

    venue: Venue
    router: str
    prices: PriceSource | None = None
    v2_router: str | None = None
    block_number: int = 0

    def router_of(self, intent: SwapIntent) -> str:
        """The router an intent names, else the one for its kind of path."""
        if intent.router is not None:
            return parse_address(intent.router)
        return self.v2_router if self.v2_router and decode_path(intent.path).is_v2 else self.router


@dataclass
class SimulatedExecutor:
    """Vaults, venues and the trades made, shared by all nodes of a run."""

    clock: Clock
    chains: Mapping[int, SimulatedChain]
    vaults: dict[tuple[int, str], SimulatedVault]
    trades: dict[str, SimulatedTrade] = field(default_factory=dict)

    def trade(self, identity: NodeIdentity, intent: SwapIntent) -> SimulatedTrade:
        """Execute once: the same identity again finds the first outcome, whatever it now intends.

        Raises Refused, and keeps nothing, where the live gateway refuses to write a trade down.
        """
        known = self.trades.get(identity.trade_id)
        if known is not None:
            return known
        chain = self.chains.get(intent.chain_id)
        if chain is None:
            raise Refused("no_router", f"no swap router is configured for chain {intent.chain_id}")
        vault = self.vaults.get((intent.chain_id, parse_address(intent.vault)))
        if vault is None:
            raise Refused("unknown_vault", f"the flow's owner has no vault {intent.vault} on chain {intent.chain_id}")
        made = self._execute(identity, intent, chain, vault)
        self.trades[made.trade_id] = made
        return made

    def _execute(
        self, identity: NodeIdentity, intent: SwapIntent, chain: SimulatedChain, vault: SimulatedVault
    ) -> SimulatedTrade:
        now = int(self.clock.now().timestamp())
        attempt = SimulatedTrade(identity.trade_id, identity, intent, now, chain.block_number)
        return settle(attempt, chain, vault)


def settle(attempt: SimulatedTrade, chain: SimulatedChain, vault: SimulatedVault) -> SimulatedTrade:
    """What became of an attempt: quote, least amount out, the vault's rules and the fill."""
    intent, now, least = attempt.intent, attempt.at, None
    try:
        least = least_amount_out(chain.venue, intent)
        deadline = now + LONGEST_DEADLINE_S
        terms = (intent.path, chain.router_of(intent), intent.amount_in, least, deadline, now)
        fill = vault.execute(attempt.trade_id, *terms, chain.venue, chain.prices)
    except Refused as refusal:
        outcome = {"failure_code": refusal.code, "failure_detail": refusal.detail}
        return _ended(attempt, least, None, **outcome)
    return _ended(attempt, least, fill)


def least_amount_out(venue: Venue, intent: SwapIntent) -> int:
    """The quote less the slippage, as the executor fixes it. Raises Refused when there is nothing to insist on."""
    quoted = venue.quote(intent.path, intent.amount_in)
    if quoted <= 0:
        raise Refused("quote_zero", "the amount is too small: the pool would pay out nothing")
    least = minus_bps(quoted, intent.slippage_bps)
    if least <= 0:
        raise Refused("min_amount_out_zero", "the quote less the slippage leaves nothing to insist on")
    return least


def _ended(
    attempt: SimulatedTrade,
    least: int | None,
    fill: Fill | None,
    failure_code: str | None = None,
    failure_detail: str | None = None,
) -> SimulatedTrade:
    return SimulatedTrade(
        attempt.trade_id, attempt.identity, attempt.intent, attempt.at, attempt.block_number, least, fill,
        failure_code, failure_detail,
    )  # fmt: skip


@dataclass(frozen=True)
class SimulatedTrades:
    """`TradeGateway` of one node in one cycle."""

    executor: SimulatedExecutor
    identity: NodeIdentity
    markets: MarketData

    async def swap(self, intent: SwapIntent) -> TradeReceipt:
        """Raises Refused with the reason the vault, the market or the gateway gave."""
        return await receipt_of(self.executor.trade(self.identity, intent), self.markets)

    async def resume(self) -> TradeReceipt | None:
        """The outcome of this node's trade in this cycle; None when it has made none."""
        known = self.executor.trades.get(self.identity.trade_id)
        return None if known is None else await receipt_of(known, self.markets)


async def receipt_of(trade: SimulatedTrade, markets: MarketData) -> TradeReceipt:
    """The receipt a node gets. Raises Refused for a trade that was refused."""
    if trade.fill is None:
        raise Refused(trade.failure_code or "trade_failed", trade.failure_detail or "the trade failed")
    intent = trade.intent
    token_in = await markets.token(intent.chain_id, intent.token_in)
    token_out = await markets.token(intent.chain_id, intent.token_out)
    # As live: the receipt tells what was sold by the intent, also where a pool took less.
    return TradeReceipt(
        trade_id=trade.trade_id,
        chain_id=intent.chain_id,
        vault=parse_address(intent.vault),
        token_in=parse_address(intent.token_in),
        token_out=parse_address(intent.token_out),
        amount_in=intent.amount_in,
        amount_out=trade.fill.amount_out,
        price=rate(intent.amount_in, token_in.decimals, trade.fill.amount_out, token_out.decimals),
        transaction_hash=simulated_hash(trade.trade_id),
        block_number=trade.block_number,
    )


def simulated_hash(identity: str) -> str:
    """Stands where a mined trade has its transaction hash; no chain knows it."""
    return "0x" + keccak(_TRANSACTION_DOMAIN + to_bytes(identity)).hex()
