"""A flow over the recorded history of pools, block by block: the nodes' own code, exact pools, a simulated vault.

What others traded is traded again against pools our own trades have moved, so a fill is what it would have been with
us in the market. A cycle sees the state after its block, and its trades are the next to be mined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import msgspec

from tradingflow.chain.amm.pool import Pool
from tradingflow.chain.pool_math import invert, rate
from tradingflow.chain.swap_path import decode_path
from tradingflow.core.clock import SimulatedClock
from tradingflow.core.errors import Refused
from tradingflow.core.evm import parse_address
from tradingflow.py_worker.engine.cycle import CycleState, Outcome, inputs_of
from tradingflow.py_worker.engine.graph import Graph, GraphNode
from tradingflow.py_worker.engine.spec import ERROR_HANDLE
from tradingflow.py_worker.kit import Incoming, NodeContext, PoolPrice, Quote, TokenInfo
from tradingflow.py_worker.kit.registry import AnyNode
from tradingflow.py_worker.kit.testing import MemoryContext, MemoryState
from tradingflow.py_worker.runtime.runner import NodeFailure, encoded_json, execute_node
from tradingflow.py_worker.simulation.gateway import (
    NodeIdentity,
    SimulatedChain,
    SimulatedExecutor,
    SimulatedTrades,
)
from tradingflow.py_worker.simulation.venue import PoolKey, PoolVenue


@dataclass(frozen=True)
class PoolEvent:
    """One event of one pool, by name, with arguments as the Monitor stores them."""

    pool: str
    name: str
    args: Mapping[str, Any]


@dataclass(frozen=True)
class PoolBlock:
    """What happened in one block; `timestamp` in Unix seconds."""

    number: int
    timestamp: int
    events: Sequence[PoolEvent]


@dataclass
class PoolMarkets:
    """`MarketData` of pools in memory. `keys` finds a pool by its address, `decimals` a token's."""

    chain_id: int
    executor: SimulatedExecutor
    keys: Mapping[str, PoolKey]
    decimals: Mapping[str, int]
    quote_address: str | None = None

    async def token(self, chain_id: int, address: str) -> TokenInfo:
        token = parse_address(address)
        if token not in self.decimals:
            raise Refused("not_a_token", f"{token} on chain {chain_id} has no decimals()")
        return TokenInfo(token, self.decimals[token])

    async def pool_price(self, chain_id: int, pool: str, base_token: str | None = None) -> PoolPrice:
        address = parse_address(pool)
        if address not in self.keys:
            raise Refused("not_a_pool", f"{address} on chain {chain_id} is no pool of this history")
        key = self.keys[address]
        found = self._venue.pool(key)
        default = found.token1 if found.token0 == self.quote_address else found.token0
        base = parse_address(base_token) if base_token else default
        other = found.token1 if base == found.token0 else found.token0
        price = found.spot_price(self.decimals[found.token0], self.decimals[found.token1])
        return PoolPrice(
            chain_id,
            address,
            await self.token(chain_id, base),
            await self.token(chain_id, other),
            price if base == found.token0 else invert(price),
            found.fee,
            self._chain.block_number,
            "v2" if key[2] is None else "v3",
        )

    async def pool_twap(self, chain_id: int, pool: str, window_s: int, base_token: str | None = None) -> PoolPrice:
        raise Refused("twap_unsupported", "the history of a pool's observations is not simulated; use the spot price")

    async def quote(self, chain_id: int, path: bytes, amount_in: int, router: str | None = None) -> Quote:
        tokens = decode_path(path).tokens
        sold, bought = await self.token(chain_id, tokens[0]), await self.token(chain_id, tokens[-1])
        amount_out = self._venue.quote(path, amount_in)
        if amount_out <= 0:
            raise Refused("quote_zero", "the amount is too small: the pool would pay out nothing")
        return Quote(sold, bought, amount_in, amount_out, rate(amount_in, sold.decimals, amount_out, bought.decimals))

    async def balances(self, chain_id: int, holder: str, tokens: Sequence[str]) -> dict[str, int]:
        vault = self.executor.vaults.get((chain_id, parse_address(holder)))
        addresses = [parse_address(token) for token in tokens]
        return {token: 0 if vault is None else vault.balance(token) for token in addresses}

    def quote_token(self, chain_id: int) -> str | None:
        return self.quote_address

    def pools(self, chain_id: int) -> tuple[str, ...]:
        return tuple(self.keys)

    @property
    def _chain(self) -> SimulatedChain:
        return self.executor.chains[self.chain_id]

    @property
    def _venue(self) -> PoolVenue:
        return cast("PoolVenue", self._chain.venue)


