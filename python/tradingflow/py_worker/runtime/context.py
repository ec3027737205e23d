"""What a running node gets to see: `kit.NodeContext`, wired for one node in one cycle."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast
from uuid import UUID

from tradingflow.core.clock import Clock
from tradingflow.core.errors import InvalidInput
from tradingflow.core.ids import node_task_id
from tradingflow.core.logging import redact
from tradingflow.core.storable import storable_text
from tradingflow.py_worker.kit import (
    Approvals,
    CandleSource,
    CodeRunner,
    Datasets,
    HttpClient,
    Incoming,
    Json,
    MarketData,
    Missing,
    NodeLogger,
    NodeState,
    Secrets,
    TradeGateway,
    Trigger,
)
from tradingflow.py_worker.kit.exchanges import ExchangeCandles
from tradingflow.py_worker.runtime.journal import Journal
from tradingflow.py_worker.runtime.live import LiveCycle
from tradingflow.py_worker.runtime.records import LogLine

# A chatty node must not fill the database: what is over is counted, not stored.
MAX_LOG_LINES = 200
MAX_LOG_CHARS = 4_000
# An index of PostgreSQL holds a row of 2,704 bytes.
MAX_STATE_KEY_BYTES = 1_000

ReadState = Callable[[str], Awaitable[Json]]
Barrier = Callable[[], Awaitable[None]]


Part_co = TypeVar("Part_co", covariant=True)


class Trading(Protocol):
    """Makes the trade gateway of one node in one cycle."""

    def gateway(self, live: LiveCycle, node_id: str, markets: MarketData) -> TradeGateway: ...


class PaperTrading(Trading, Protocol):
    """Trading on paper: its vaults hold what they hold on paper, everything else is the live market."""

    def markets(self, live: LiveCycle, markets: MarketData) -> MarketData: ...


class Asked(Protocol):
    """Makes the approvals of one node in one cycle."""

    def of_node(self, live: LiveCycle, index: int) -> Approvals: ...


class Owned(Protocol[Part_co]):
    """A part of which each user has their own."""

    def for_owner(self, owner: UUID) -> Part_co: ...


@dataclass(frozen=True)
class Surroundings:
    """The worker's parts nodes may reach; what a worker was started without refuses by name."""

    clock: Clock
    markets: MarketData
    trading: Trading | None = None
    paper: PaperTrading | None = None
    http: Owned[HttpClient] | None = None
    secrets: Owned[Secrets] | None = None
    code: Owned[CodeRunner] | None = None
    datasets: Owned[Datasets] | None = None
    approvals: Asked | None = None


class Gated:
    """An effect waits until what it rests on is durable: after a crash the same effect would be decided again."""

    def __init__(self, part: Any, barrier: Barrier) -> None:
        self._part = part
        self._barrier = barrier

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._part, name)

        async def after_barrier(*args: Any, **kwargs: Any) -> Any:
            await self._barrier()
            return await method(*args, **kwargs)

        return after_barrier


class CollectedLog:
    """Lines of one run; stored in the transaction that ends the node task, so never twice."""

    def __init__(self, clock: Clock, source: str) -> None:
        self._clock = clock
        self._source = source
        self._left_out = 0
        self._lines: list[LogLine] = []

    def info(self, message: str, **details: Any) -> None:
        self.add("INFO", message, details)

    def warning(self, message: str, **details: Any) -> None:
        self.add("WARNING", message, details)

    def error(self, message: str, **details: Any) -> None:
        self.add("ERROR", message, details)

    def add(self, level: str, message: str, details: Mapping[str, Any]) -> None:
        if len(self._lines) >= MAX_LOG_LINES:
            self._left_out += 1
            return
        told = " ".join([message, *(f"{key}={value}" for key, value in redact(details).items())])
        text = storable_text(told[:MAX_LOG_CHARS])
        self._lines.append(LogLine(level, self._source, text, self._clock.now()))

    def lines(self) -> list[LogLine]:
        if self._left_out:
            left_out = f"{self._left_out} more lines were left out"
            return [*self._lines, LogLine("WARNING", "system", left_out, self._clock.now())]
        return self._lines


