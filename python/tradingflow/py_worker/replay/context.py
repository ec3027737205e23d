"""A node's context that answers from a journal and reaches nothing else."""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tradingflow.core.errors import Refused
from tradingflow.core.ids import node_task_id
from tradingflow.py_worker.kit import CodeRunner, Incoming, SwapIntent
from tradingflow.py_worker.kit.testing import MemoryLogger
from tradingflow.py_worker.replay.answers import raise_told, value_of
from tradingflow.py_worker.runtime.journal import args_key, jsonable, secret_mark

Entry = Mapping[str, Any]
NOT_JOURNALED = "not_journaled"


class Answers:
    """The journal of a cycle by question. A question asked twice gets the answers in their order; the last stays.

    A node is answered from its own entries first, then from any other node's: an edited flow may ask from elsewhere.
    """

    def __init__(self, journal: Mapping[str, Sequence[Entry]]) -> None:
        self._own: dict[str, defaultdict[str, deque[Entry]]] = {}
        self._any: dict[str, Entry] = {}
        for node_id, entries in journal.items():
            answers = self._own.setdefault(node_id, defaultdict(deque))
            for entry in entries:
                key = _key(entry["part"], entry["call"], entry["args"])
                answers[key].append(entry)
                self._any[key] = entry

    def find(self, node_id: str, part: str, call: str, args: Any) -> Entry | None:
        key = _key(part, call, args)
        own = self._own[node_id].get(key) if node_id in self._own else None
        if own:
            return own.popleft() if len(own) > 1 else own[0]
        # A trade belongs to the node that made it; so does what a node remembers.
        return None if part in ("trades", "state") else self._any.get(key)

    def asked(self, node_id: str, part: str, call: str) -> Entry | None:
        """The first entry of a node for this call, whatever was asked."""
        for answers in self._own.get(node_id, {}).values():
            for entry in answers:
                if (entry["part"], entry["call"]) == (part, call):
                    return entry
        return None


def _key(part: str, call: str, args: Any) -> str:
    """A field that is null counts as absent: journals of before there was such a field ask the same."""
    if (part, call) == ("trades", "swap"):
        args = intent_of(args)
    return json.dumps([part, call, _without_nulls(args)], sort_keys=True)


def intent_of(args: Any) -> Any:
    """What a journaled swap asked for, whether the node gave its intent by place or by name."""
    by_place, by_name = args
    return by_place[0] if by_place else by_name["intent"]


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(held) for name, held in value.items() if held is not None}
    return [_without_nulls(held) for held in value] if isinstance(value, list) else value


@dataclass
class Observed:
    """What a replayed node did: the trade it wanted, and what it asked for that no journal holds."""

    intent: Any = None
    unanswered: list[str] = field(default_factory=list)


class ReplayContext:
    """Implements `NodeContext` for one node of a replayed cycle."""

    def __init__(
        self,
        answers: Answers,
        node_id: str,
        *,
        flow_id: str,
        cycle: int,
        mode: str,
        identity: str,
        now: datetime,
        incoming: Sequence[Incoming],
        sandbox: CodeRunner | None,
        more: Mapping[str, Any],
    ) -> None:
        self.flow_id = flow_id
        self.cycle = cycle
        self.mode = mode
        self.node_id = node_id
        self.incoming = incoming
        self.idempotency_key = f"{identity}:{node_task_id(flow_id, cycle, node_id)}"
        self.log = MemoryLogger()
        self.observed = Observed()
        self._answers = answers
        self._sandbox = sandbox
        self._more = more
        self.clock = _Clock(self, now)
        self.state = _State(self)
        self.secrets = _Secrets()
        self.trades = _Trades(self)
        self.code = _Code(self)
        self.markets = _Markets(self, "markets")
        for part in ("candles", "http", "datasets", "approvals"):
            setattr(self, part, _Part(self, part))

    def __getattr__(self, name: str) -> Any:
        """What the cycle was given besides, such as its trigger."""
        more = self.__dict__.get("_more", {})
        if name not in more:
            raise AttributeError(name)
        return more[name]

    def find(self, part: str, call: str, args: Any) -> Entry | None:
        return self._answers.find(self.node_id, part, call, args)

    def answer(self, part: str, call: str, args: Any) -> Any:
        """What was answered then. Raises what was raised then, or Refused for a question nobody asked."""
        entry = self.find(part, call, args)
        if entry is None:
            self.observed.unanswered.append(f"{part}.{call}")
            raise Refused(NOT_JOURNALED, f"the cycle's journal holds no answer to this {part}.{call}")
        return told(entry)

    @property
    def sandbox(self) -> CodeRunner | None:
        return self._sandbox


