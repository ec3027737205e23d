"""The outside world as a node sees it: nothing else, so a node runs the same live, on paper and in a backtest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, NoReturn, Protocol

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from tradingflow.core.clock import Clock
from tradingflow.core.errors import Refused
from tradingflow.outbound.client import HttpResponse
from tradingflow.py_worker.kit.handles import Json
from tradingflow.py_worker.kit.markets import CandleSource, MarketData, TradeGateway


class NodeLogger(Protocol):
    """Lines the flow's owner can read. Text is redacted before it is stored."""

    def info(self, message: str, **details: Any) -> None: ...

    def warning(self, message: str, **details: Any) -> None: ...

    def error(self, message: str, **details: Any) -> None: ...


class NodeState(Protocol):
    """What a node remembers from cycle to cycle, per (flow, node). Values are JSON, keys short texts.

    A node may run twice in one cycle (after a crash): write so that the second run changes nothing.
    """

    async def get(self, key: str) -> Json:
        """None when never set."""
        ...

    async def set(self, key: str, value: Json) -> None: ...

    async def compare_and_set(self, key: str, expected: Json, value: Json) -> bool:
        """Set only when the present value equals `expected` (None: never set); says whether it did."""
        ...


@dataclass(frozen=True)
class Incoming:
    """One signal that reached this node in this cycle."""

    source_node: str
    source_handle: str
    target_handle: str
    value: Json


@dataclass(frozen=True)
class Trigger:
    """Why a cycle runs (`interval cron manual rerun partial node webhook contract_event`), and what the webhook or the
    contract event said."""

    kind: str
    payload: Json = None


class SecretRef(BaseModel):
    """`{"$secret": "name"}`: a credential the flow's owner has stored, by name."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, hide_input_in_errors=True)

    name: str = Field(alias="$secret", pattern=r"^[A-Za-z0-9_.-]{1,64}$")


def _no_plain_secret(value: Any) -> Any:
    if isinstance(value, str):
        raise ValueError(  # noqa: TRY004 - pydantic reports ValueError only
            'a secret is never written into a flow; store it and write {"$secret": "name"}'
        )
    return value


Secret = Annotated[SecretRef, BeforeValidator(_no_plain_secret)]


class Secrets(Protocol):
    async def reveal(self, reference: SecretRef) -> str:
        """The value, for this run only: never log, store or emit it. Raises Refused("secret_unknown", …)."""
        ...

    def conceal(self, reference: SecretRef, value: str) -> None:
        """Treat a value got by means of a secret, such as an access token, as that secret in all that is kept of this
        run. Call it on the event loop, with no await between the answer that holds the value and this."""
        ...


class HttpClient(Protocol):
    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        timeout_s: float = 10.0,
        max_body_bytes: int = 1_000_000,
        follow_redirects: bool = True,
    ) -> HttpResponse:
        """The one way out. Raises Refused("address_forbidden", …) for an address that is not public,
        DependencyUnavailable when the server does not answer in time or says too much."""
        ...


@dataclass(frozen=True)
class CodeResult:
    """`outputs` are the variables asked for that the code set; `error` says line and column."""

    outputs: dict[str, Json] = field(default_factory=dict)
    stdout: str = ""
    stderr: str = ""
    error: str | None = None


class CodeRunner(Protocol):
    async def run(
        self,
        code: str,
        inputs: Mapping[str, Json],
        outputs: Sequence[str],
        *,
        timeout_s: float,
        now: datetime,
        seed: str,
        strict: bool = True,
    ) -> CodeResult:
        """Run untrusted code in the sandbox, with a clock that stands at `now` and chance that follows from `seed`.

        `strict`: an output that is no JSON is an error, else it is left out. Raises Refused("sandbox_unavailable", …).
        """
        ...


class Datasets(Protocol):
    """The flow owner's own tables. A backtest reads a snapshot and writes beside it."""

    async def read(self, name: str, limit: int) -> list[dict[str, Json]]:
        """The newest `limit` rows, oldest first. Raises Refused("dataset_unknown", …) for a table that is not there,
        Refused("rows_too_large", …) for rows of several megabytes."""
        ...

    async def write(
        self,
        name: str,
        rows: Sequence[dict[str, Json]],
        *,
        append: bool,
        write_key: str,
        keep_rows: int | None = None,
    ) -> int:
        """Rows now in the table, of which the newest `keep_rows` stay. The same `write_key` again changes nothing.

        Raises Refused("dataset_quota", …).
        """
        ...


@dataclass(frozen=True)
class Asking:
    """A question to a person: `on_timeout` is the answer nobody gave."""

    question: str
    details: Json
    timeout: timedelta
    on_timeout: Literal["approve", "reject"]


class Approvals(Protocol):
    async def ask(self, asking: Asking) -> bool:
        """Wait for a yes or a no, once per node and cycle however often it is called.

        Takes up no room on the worker meanwhile. There is nobody to ask in a backtest, which refuses by name.
        """
        ...


class Missing:
    """Stands for a part this process was started without; using it is refused by name."""

    def __init__(self, part: str) -> None:
        self._part = part

    def __getattr__(self, name: str) -> NoReturn:
        raise Refused("not_available_here", f"{self._part} is not available in this mode or on this worker")


def missing(part: str) -> Any:
    """A `Missing` that fits wherever a part is expected."""
    return Missing(part)


class NodeContext(Protocol):
    """One run of one node in one cycle."""

    @property
    def flow_id(self) -> str: ...
    @property
    def cycle(self) -> int: ...
    @property
    def node_id(self) -> str: ...
    @property
    def mode(self) -> str:
        """`backtest`, `paper` or `live`."""
        ...

    @property
    def idempotency_key(self) -> str:
        """The same for every run of this node in this cycle, different for any other."""
        ...

    @property
    def incoming(self) -> Sequence[Incoming]:
        """The signals behind the inputs, in the order of the graph's edges."""
        ...

    @property
    def trigger(self) -> Trigger: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def log(self) -> NodeLogger: ...
    @property
    def state(self) -> NodeState: ...
    @property
    def markets(self) -> MarketData: ...
    @property
    def candles(self) -> CandleSource: ...
    @property
    def trades(self) -> TradeGateway: ...
    @property
    def http(self) -> HttpClient: ...
    @property
    def secrets(self) -> Secrets: ...
    @property
    def code(self) -> CodeRunner: ...
    @property
    def datasets(self) -> Datasets: ...
    @property
    def approvals(self) -> Approvals: ...