class BufferedState:
    """Reads through to the database; writes stay here until the node task ends and are committed with it.

    So a run that a crash cut off has changed nothing, and the next run of the same node task finds what this one found.
    """

    def __init__(self, read: ReadState) -> None:
        self._read = read
        self.writes: dict[str, Json] = {}

    async def get(self, key: str) -> Json:
        _require_storable_key(key)
        return self.writes[key] if key in self.writes else await self._read(key)

    async def set(self, key: str, value: Json) -> None:
        _require_storable_key(key)
        self.writes[key] = value

    async def compare_and_set(self, key: str, expected: Json, value: Json) -> bool:
        if await self.get(key) != expected:
            return False
        self.writes[key] = value
        return True


def _require_storable_key(key: str) -> None:
    if storable_text(key) != key or len(key.encode()) > MAX_STATE_KEY_BYTES:
        what = f"a key of a node's state has at most {MAX_STATE_KEY_BYTES} bytes as UTF-8, and no NUL"
        raise InvalidInput("invalid_state_key", what)


@dataclass(frozen=True)
class RunRecorder:
    """What one run leaves behind besides its outputs."""

    log: CollectedLog
    state: BufferedState
    journal: Journal = field(default_factory=Journal)


class RunContext:
    """Implements `NodeContext` for node `index` of a live cycle.

    Reading is free; what changes the world outside goes through a gate.
    """

    __slots__ = ("_around", "_index", "_live", "_recorder", "clock", "cycle", "flow_id", "incoming", "mode", "node_id")

    def __init__(
        self, around: Surroundings, live: LiveCycle, index: int, incoming: Sequence[Incoming], recorder: RunRecorder
    ) -> None:
        self._around = around
        self._live = live
        self._index = index
        self._recorder = recorder
        self.clock = around.clock
        self.flow_id = live.flow_id
        self.cycle = live.key[1]
        self.node_id = live.graph.nodes[index].id
        self.mode = live.mode
        self.incoming = incoming

    @property
    def idempotency_key(self) -> str:
        task = node_task_id(self.flow_id, self.cycle, self.node_id)
        return f"{self._live.key[0]}:{self._live.version}:{task}"

    @property
    def trigger(self) -> Trigger:
        return self._live.trigger

    @property
    def log(self) -> NodeLogger:
        return self._recorder.log

    @property
    def state(self) -> NodeState:
        return self._recorder.state

    @property
    def markets(self) -> MarketData:
        paper = self._around.paper
        if self.mode == "paper" and paper is not None:
            return paper.markets(self._live, self._around.markets)
        return self._around.markets

    @property
    def candles(self) -> CandleSource:
        return ExchangeCandles(self.http)

    @property
    def trades(self) -> TradeGateway:
        trading = self._around.paper if self.mode == "paper" else self._around.trading
        gateway = trading.gateway(self._live, self.node_id, self._around.markets) if trading else None
        return cast("TradeGateway", self._gated(gateway, "trading"))

    @property
    def http(self) -> HttpClient:
        outside = self._around.http
        return cast("HttpClient", self._gated(outside and outside.for_owner(self._live.user_id), "HTTP"))

    @property
    def secrets(self) -> Secrets:
        store = self._around.secrets
        return store.for_owner(self._live.user_id) if store else cast("Secrets", Missing("stored credentials"))

    @property
    def code(self) -> CodeRunner:
        sandbox = self._around.code
        return sandbox.for_owner(self._live.user_id) if sandbox else cast("CodeRunner", Missing("the code sandbox"))

    @property
    def datasets(self) -> Datasets:
        store = self._around.datasets
        return cast("Datasets", self._gated(store and store.for_owner(self._live.user_id), "datasets"))

    @property
    def approvals(self) -> Approvals:
        desk = self._around.approvals
        return cast("Approvals", self._gated(desk and desk.of_node(self._live, self._index), "approvals"))

    async def _inputs_durable(self) -> None:
        await self._live.inputs_durable(self._index)

    def _gated(self, part: Any, name: str) -> Any:
        return Missing(name) if part is None else Gated(part, self._inputs_durable)
