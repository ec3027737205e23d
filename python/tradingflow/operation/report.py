"""Findings as a person or a program reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tradingflow.operation.finding import Finding, State

STYLES = {State.OK: "green", State.WARN: "yellow", State.FAIL: "bold red"}


def show(findings: Sequence[Finding], *, as_json: bool) -> None:
    """Print them: a table with what to do, or one JSON object a line."""
    console = Console(soft_wrap=as_json)
    if as_json:
        for finding in findings:
            console.print(json.dumps(finding.as_json()), markup=False, highlight=False)
        return
    table = Table(box=None, pad_edge=False)
    for title in ("", "check", "found", "what to do"):
        table.add_column(title, overflow="fold")
    for finding in findings:
        table.add_row(Text(finding.state, STYLES[finding.state]), finding.check, finding.found, finding.fix)
    console.print(table)
    counts = {state: sum(finding.state is state for finding in findings) for state in State}
    console.print(", ".join(f"{count} {state}" for state, count in counts.items()))
