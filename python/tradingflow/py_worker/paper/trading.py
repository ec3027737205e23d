"""The trade gateway of paper flows: the market's own quote, the vault's own rules, no transaction.

What the live executor would refuse is refused here with the same code. A trade and what it does to the vault are one
transaction, and a trade id trades once, however often its node runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal

from eth_typing import BlockNumber
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.chain.client import ChainClient
from tradingflow.chain.transactions import head_number
from tradingflow.core.clock import Clock
from tradingflow.core.errors import Refused
from tradingflow.core.evm import parse_address
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import Cycle, PaperTrade, PaperVault
from tradingflow.prices.check import PriceCheck
from tradingflow.py_worker.kit import (
    MarketData,
    PoolPrice,
    Quote,
    SwapIntent,
    TokenInfo,
    TradeReceipt,
)
from tradingflow.py_worker.paper import vaults
from tradingflow.py_worker.paper.terms import PolicyTerms, balances_from
from tradingflow.py_worker.paper.vaults import PaperVaults, VaultKey
from tradingflow.py_worker.runtime.live import LiveCycle
from tradingflow.py_worker.simulation.gateway import (
    NodeIdentity,
    SimulatedChain,
    SimulatedTrade,
    receipt_of,
    settle,
)
from tradingflow.py_worker.simulation.venue import Accept, Fill, accept_any

# How often a trade is priced at most: again each time the vault's policy was changed meanwhile.
MOST_PRICINGS = 3


@dataclass(frozen=True)
class QuotedVenue:
    """A venue that has been asked already: one path, one amount, one answer. It fills at its quote."""

    path: bytes
    amount_in: int
    amount_out: int | None = None
    refusal: Refused | None = None

    def quote(self, path: bytes, amount_in: int) -> int:
        if self.amount_out is None or (path, amount_in) != (self.path, self.amount_in):
            raise self.refusal or Refused("quote_refused", "no pool on this path can fill the swap")
        return self.amount_out

    def swap(self, path: bytes, amount_in: int, accept: Accept = accept_any) -> Fill:
        fill = Fill(amount_in, self.quote(path, amount_in))
        accept(fill)
        return fill


@dataclass(frozen=True)
class ReadPrices:
    """What a price source on chain said for the amounts of one trade."""

    values: Mapping[tuple[str, int], int] = field(default_factory=dict)
    refusal: Refused | None = None

    def value_of(self, token: str, amount: int) -> int:
        if (token, amount) not in self.values:
            raise self.refusal or Refused("price_unknown", f"the price source has not valued {amount} of {token}")
        return self.values[token, amount]


@dataclass(frozen=True)
class PaperTrading:
    """Makes the gateways and the market view of paper flows."""

    sessions: SessionFactory
    clients: Mapping[int, ChainClient]
    clock: Clock
    prices: PriceCheck | None = None
    """What quotes are held to; None where the live executor holds them to nothing."""

    @property
    def vaults(self) -> PaperVaults:
        return PaperVaults(self.sessions, self.clients)

    def gateway(self, live: LiveCycle, node_id: str, markets: MarketData) -> PaperTrades:
        return PaperTrades(self, live, node_id, markets)

    def markets(self, live: LiveCycle, markets: MarketData) -> PaperMarkets:
        return PaperMarkets(self, live, markets)


@dataclass(frozen=True)
class PaperMarkets:
    """`MarketData` whose vaults hold what they hold on paper; everything else is the market's own answer."""

    trading: PaperTrading
    live: LiveCycle
    actual: MarketData

    async def token(self, chain_id: int, address: str) -> TokenInfo:
        return await self.actual.token(chain_id, address)

    async def pool_price(self, chain_id: int, pool: str, base_token: str | None = None) -> PoolPrice:
        return await self.actual.pool_price(chain_id, pool, base_token)

    async def pool_twap(self, chain_id: int, pool: str, window_s: int, base_token: str | None = None) -> PoolPrice:
        return await self.actual.pool_twap(chain_id, pool, window_s, base_token)

    async def quote(self, chain_id: int, path: bytes, amount_in: int, router: str | None = None) -> Quote:
        return await self.actual.quote(chain_id, path, amount_in, router)

    async def balances(self, chain_id: int, holder: str, tokens: Sequence[str]) -> dict[str, int]:
        key = VaultKey(self.live.user_id, chain_id, parse_address(holder))
        try:
            await self.trading.vaults.ensure(key)
        except Refused:
            return await self.actual.balances(chain_id, holder, tokens)
        async with self.trading.sessions() as session:
            held = balances_from((await vaults.get(session, key)).balances)
        return {address: held.get(address, 0) for address in map(parse_address, tokens)}

    def quote_token(self, chain_id: int) -> str | None:
        return self.actual.quote_token(chain_id)

    def pools(self, chain_id: int) -> tuple[str, ...]:
        return self.actual.pools(chain_id)


