"""What is wrong with a flow, so that a person can find the place: every problem names its node and handle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tradingflow.core.errors import InvalidInput

# A graph that is wrong all over is answered with its first problems, not with a page of them.
MAX_PROBLEMS_TOLD = 20


@dataclass(frozen=True, slots=True)
class Problem:
    """`code` is stable; `node` and `handle` say where, when there is such a place."""

    code: str
    message: str
    node: str | None = None
    handle: str | None = None

    def __str__(self) -> str:
        place = f"node {self.node!r}" if self.node is not None else "flow"
        if self.handle is not None:
            place += f", handle {self.handle!r}"
        return f"{place}: {self.message}"


class InvalidFlow(InvalidInput):
    """422. `code` is that of the first problem; `detail` tells them all, up to MAX_PROBLEMS_TOLD."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        told = "; ".join(str(problem) for problem in problems[:MAX_PROBLEMS_TOLD])
        if len(problems) > MAX_PROBLEMS_TOLD:
            told += f"; and {len(problems) - MAX_PROBLEMS_TOLD} more"
        super().__init__(problems[0].code, told)
        self.problems = tuple(problems)
