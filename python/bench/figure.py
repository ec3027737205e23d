"""How a measurement is shown: one JSON object a line on standard output, progress on standard error."""

import json
import sys
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Figures:
    """Collects what one run shows; `exit_code` is 1 when a target was missed."""

    missed: list[str] = field(default_factory=list)

    def show(
        self,
        name: str,
        value: float,
        unit: str,
        *,
        target: str,
        ok: bool,
        baseline: str | None = None,
        baseline_value: float | None = None,
        **more: Any,
    ) -> None:
        """Print one figure. `target` says in words what `ok` was judged by."""
        ratio = round(value / baseline_value, 2) if baseline_value else None
        line = {
            "name": name, "value": round(value, 3), "unit": unit, "baseline": baseline,
            "baseline_value": None if baseline_value is None else round(baseline_value, 3), "ratio": ratio,
            "target": target, "ok": ok,
        }  # fmt: skip
        print(json.dumps(line | more), flush=True)
        if not ok:
            self.missed.append(name)

    @property
    def exit_code(self) -> int:
        return 1 if self.missed else 0


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
