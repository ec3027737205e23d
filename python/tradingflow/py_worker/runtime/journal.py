"""The journal of a run: every answer the outside world gave a node, so that the run can be told again offline.

Written with the ending of the node task. Secrets are kept by name: wherever a revealed or concealed value appears, in
a request or an answer, `{{secret:name}}` stands instead; headers of requests are not kept at all.
"""

from __future__ import annotations

import base64
import inspect
from collections.abc import Mapping
from typing import Any, AnyStr

import msgspec
from pydantic_core import to_jsonable_python

from tradingflow.core.errors import TradingFlowError
from tradingflow.core.storable import storable_json, storable_text
from tradingflow.outbound.client import HttpResponse
from tradingflow.py_worker.runtime.records import JournalText

PARTS = frozenset(
    ("clock", "markets", "candles", "trades", "http", "state", "code", "datasets", "approvals", "secrets")
)
MAX_JOURNAL_BYTES = 2_000_000
# What an answer's headers may hold that is nobody else's to know.
PRIVATE_HEADERS = frozenset(("set-cookie", "authorization", "proxy-authenticate"))
_encode = msgspec.json.Encoder().encode


class Journal:
    """Entries of one run, in the order the answers came."""

    def __init__(self) -> None:
        self._entries: list[dict[str, Any]] = []
        self._secrets: dict[str, str] = {}

    def learn_secret(self, name: str, value: str) -> None:
        """From now on the value is replaced by its name."""
        if value:
            self._secrets[value] = secret_mark(name)

    def add(self, part: str, call: str, args: Any, answer: Mapping[str, Any]) -> None:
        entry = {"part": part, "call": call, "args": args, **answer}
        self._entries.append(entry)

    def text(self) -> JournalText | None:
        """The entries as JSON; None when the node asked for nothing."""
        if not self._entries:
            return None
        try:
            encoded = _encode(_Masking(self._secrets).of(self._entries))
        except _TooLarge:
            return JournalText("[]", is_cut=True)
        if len(encoded) > MAX_JOURNAL_BYTES:
            return JournalText("[]", is_cut=True)
        return JournalText(encoded.decode(), is_cut=False)


class _TooLarge(Exception):
    """The journal would have more than MAX_JOURNAL_BYTES."""


class _Masking:
    """Puts marks where secrets were, for as long as a journal may become. The marks of a secret of one character take
    many times the room of what they replace, so the room is counted before it is taken."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._marks = list(secrets.items())
        self._bytes_marks = [(secret.encode(), mark.encode()) for secret, mark in self._marks]
        self._room = MAX_JOURNAL_BYTES

    def of(self, value: Any) -> Any:
        """Raises _TooLarge."""
        if isinstance(value, bytes):
            return base64.b64encode(self._replaced(value, self._bytes_marks)).decode()
        if isinstance(value, str):
            return storable_text(self._replaced(value, self._marks))
        if isinstance(value, dict):
            return {self.of(key): self.of(held) for key, held in value.items()}
        if isinstance(value, list):
            return [self.of(held) for held in value]
        return value

    def _replaced(self, value: AnyStr, marks: list[tuple[AnyStr, AnyStr]]) -> AnyStr:
        for secret, mark in marks:
            if len(value) + value.count(secret) * (len(mark) - len(secret)) > self._room:
                raise _TooLarge
            value = value.replace(secret, mark)
        self._room -= len(value)
        if self._room < 0:
            raise _TooLarge
        return value


def secret_mark(name: str) -> str:
    """What stands in a journal where a secret was."""
    return f"{{{{secret:{name}}}}}"


def args_key(part: str, call: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What was asked, as JSON: the same question has the same key, live and in a replay."""
    if part == "http":
        kept = {name: value for name, value in kwargs.items() if name not in ("headers", "content")}
        content = kwargs.get("content")
        # A digest of what was sent would give a short secret away to whoever tries them all.
        kept["has_content"] = bool(content)
        return jsonable([list(args), kept])
    return jsonable([list(args), dict(kwargs)])


def answer_of(result: Any) -> Any:
    """An answer as JSON, not masked yet; `replay.answers` is the way back."""
    if isinstance(result, HttpResponse):
        headers = {name: value for name, value in result.headers.items() if name.lower() not in PRIVATE_HEADERS}
        return {"status": result.status, "headers": headers, "url": result.url, **_body(result.body)}
    return _plain(result)


def jsonable(value: Any) -> Any:
    """As it stands in a journal, with nothing that PostgreSQL cannot hold."""
    return storable_json(_plain(value))


def _plain(value: Any) -> Any:
    return to_jsonable_python(value, bytes_mode="base64", by_alias=True)


def _body(body: bytes) -> dict[str, str | bytes]:
    """Text where it is text that PostgreSQL can hold; other bytes are masked as bytes before they become base64."""
    if b"\x00" in body:
        return {"base64": body}
    try:
        return {"text": body.decode()}
    except UnicodeDecodeError:
        return {"base64": body}


class JournalingContext:
    """A node's context that writes down what its parts answer."""

    def __init__(self, context: Any, journal: Journal) -> None:
        self._context = context
        self._journal = journal

    def __getattr__(self, name: str) -> Any:
        part = getattr(self._context, name)
        return _JournaledPart(part, name, self._journal) if name in PARTS else part


class _JournaledPart:
    def __init__(self, part: Any, name: str, journal: Journal) -> None:
        self._part = part
        self._name = name
        self._journal = journal

    def __getattr__(self, call: str) -> Any:
        def asked(*args: Any, **kwargs: Any) -> Any:
            try:
                result = getattr(self._part, call)(*args, **kwargs)
            except TradingFlowError as error:
                self._refused(call, args, kwargs, error)
                raise
            if inspect.isawaitable(result):
                return self._awaited(call, args, kwargs, result)
            self._answered(call, args, kwargs, result)
            return result

        return asked

    async def _awaited(self, call: str, args: tuple[Any, ...], kwargs: dict[str, Any], pending: Any) -> Any:
        try:
            result = await pending
        except TradingFlowError as error:
            self._refused(call, args, kwargs, error)
            raise
        self._answered(call, args, kwargs, result)
        return result

    def _answered(self, call: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        if self._name == "secrets" and call == "conceal":
            self._journal.learn_secret(args[0].name, args[1])
            return
        if self._name == "secrets":
            self._journal.learn_secret(args[0].name, result)
            result = None
        self._add(call, args, kwargs, {"result": answer_of(result)})

    def _refused(self, call: str, args: tuple[Any, ...], kwargs: dict[str, Any], error: TradingFlowError) -> None:
        told = {"kind": type(error).__name__, "code": error.code, "detail": error.detail}
        self._add(call, args, kwargs, {"error": told})

    def _add(self, call: str, args: tuple[Any, ...], kwargs: dict[str, Any], answer: dict[str, Any]) -> None:
        if self._name == "state" and call == "set":
            return
        self._journal.add(self._name, call, args_key(self._name, call, args, kwargs), answer)
