"""How one node is run and what its end means: time-out, retries, what an error does, when a join is met."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

OnError = Literal["fail", "continue", "route"]
ON_ERROR: tuple[OnError, ...] = ("fail", "continue", "route")
MAX_TIMEOUT_S = 7 * 86_400.0
MAX_ATTEMPTS = 20
MAX_INTERVAL_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Retry:
    """Attempt n+1 starts min(initial · backoff^(n-1), max) seconds after attempt n failed, or when a full worker has
    room for it again."""

    max_attempts: int = 1
    initial_interval_s: float = 1.0
    backoff: float = 2.0
    max_interval_s: float = 60.0

    def pause_s(self, attempt: int) -> float:
        """The wait after `attempt` (from 1) failed."""
        return float(min(self.initial_interval_s * self.backoff ** (attempt - 1), self.max_interval_s))


@dataclass(frozen=True, slots=True)
class Join:
    """`needed` edges must have delivered before the node runs; None: all of them."""

    needed: int | None = None


@dataclass(frozen=True, slots=True)
class NodePolicy:
    """`on_error`: `fail` fails the cycle; `continue` skips what hangs on the node and lets the cycle complete;
    `route` sends `{"error", "detail"}` from the handle `error` instead of the node's outputs."""

    timeout_s: float
    retry: Retry = Retry()
    on_error: OnError = "fail"
    join: Join = Join()


class InvalidPolicy(ValueError):
    """Says which setting is wrong and what is allowed."""


def parse_policy(node: Mapping[str, Any], default_timeout_s: float) -> NodePolicy:
    """The policy from a node's JSON (`timeout_s`, `retry`, `on_error`, `join`). Raises InvalidPolicy."""
    timeout_s = _number(node, "timeout_s", default_timeout_s, low=0.001, high=MAX_TIMEOUT_S)
    on_error = node.get("on_error", "fail")
    if on_error not in ON_ERROR:
        raise InvalidPolicy(f"on_error is one of {', '.join(ON_ERROR)}")
    return NodePolicy(timeout_s, _retry(node.get("retry")), on_error, _join(node.get("join", "all")))


def _retry(value: Any) -> Retry:
    if value is None:
        return Retry()
    known = ("max_attempts", "initial_interval_s", "backoff", "max_interval_s")
    if not isinstance(value, Mapping) or not set(value) <= set(known):
        raise InvalidPolicy(f"retry is an object with {', '.join(known)}")
    attempts = value.get("max_attempts", 1)
    if isinstance(attempts, bool) or not isinstance(attempts, int) or not 1 <= attempts <= MAX_ATTEMPTS:
        raise InvalidPolicy(f"retry.max_attempts is a whole number from 1 to {MAX_ATTEMPTS}")
    return Retry(
        attempts,
        _number(value, "initial_interval_s", 1.0, low=0.0, high=MAX_INTERVAL_S),
        _number(value, "backoff", 2.0, low=1.0, high=10.0),
        _number(value, "max_interval_s", 60.0, low=0.0, high=MAX_INTERVAL_S),
    )


def _join(value: Any) -> Join:
    if value == "all":
        return Join()
    if value == "any":
        return Join(1)
    quorum = value.get("quorum") if isinstance(value, Mapping) and len(value) == 1 else None
    if isinstance(quorum, int) and not isinstance(quorum, bool) and quorum >= 1:
        return Join(quorum)
    raise InvalidPolicy('join is "all", "any" or {"quorum": n} with n of 1 or more')


def _number(values: Mapping[str, Any], name: str, default: float, *, low: float, high: float) -> float:
    value = values.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise InvalidPolicy(f"{name} is a number from {low:g} to {high:g}")
    return float(value)
