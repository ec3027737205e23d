"""A context in memory: for a node's tests, for `tradingflow node test`, and as the pattern of a real one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

from tradingflow.core.clock import Clock, SimulatedClock
from tradingflow.core.errors import Refused
from tradingflow.core.logging import redact, redact_text
from tradingflow.py_worker.kit.context import (
    Approvals,
    Asking,
    CodeRunner,
    Datasets,
    HttpClient,
    Incoming,
    NodeLogger,
    NodeState,
    SecretRef,
    Secrets,
    Trigger,
    missing,
)
from tradingflow.py_worker.kit.exchanges import ExchangeCandles
from tradingflow.py_worker.kit.handles import Json
from tradingflow.py_worker.kit.markets import (
    CandleSource,
    MarketData,
    PoolPrice,
    Quote,
    SwapIntent,
    TokenInfo,
    TradeGateway,
    TradeReceipt,
)


class MemoryState:
    """`NodeState` in a dict; values go through JSON, as they do in the database."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    async def get(self, key: str) -> Json:
        return json.loads(self._values.get(key, "null"))

    async def set(self, key: str, value: Json) -> None:
        self._values[key] = json.dumps(value)

    async def compare_and_set(self, key: str, expected: Json, value: Json) -> bool:
        if await self.get(key) != expected:
            return False
        await self.set(key, value)
        return True