@dataclass(frozen=True)
class PaperTrades:
    """`TradeGateway` of one node in one cycle on paper."""

    trading: PaperTrading
    live: LiveCycle
    node_id: str
    markets: MarketData

    async def swap(self, intent: SwapIntent) -> TradeReceipt:
        """Raises Refused with the reason the live executor would give."""
        known = await self._known()
        return await receipt_of(known or await self._trade(intent), self.markets)

    async def resume(self) -> TradeReceipt | None:
        """The outcome of this node's trade in this cycle; None when it has made none."""
        known = await self._known()
        return None if known is None else await receipt_of(known, self.markets)

    @property
    def _identity(self) -> NodeIdentity:
        flow_pk, cycle = self.live.key
        return NodeIdentity(flow_pk, self.live.version, cycle, self.node_id)

    async def _known(self) -> SimulatedTrade | None:
        async with self.trading.sessions() as session:
            row = await _find(session, self._identity)
        return None if row is None else _from_row(row)

    async def _trade(self, intent: SwapIntent) -> SimulatedTrade:
        client = self.trading.clients.get(intent.chain_id)
        router = None if client is None else intent.router_on(client.settings)
        if client is None or router is None:
            raise Refused("no_router", f"no swap router is configured for chain {intent.chain_id}")
        key = VaultKey(self.live.user_id, intent.chain_id, parse_address(intent.vault))
        await self.trading.vaults.ensure(key)
        venue = await held_to(self.trading.prices, await quoted(self.markets, intent), intent)
        block = await head_number(client)
        for _ in range(MOST_PRICINGS):
            async with self.trading.sessions() as session:
                policy = _policy(await vaults.get(session, key))
            # The source is a contract the user named: no lock and no connection waits for its answer.
            chain = SimulatedChain(venue, router, await read_prices(client, policy, intent, venue), block_number=block)
            async with self.trading.sessions.begin() as session:
                row = await vaults.get(session, key, lock=True)
                if (known := await _find(session, self._identity)) is not None:
                    return _from_row(known)
                await self._require_running(session)
                if _policy(row) == policy:
                    return await self._settled(session, row, intent, chain)
        raise Refused("vault_changed", f"the policy of {key.address} on paper kept changing while the trade was priced")

    async def _settled(
        self, session: AsyncSession, row: PaperVault, intent: SwapIntent, chain: SimulatedChain
    ) -> SimulatedTrade:
        """Trade with the vault of a locked row, and write both down."""
        vault, at = vaults.simulated(row), int(self.trading.clock.now().timestamp())
        attempt = SimulatedTrade(self._identity.trade_id, self._identity, intent, at, chain.block_number)
        made = settle(attempt, chain, vault)
        vaults.keep(row, vault)
        await store_trade(session, made, VaultKey(row.user_id, row.chain_id, row.address), is_shadow=False)
        return made

    async def _require_running(self, session: AsyncSession) -> None:
        flow_pk, cycle = self.live.key
        found = select(Cycle.status).where(Cycle.flow_pk == flow_pk, Cycle.cycle == cycle).with_for_update(read=True)
        if await session.scalar(found) != "running":
            raise Refused("cycle_ended", "the cycle was stopped before it traded")


