"""Named, timed steps, shown while they run and kept for the summary."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape


class CheckFailed(Exception):
    """Something the main job must find true is not. The text says what was expected and what was found."""


def require(condition: object, otherwise: str) -> None:
    """Raise CheckFailed with `otherwise` unless `condition` holds."""
    if not condition:
        raise CheckFailed(otherwise)


@dataclass(frozen=True)
class Step:
    """One finished step; `seconds` is how long it took."""

    name: str
    ok: bool
    seconds: float


class Steps:
    """Runs steps one after another and shows each with its time; lines said in between stand under the step."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self.done: list[Step] = []

    @property
    def all_ok(self) -> bool:
        return bool(self.done) and all(step.ok for step in self.done)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[str], None]]:
        """Time the block; hands it a function for details. An exception marks the step failed and goes on up."""
        self._print(f"[bold]▸ {escape(name)}[/bold]")
        began = time.monotonic()
        ok = False
        try:
            yield self.say
            ok = True
        finally:
            seconds = time.monotonic() - began
            self.done.append(Step(name, ok, round(seconds, 3)))
            mark = "[green]✓[/green]" if ok else "[red]✗[/red]"
            self._print(f"  {mark} {seconds:.1f} s")

    def say(self, line: str) -> None:
        """One line for the person watching; safe from any thread."""
        self._print(f"    [dim]{escape(line)}[/dim]")

    def _print(self, markup: str) -> None:
        with self._lock:
            self._console.print(f"[dim]{self.elapsed_s:6.1f} s[/dim] {markup}", highlight=False)