@dataclass
class PoolRun:
    """One flow version over a history. `flow_pk` and `version` make its trade ids, as they do live."""

    graph: Graph
    types: Mapping[str, AnyNode]
    identity: NodeIdentity
    flow_id: str
    clock: SimulatedClock
    markets: PoolMarkets
    _states: dict[str, MemoryState] = field(default_factory=dict)

    def follow(self, block: PoolBlock) -> None:
        """Let a block happen: others' swaps are made again, their liquidity is moved as it was."""
        chain = self.markets.executor.chains[self.markets.chain_id]
        venue = cast("PoolVenue", chain.venue)
        for event in block.events:
            key = self.markets.keys[parse_address(event.pool)]
            venue.set_pool(key, happened(venue.pool(key), event))
        chain.block_number = block.number
        self.clock.advance_to(datetime.fromtimestamp(block.timestamp, UTC))

    async def cycle(self, number: int) -> dict[str, Outcome]:
        """Run one cycle on the state as it stands; the outcomes by node."""
        state = CycleState(self.graph)
        waiting = list(state.start().ready)
        while waiting:
            index = waiting.pop(0)
            waiting += state.finish(index, await self._node(number, self.graph.nodes[index], state)).ready
        return {self.graph.nodes[index].id: outcome for index, outcome in state.outcomes.items()}

    async def _node(self, number: int, node: GraphNode, state: CycleState) -> Outcome:
        arrivals = state.arrivals(node.index)
        names = [self.graph.nodes[arrival.source].id for arrival in arrivals]
        who = NodeIdentity(self.identity.flow_pk, self.identity.version, number, node.id)
        context = MemoryContext(
            self.flow_id,
            number,
            node.id,
            mode="backtest",
            incoming=[
                Incoming(name, arrival.source_handle, arrival.target_handle, arrival.value)
                for name, arrival in zip(names, arrivals, strict=True)
            ],
            clock=self.clock,
            state=self._states.setdefault(node.id, MemoryState()),
            markets=self.markets,
            trades=SimulatedTrades(self.markets.executor, who, self.markets),
        )
        try:
            inputs = inputs_of(node, arrivals)
            signals = await execute_node(self.types[node.type], cast("NodeContext", context), node, inputs)
            return Outcome("completed", msgspec.json.decode(encoded_json(signals)))
        except NodeFailure as failure:
            error = {"error": failure.code, "detail": failure.detail}
            return Outcome("failed", {ERROR_HANDLE: error} if node.policy.on_error == "route" else {}, error)


def happened(pool: Pool, event: PoolEvent) -> Pool:
    """The pool after an event of others. A swap is made again with what was sold then; a refused one is left out."""
    if event.name != "Swap":
        return pool.after(event.name, event.args)
    token_in, amount = sold_by(pool, event.args)
    try:
        return pool.swap(token_in, amount).pool
    except Refused:
        return pool


def sold_by(pool: Pool, args: Mapping[str, Any]) -> tuple[str, int]:
    """The token and the amount a recorded swap sold, of a V3 pool or a V2 pair."""
    into0 = int(args["amount0"] if "amount0" in args else args["amount0In"])
    into1 = int(args["amount1"] if "amount1" in args else args["amount1In"])
    return (pool.token0, into0) if into0 > 0 else (pool.token1, into1)
