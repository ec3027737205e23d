"""JSON-RPC as the Monitor reads it: typed answers, batches, one node or several with fail-over.

Every answer is checked for shape here; whether it is *true* (the right block, the right chain) is checked by who asks,
with `Distrusted` as the word for an answer that cannot be.

TradingFlowError
└── DependencyUnavailable
    └── RpcFailed          no usable answer: no connection, HTTP status, broken JSON, an error of the node
        ├── TimedOut       no answer in time: the node is away, or was asked for too much
        ├── Refused        the node answered with an error: it cannot, or will not, or has had enough of us
        ├── RangeTooWide   eth_getLogs over too many blocks or results: ask for fewer blocks
        └── Distrusted     a well-formed answer that contradicts itself or the chain
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec
from msgspec.json import Decoder

from tradingflow.core.errors import DependencyUnavailable

T = TypeVar("T")

REQUEST_TIMEOUT_S = 10.0
TOO_MANY_REQUESTS = 429
# Of the 4xx, those that say "not now" rather than "not this".
TRY_AGAIN = frozenset({408, 425, TOO_MANY_REQUESTS})
# What most providers allow in one batch request.
BATCH_LIMIT = 100


class RpcFailed(DependencyUnavailable):
    """A node gave no usable answer. The text never holds the node's URL, which may carry a key."""

    def __init__(self, detail: str, code: str = "rpc_failed") -> None:
        super().__init__(code, detail)


class TimedOut(RpcFailed):
    def __init__(self, detail: str) -> None:
        super().__init__(detail, "rpc_timed_out")


class Refused(RpcFailed):
    def __init__(self, detail: str) -> None:
        super().__init__(detail, "rpc_refused")


class RangeTooWide(RpcFailed):
    def __init__(self, detail: str) -> None:
        super().__init__(detail, "rpc_range_too_wide")


class Distrusted(RpcFailed):
    def __init__(self, detail: str) -> None:
        super().__init__(detail, "rpc_distrusted")