def told(entry: Entry) -> Any:
    """The value of an entry, or what was raised instead."""
    if "error" in entry:
        raise_told(entry["error"])
    return value_of(entry["part"], entry["call"], entry["result"])


class _Part:
    """A part whose calls are all awaited."""

    def __init__(self, context: ReplayContext, name: str) -> None:
        self._context = context
        self._name = name

    def __getattr__(self, call: str) -> Any:
        async def asked(*args: Any, **kwargs: Any) -> Any:
            return self._context.answer(self._name, call, args_key(self._name, call, args, kwargs))

        return asked


class _Markets(_Part):
    def quote_token(self, *args: Any, **kwargs: Any) -> Any:
        return self._context.answer("markets", "quote_token", args_key("markets", "quote_token", args, kwargs))

    def pools(self, *args: Any, **kwargs: Any) -> Any:
        return self._context.answer("markets", "pools", args_key("markets", "pools", args, kwargs))


class _Clock:
    """The times the node was told, then the last of them; a node that never asked gets the cycle's fire time."""

    def __init__(self, context: ReplayContext, now: datetime) -> None:
        self._context = context
        self._now = now

    def now(self) -> datetime:
        entry = self._context.find("clock", "now", args_key("clock", "now", (), {}))
        if entry is not None:
            self._now = value_of("clock", "now", entry["result"])
        return self._now


class _State:
    """What the node remembered then; what it remembers now is kept for this run only."""

    def __init__(self, context: ReplayContext) -> None:
        self._context = context
        self._written: dict[str, Any] = {}

    async def get(self, key: str) -> Any:
        if key in self._written:
            return self._written[key]
        entry = self._context.find("state", "get", args_key("state", "get", (key,), {}))
        return None if entry is None else entry["result"]

    async def set(self, key: str, value: Any) -> None:
        self._written[key] = value

    async def compare_and_set(self, key: str, expected: Any, value: Any) -> bool:
        args = args_key("state", "compare_and_set", (key, expected, value), {})
        entry = self._context.find("state", "compare_and_set", args)
        is_set = bool(entry["result"]) if entry is not None else await self.get(key) == expected
        if is_set:
            self._written[key] = value
        return is_set


class _Secrets:
    async def reveal(self, reference: Any) -> str:
        return secret_mark(reference.name)

    def conceal(self, reference: Any, value: str) -> None:
        """Nothing of a replay is kept."""


class _Code:
    """Code that ran then is answered from the journal; edited code runs in the sandbox, which reaches nothing."""

    def __init__(self, context: ReplayContext) -> None:
        self._context = context

    async def run(self, *args: Any, **kwargs: Any) -> Any:
        asked = args_key("code", "run", args, kwargs)
        entry = self._context.find("code", "run", asked)
        if entry is not None:
            return told(entry)
        if self._context.sandbox is not None:
            return await self._context.sandbox.run(*args, **kwargs)
        return self._context.answer("code", "run", asked)


class _Trades:
    """The trade made then. Another one cannot be filled any more; that it was wanted is what a replay shows."""

    def __init__(self, context: ReplayContext) -> None:
        self._context = context

    async def swap(self, intent: SwapIntent) -> Any:
        self._context.observed.intent = jsonable(intent)
        return self._context.answer("trades", "swap", args_key("trades", "swap", (intent,), {}))

    async def resume(self) -> Any:
        entry = self._context.find("trades", "resume", args_key("trades", "resume", (), {}))
        return None if entry is None else told(entry)
