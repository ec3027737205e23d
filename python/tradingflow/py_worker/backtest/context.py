"""What a node sees during a backtest: `kit.NodeContext`, with parts that cannot exist in the past refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from tradingflow.core.clock import Clock
from tradingflow.core.ids import node_task_id
from tradingflow.py_worker.backtest.world import World
from tradingflow.py_worker.kit import (
    Approvals,
    CandleSource,
    CodeRunner,
    Datasets,
    HttpClient,
    Incoming,
    Json,
    MarketData,
    NodeLogger,
    NodeState,
    Secrets,
    TradeGateway,
    Trigger,
    missing,
)


class SilentLog:
    """A backtest keeps decisions, trades and failures; what nodes say of each cycle would be gigabytes."""

    def info(self, message: str, **details: Any) -> None: ...

    def warning(self, message: str, **details: Any) -> None: ...

    def error(self, message: str, **details: Any) -> None: ...


class RememberedState:
    """`NodeState` of one node. Writes count once the node completed, and are JSON, as they are in the database."""

    def __init__(self) -> None:
        self._kept: dict[str, str] = {}
        self._written: dict[str, str] = {}

    async def get(self, key: str) -> Json:
        return json.loads(self._written.get(key) or self._kept.get(key, "null"))

    async def set(self, key: str, value: Json) -> None:
        self._written[key] = json.dumps(value)

    async def compare_and_set(self, key: str, expected: Json, value: Json) -> bool:
        if await self.get(key) != expected:
            return False
        await self.set(key, value)
        return True

    def keep(self) -> None:
        self._kept.update(self._written)
        self._written.clear()

    def drop(self) -> None:
        self._written.clear()


@dataclass(frozen=True)
class Outside:
    """Parts a backtest may be given besides the tape; what is left out refuses by name."""

    http: HttpClient = field(default_factory=lambda: missing("HTTP (give the backtest a recording)"))
    code: CodeRunner = field(default_factory=lambda: missing("the code sandbox"))
    secrets: Secrets = field(default_factory=lambda: missing("stored credentials"))
    datasets: Datasets = field(default_factory=lambda: missing("datasets"))
    approvals: Approvals = field(default_factory=lambda: missing("approval by a person"))


class BacktestContext:
    """Implements `NodeContext` for one node. The driver sets `cycle` before a run; `signals` gives what came in it."""

    mode = "backtest"
    # History has fire times only: what a webhook or a contract event would have said is not known.
    trigger = Trigger("interval")

    def __init__(
        self,
        world: World,
        outside: Outside,
        flow_id: str,
        node_id: str,
        signals: Callable[[], Sequence[Incoming]],
    ) -> None:
        self._world = world
        self._outside = outside
        self.flow_id = flow_id
        self.node_id = node_id
        self.cycle = 0
        self.signals = signals
        self.remembered = RememberedState()
        self.log: NodeLogger = SilentLog()
        self.clock: Clock = world.clock

    @property
    def flow_pk(self) -> UUID:
        return self._world.run.flow_pk

    @property
    def incoming(self) -> Sequence[Incoming]:
        return self.signals()

    @property
    def idempotency_key(self) -> str:
        task = node_task_id(self.flow_id, self.cycle, self.node_id)
        return f"{self.flow_pk}:{self._world.run.version}:{task}"

    @property
    def state(self) -> NodeState:
        return self.remembered

    @property
    def markets(self) -> MarketData:
        return self._world.markets

    @property
    def candles(self) -> CandleSource:
        return self._world.tape

    @property
    def trades(self) -> TradeGateway:
        return self._world.trades(self.cycle, self.node_id, self.signals)

    @property
    def http(self) -> HttpClient:
        return self._outside.http

    @property
    def secrets(self) -> Secrets:
        return self._outside.secrets

    @property
    def code(self) -> CodeRunner:
        return self._outside.code

    @property
    def datasets(self) -> Datasets:
        return self._outside.datasets

    @property
    def approvals(self) -> Approvals:
        return self._outside.approvals