class RawLog(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """One log as the node sends it: quantities and bytes are 0x hex. Holds no reference cycle, so no garbage."""

    address: str
    topics: list[str]
    data: str
    block_number: str
    block_hash: str
    transaction_hash: str
    log_index: str
    removed: bool = False


class Header(msgspec.Struct, rename="camel", frozen=True):
    """What of a block header the Monitor uses; `height` and `time` are its quantities as integers."""

    number: str
    hash: str
    parent_hash: str
    timestamp: str
    logs_bloom: str

    @property
    def height(self) -> int:
        return int(self.number, 16)

    @property
    def time(self) -> int:
        return int(self.timestamp, 16)


class Receipt(msgspec.Struct, rename="camel", frozen=True):
    logs: list[RawLog]


class _NodeError(msgspec.Struct):
    code: int = 0
    message: str = ""


class _Answer(msgspec.Struct):
    id: int | None = None
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: _NodeError | None = None


Call = tuple[str, Sequence[Any]]

TEXT = Decoder(str)
HEADER = Decoder(Header)
MAYBE_HEADER: Decoder[Header | None] = Decoder(Header | None)
LOGS = Decoder(list[RawLog])
RECEIPTS = Decoder(list[Receipt])

# How nodes say that a range is too wide: geth and forks, Alchemy, Infura, QuickNode, Erigon, Ankr, public gateways.
_TOO_WIDE = re.compile(
    r"block range|range (is )?too (large|wide)|too many (results|logs|blocks)|more than \d+ (results|logs)|"
    r"response size|limit(ed)? (exceeded|to)|exceeds? (the )?(max|limit|range)|query timeout",
    re.IGNORECASE,
)
# Words of a node that has had enough of us, however little is asked for: they may read like those above.
_QUOTA = re.compile(r"\brate|capacity|quota|credits|per second|\b(daily|monthly)\b", re.IGNORECASE)


def quantity(number: int) -> str:
    """An integer as JSON-RPC writes it."""
    return hex(number)


def _is_range(call: Call) -> bool:
    """Whether it asks for logs of more than one block: what asks for less cannot be too wide."""
    method, params = call
    return method == "eth_getLogs" and params[0].get("fromBlock") != params[0].get("toBlock")


def _says_too_wide(message: str) -> bool:
    return _TOO_WIDE.search(message) is not None and _QUOTA.search(message) is None


def node_name(url: str) -> str:
    """How logs and metrics call a node: host and port, without path, query or login, where keys are kept."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


class RpcNode:
    """One JSON-RPC endpoint over HTTP. Close it when done."""

    def __init__(self, url: str, *, timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        self.name = node_name(url)
        self._url = url
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._encoder = msgspec.json.Encoder()
        self._one = Decoder(_Answer)
        self._many = Decoder(list[_Answer])

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def call(self, method: str, params: Sequence[Any], answer: Decoder[T]) -> T:
        """The result of one call as `answer`. Raises RpcFailed and its kinds."""
        body = await self._post({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, [(method, params)])
        try:
            return self._result((method, params), self._one.decode(body), answer)
        except msgspec.MsgspecError as error:
            raise RpcFailed(f"{self.name} sent no valid answer to {method}") from error

    async def batch(self, calls: Sequence[Call], answer: Decoder[T]) -> list[T]:
        """The results of several calls, in their order; one failure fails all. Raises RpcFailed and its kinds."""
        chunks = [calls[at : at + BATCH_LIMIT] for at in range(0, len(calls), BATCH_LIMIT)]
        results = await asyncio.gather(*(self._batch(chunk, answer) for chunk in chunks))
        return [result for chunk in results for result in chunk]

    async def _batch(self, calls: Sequence[Call], answer: Decoder[T]) -> list[T]:
        requests = [
            {"jsonrpc": "2.0", "id": place, "method": method, "params": params}
            for place, (method, params) in enumerate(calls)
        ]
        body = await self._post(requests, calls)
        try:
            answers = {got.id: got for got in self._many.decode(body)}
            return [self._result(call, answers[place], answer) for place, call in enumerate(calls)]
        except (msgspec.MsgspecError, KeyError) as error:
            raise RpcFailed(f"{self.name} sent no valid answer to a batch of {len(calls)}") from error

    def _result(self, call: Call, got: _Answer, answer: Decoder[T]) -> T:
        if got.error is not None:
            raise self._node_error(call, got.error)
        return answer.decode(got.result)

    def _node_error(self, call: Call, error: _NodeError) -> RpcFailed:
        text = f"{self.name} refused {call[0]}: {error.code} {error.message[:200]}"
        too_wide = _is_range(call) and error.code != TOO_MANY_REQUESTS and _says_too_wide(error.message)
        return RangeTooWide(text) if too_wide else Refused(text)

    def _http_error(self, status: int, body: bytes, calls: Sequence[Call]) -> RpcFailed:
        """Some providers refuse a wide range with a 4xx status; the reason is in the body."""
        text = f"{self.name} answered HTTP {status}"
        too_wide = status == 413 or (status == 400 and _says_too_wide(body[:1000].decode(errors="replace")))
        if too_wide and any(map(_is_range, calls)):
            return RangeTooWide(text)
        will_not = 400 <= status < 500 and status not in TRY_AGAIN
        return Refused(text) if will_not else RpcFailed(text)

    async def _post(self, request: object, calls: Sequence[Call]) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        try:
            async with self._session.post(
                self._url, data=self._encoder.encode(request), headers={"Content-Type": "application/json"}
            ) as response:
                body = await response.read()
                if response.status != 200:
                    raise self._http_error(response.status, body, calls)
                return body
        except TimeoutError as error:
            raise TimedOut(f"{self.name} did not answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise RpcFailed(f"{self.name} cannot be reached: {type(error).__name__}") from error