def _policy(row: PaperVault) -> PolicyTerms:
    return PolicyTerms.model_validate(row.policy)


async def quoted(markets: MarketData, intent: SwapIntent) -> QuotedVenue:
    """Ask the market what the intent would bring now; a refusal is kept for whoever trades on it."""
    try:
        quote = await markets.quote(intent.chain_id, intent.path, intent.amount_in, intent.router)
    except Refused as refusal:
        return QuotedVenue(intent.path, intent.amount_in, refusal=refusal)
    return QuotedVenue(intent.path, intent.amount_in, quote.amount_out)


async def held_to(prices: PriceCheck | None, venue: QuotedVenue, intent: SwapIntent) -> QuotedVenue:
    """The venue, which refuses where the executor would not trade on its quote."""
    if prices is None or venue.amount_out is None:
        return venue
    try:
        await prices.check(intent, venue.amount_out)
    except Refused as refusal:
        return QuotedVenue(intent.path, intent.amount_in, refusal=refusal)
    return venue


async def read_prices(
    client: ChainClient,
    policy: PolicyTerms,
    intent: SwapIntent,
    venue: QuotedVenue,
    block: BlockNumber | Literal["latest"] = "latest",
) -> ReadPrices | None:
    """What the policy's price source says of both sides of the trade; None without a loss cap."""
    if policy.loss_cap is None or venue.amount_out is None:
        return None
    sides = ((parse_address(intent.token_in), intent.amount_in), (parse_address(intent.token_out), venue.amount_out))
    values: dict[tuple[str, int], int] = {}
    try:
        for token, amount in sides:
            source = policy.loss_cap.price_source
            answer = await client.call("PriceSource", source, "valueOf", token, amount, block=block)
            values[token, amount] = int(answer)
    except Refused as refusal:
        return ReadPrices(values, refusal)
    return ReadPrices(values)


async def _find(session: AsyncSession, identity: NodeIdentity) -> PaperTrade | None:
    statement = select(PaperTrade).where(PaperTrade.trade_id == identity.trade_id, ~PaperTrade.is_shadow)
    return await session.scalar(statement)


async def store_trade(session: AsyncSession, trade: SimulatedTrade, key: VaultKey, *, is_shadow: bool) -> None:
    """Write a trade down, once."""
    intent, identity, fill = trade.intent, trade.identity, trade.fill
    row = {
        "trade_id": trade.trade_id,
        "user_id": key.user_id,
        "flow_pk": identity.flow_pk,
        "version": identity.version,
        "cycle": identity.cycle,
        "node_id": identity.node_id,
        "is_shadow": is_shadow,
        "chain_id": key.chain_id,
        "vault_address": key.address,
        "path": intent.path,
        "token_in": parse_address(intent.token_in),
        "token_out": parse_address(intent.token_out),
        "amount_in": intent.amount_in,
        "slippage_bps": intent.slippage_bps,
        "status": "failed" if fill is None else "completed",
        "min_amount_out": trade.min_amount_out,
        "spent": None if fill is None else fill.amount_in,
        "amount_out": None if fill is None else fill.amount_out,
        "block_number": trade.block_number,
        "failure_code": trade.failure_code,
        "failure_detail": trade.failure_detail,
        "created_at": datetime.fromtimestamp(trade.at, UTC),
    }
    await session.execute(insert(PaperTrade).values(row).on_conflict_do_nothing())


def _from_row(row: PaperTrade) -> SimulatedTrade:
    identity = NodeIdentity(row.flow_pk, row.version, row.cycle, row.node_id)
    intent = SwapIntent(
        row.chain_id, row.vault_address, row.path, row.token_in, row.token_out, row.amount_in, row.slippage_bps
    )
    fill = None if row.amount_out is None else Fill(row.spent or 0, row.amount_out)
    trade = SimulatedTrade(row.trade_id, identity, intent, int(row.created_at.timestamp()), row.block_number)
    return replace(
        trade,
        min_amount_out=row.min_amount_out,
        fill=fill,
        failure_code=row.failure_code,
        failure_detail=row.failure_detail,
    )
