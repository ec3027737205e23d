"""Which candles price which pool: as the backtest was told, and else as the flow's own nodes say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from tradingflow.core.errors import InvalidInput
from tradingflow.core.evm import address_from_bytes, keccak, parse_address
from tradingflow.py_worker.backtest.candles import plain_symbol
from tradingflow.py_worker.backtest.spec import MarketSpec
from tradingflow.py_worker.engine.graph import Graph
from tradingflow.py_worker.kit import TokenInfo

DEFAULT_CHAIN_ID = 1
_MADE_UP = b"tradingflow.backtest."


@dataclass(frozen=True)
class Market:
    """A pool of `base` and `quote` whose price, whole quote tokens for one base token, the candles of `symbol` tell."""

    chain_id: int
    symbol: str
    pool: str
    base: TokenInfo
    quote: TokenInfo
    fee: int

    def trades(self, token_a: str, token_b: str) -> bool:
        return {token_a, token_b} == {self.base.address, self.quote.address}


@dataclass(frozen=True)
class _Seen:
    """A pool or a pair of tokens that nodes of the flow name."""

    pool: str | None = None
    base: str | None = None
    pair: frozenset[str] = frozenset()
    fee: int | None = None


def find_markets(graph: Graph, specs: Sequence[MarketSpec], symbols: Sequence[str]) -> tuple[Market, ...]:
    """One market a spec, what it leaves open filled in from the flow; with a single symbol no spec is needed.

    Raises InvalidInput when the flow names a pool or a pair that no symbol prices.
    """
    chain_id = _chain_of(graph)
    seen = list(_seen_in(graph))
    if not specs:
        if len(symbols) > 1 and seen:
            raise InvalidInput("markets_needed", f"say which pool each of {', '.join(symbols)} prices: `markets`")
        specs = [MarketSpec(symbol=symbol) for symbol in symbols]
    known = {plain_symbol(symbol) for symbol in symbols}
    for spec in specs:
        if plain_symbol(spec.symbol) not in known:
            raise InvalidInput("no_candles", f"there are no candles of {spec.symbol}; there are: {', '.join(symbols)}")
    alone = len(specs) == 1
    found = [market for spec in specs for market in _of_spec(spec, seen, chain_id, alone=alone)]
    _require_all(seen, found)
    return tuple(found)


def _of_spec(spec: MarketSpec, seen: Sequence[_Seen], chain_id: int, *, alone: bool) -> Iterable[Market]:
    """A spec that names no pool stands for all pools of the flow when it is the only one."""
    pools = [spec.pool] if spec.pool else list(dict.fromkeys(s.pool for s in seen if s.pool)) if alone else []
    base, quote = _tokens(spec, seen, pools)
    market = Market(
        spec.chain_id or chain_id,
        spec.symbol,
        "",
        TokenInfo(base, spec.base_decimals, None),
        TokenInfo(quote, spec.quote_decimals, None),
        next((s.fee for s in seen if s.fee and (alone or base in s.pair)), spec.pool_fee),
    )
    for pool in pools or [_made_up("pool", spec.symbol)]:
        yield replace(market, pool=pool)


def _tokens(spec: MarketSpec, seen: Sequence[_Seen], pools: Sequence[str | None]) -> tuple[str, str]:
    base = spec.base_token or next((s.base for s in seen if s.base and s.pool in pools), None)
    quote = spec.quote_token
    for pair in (s.pair for s in seen if s.pair):
        if base in pair and quote is None:
            quote = next(iter(pair - {base}))
        if quote in pair and base is None:
            base = next(iter(pair - {quote}))
    if base is None and quote is None and any(s.pair for s in seen):
        raise InvalidInput(
            "base_token_needed",
            f"a node swaps two tokens: say which one the price of {spec.symbol} is of (base_token, --base)",
        )
    return base or _made_up("base", spec.symbol), quote or _made_up("quote", spec.symbol)


def _seen_in(graph: Graph) -> Iterable[_Seen]:
    for node in graph.nodes:
        config = node.config
        if (pool := _address(config.get("pool"))) is not None:
            yield _Seen(pool=pool, base=_address(config.get("base_token")))
        yield from (_Seen(pool=_address(pool)) for pool in config.get("pools") or ())
        tokens = _address(config.get("token_in")), _address(config.get("token_out"))
        if tokens[0] and tokens[1]:
            yield from _hops(config, tokens[0], tokens[1])


def _hops(config: Mapping[str, Any], token_in: str, token_out: str) -> Iterable[_Seen]:
    fee = config.get("fee", 3000)
    via = [(hop_fee, _address(token)) for hop_fee, token in config.get("via") or ()]
    tokens = [token_in, *(token for _, token in via), token_out]
    fees = [*(hop_fee for hop_fee, _ in via), fee]
    for fee_of_hop, (a, b) in zip(fees, pairwise(tokens), strict=True):
        yield _Seen(pair=frozenset(token for token in (a, b) if token), fee=fee_of_hop)


def _require_all(seen: Iterable[_Seen], markets: Sequence[Market]) -> None:
    pools = {market.pool for market in markets}
    for one in seen:
        if one.pool and one.pool not in pools:
            raise InvalidInput("unknown_pool", f"no symbol prices the pool {one.pool}; name it in `markets`")
        if one.pair and not any(market.trades(*one.pair) for market in markets):
            raise InvalidInput(
                "unknown_pair", f"no symbol prices {' against '.join(sorted(one.pair))}; name the tokens in `markets`"
            )


def _chain_of(graph: Graph) -> int:
    chains = {node.config["chain_id"] for node in graph.nodes if isinstance(node.config.get("chain_id"), int)}
    if len(chains) > 1:
        raise InvalidInput("several_chains", f"the flow trades on chains {sorted(chains)}; candles price one at a time")
    return chains.pop() if chains else DEFAULT_CHAIN_ID


def _address(value: Any) -> str | None:
    return parse_address(value) if isinstance(value, str) else None


def _made_up(what: str, symbol: str) -> str:
    """An address for what the flow does not name; the same in every backtest of the symbol."""
    return address_from_bytes(keccak(_MADE_UP + what.encode() + b":" + plain_symbol(symbol).encode())[-20:])