class MemoryLogger:
    """Keeps redacted lines as (level, text)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def info(self, message: str, **details: Any) -> None:
        self._keep("info", message, details)

    def warning(self, message: str, **details: Any) -> None:
        self._keep("warning", message, details)

    def error(self, message: str, **details: Any) -> None:
        self._keep("error", message, details)

    def _keep(self, level: str, message: str, details: dict[str, Any]) -> None:
        said = " ".join(f"{key}={value}" for key, value in redact(details).items())
        self.lines.append((level, f"{redact_text(message)} {said}".strip()))


class MemorySecrets:
    def __init__(self, values: dict[str, str] | None = None) -> None:
        self._values = values or {}

    async def reveal(self, reference: SecretRef) -> str:
        if reference.name not in self._values:
            raise Refused("secret_unknown", f"you have stored no secret named {reference.name!r}")
        return self._values[reference.name]

    def conceal(self, reference: SecretRef, value: str) -> None:
        """Nothing is kept here."""


class MemoryDatasets:
    """`Datasets` that begins as a snapshot and is written beside it: for tests and backtests."""

    def __init__(self, snapshot: Mapping[str, Sequence[dict[str, Json]]] | None = None) -> None:
        self.tables = {name: list(rows) for name, rows in (snapshot or {}).items()}
        self._written: dict[tuple[str, str], int] = {}

    async def read(self, name: str, limit: int) -> list[dict[str, Json]]:
        if name not in self.tables:
            raise Refused("dataset_unknown", f"you have no dataset named {name!r}")
        return self.tables[name][-limit:]

    async def write(
        self,
        name: str,
        rows: Sequence[dict[str, Json]],
        *,
        append: bool,
        write_key: str,
        keep_rows: int | None = None,
    ) -> int:
        if (name, write_key) not in self._written:
            kept = [*(self.tables.get(name, []) if append else []), *rows]
            self.tables[name] = kept if keep_rows is None else kept[-keep_rows:]
            self._written[name, write_key] = len(self.tables[name])
        return self._written[name, write_key]


class NobodyThere:
    """`Approvals` that answers what the time-out would: for tests and backtests."""

    async def ask(self, asking: Asking) -> bool:
        return asking.on_timeout == "approve"


ETHER = TokenInfo("0x" + "1" * 40, 18)
DOLLAR = TokenInfo("0x" + "2" * 40, 6)
POOL = "0x" + "3" * 40
VAULT = "0x" + "4" * 40


@dataclass
class FixedMarkets:
    """`MarketData` of one pool, ETHER against DOLLAR, at a price that stands until it is set."""

    price: Decimal = Decimal(2000)
    kind: Literal["v2", "v3"] = "v3"
    held: dict[str, int] = field(default_factory=lambda: {ETHER.address: 3 * 10**18, DOLLAR.address: 500 * 10**6})

    async def token(self, chain_id: int, address: str) -> TokenInfo:
        return {ETHER.address: ETHER, DOLLAR.address: DOLLAR}[address]

    async def pool_price(self, chain_id: int, pool: str, base_token: str | None = None) -> PoolPrice:
        if pool != POOL:
            raise Refused("not_a_pool", f"{pool} is no pool")
        return PoolPrice(chain_id, pool, ETHER, DOLLAR, self.price, 3000, 7, self.kind)

    async def pool_twap(self, chain_id: int, pool: str, window_s: int, base_token: str | None = None) -> PoolPrice:
        return PoolPrice(chain_id, pool, ETHER, DOLLAR, self.price - window_s, 3000, 7)

    async def quote(self, chain_id: int, path: bytes, amount_in: int, router: str | None = None) -> Quote:
        amount_out = int(Decimal(amount_in).scaleb(-12) * self.price)
        return Quote(ETHER, DOLLAR, amount_in, amount_out, self.price)

    async def balances(self, chain_id: int, holder: str, tokens: Sequence[str]) -> dict[str, int]:
        return {token: self.held[token] for token in tokens}

    def quote_token(self, chain_id: int) -> str | None:
        return DOLLAR.address

    def pools(self, chain_id: int) -> tuple[str, ...]:
        return (POOL,)


@dataclass
class SpendingGateway:
    """`TradeGateway` that trades once and takes what it sells from `markets.held`, as a chain would."""

    markets: FixedMarkets
    intents: list[SwapIntent] = field(default_factory=list)
    receipt: TradeReceipt | None = None

    async def swap(self, intent: SwapIntent) -> TradeReceipt:
        self.intents.append(intent)
        if self.receipt is None:
            self.markets.held[intent.token_in] -= intent.amount_in
            self.receipt = TradeReceipt(
                trade_id="0x" + "5" * 64,
                chain_id=intent.chain_id,
                vault=intent.vault,
                token_in=intent.token_in,
                token_out=intent.token_out,
                amount_in=intent.amount_in,
                amount_out=10**20,
                price=Decimal(2000),
                transaction_hash="0x" + "6" * 64,
                block_number=8,
            )
        return self.receipt

    async def resume(self) -> TradeReceipt | None:
        return self.receipt


@dataclass
class MemoryContext:
    """Everything a node can see; parts not given are refused when used."""

    flow_id: str = "flow"
    cycle: int = 0
    node_id: str = "node_1"
    mode: str = "paper"
    incoming: Sequence[Incoming] = ()
    trigger: Trigger = field(default_factory=lambda: Trigger("manual"))
    clock: Clock = field(default_factory=lambda: SimulatedClock(datetime(2026, 1, 1, tzinfo=UTC)))
    log: NodeLogger = field(default_factory=MemoryLogger)
    state: NodeState = field(default_factory=MemoryState)
    secrets: Secrets = field(default_factory=MemorySecrets)
    markets: MarketData = field(default_factory=lambda: missing("market data"))
    trades: TradeGateway = field(default_factory=lambda: missing("trading"))
    http: HttpClient = field(default_factory=lambda: missing("HTTP"))
    code: CodeRunner = field(default_factory=lambda: missing("the sandbox"))
    datasets: Datasets = field(default_factory=lambda: missing("the data store"))
    approvals: Approvals = field(default_factory=lambda: missing("approval by a person"))

    @property
    def candles(self) -> CandleSource:
        return ExchangeCandles(self.http)

    @property
    def idempotency_key(self) -> str:
        return f"{self.flow_id}_{self.cycle}_{self.node_id}"
