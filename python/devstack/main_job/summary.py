"""What happened, for a person on the screen and for programs in `.local/summary.json`."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from devstack.main_job.steps import Step


@dataclass(frozen=True)
class TradeLine:
    """One mined trade. Amounts are whole tokens, `price` quote tokens for one base token; all as decimal strings."""

    side: str
    trade_id: str
    transaction_hash: str
    block_number: int
    amount_in: str
    token_in: str
    amount_out: str
    token_out: str
    price: str


@dataclass
class Summary:
    """Filled while the main job runs."""

    ok: bool = False
    seconds: float = 0.0
    steps: list[Step] = field(default_factory=list)
    cycles_completed: int = 0
    trades: list[TradeLine] = field(default_factory=list)
    events_stored: int = 0
    vault_address: str | None = None
    vault_value_before: str | None = None
    vault_value_after: str | None = None
    value_unit: str | None = None
    urls: dict[str, str] = field(default_factory=dict)
    problem: str | None = None

    def write(self, path: Path) -> None:
        """As JSON, in one step, so that a reader never sees half of it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".new")
        draft.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        draft.replace(path)

    def show(self, console: Console) -> None:
        """Print it."""
        if self.urls:
            console.print(_urls_table(self.urls))
        if self.trades:
            console.print(_trades_table(self.trades))
        console.print(Panel(self._facts(), title=_verdict(self.ok), expand=False), soft_wrap=False)
        if self.problem:
            console.print(f"[red]{escape(self.problem)}[/red]")

    def _facts(self) -> str:
        after = _value(self.vault_value_after)
        return "\n".join(
            [
                f"cycles completed   {self.cycles_completed}",
                f"trades mined       {len(self.trades)}",
                f"events stored      {self.events_stored}",
                f"vault              {self.vault_address or '-'}",
                f"vault value        {_value(self.vault_value_before)} → {after} {self.value_unit or ''}",
                f"steps checked      {sum(s.ok for s in self.steps)} of {len(self.steps)} in {self.seconds:.0f} s",
            ]
        )


def _verdict(ok: bool) -> str:
    return "[bold green]every step checked true[/]" if ok else "[bold red]not everything is as it should be[/]"


def _value(text: str | None) -> str:
    return "-" if text is None else f"{float(text):,.2f}"


def _urls_table(urls: dict[str, str]) -> Table:
    table = Table(title="Services", title_justify="left", box=None, padding=(0, 2))
    table.add_column("service", style="bold")
    table.add_column("URL")
    for name, url in urls.items():
        table.add_row(name, url)
    return table


def _trades_table(trades: list[TradeLine]) -> Table:
    table = Table(title="Trades through the vault", title_justify="left", box=None, padding=(0, 2))
    for heading in ("side", "paid", "got", "price", "block", "transaction"):
        right = heading in {"paid", "got", "price", "block"}
        table.add_column(heading, justify="right" if right else "left", overflow="fold", no_wrap=not right)
    for trade in trades:
        style = "green" if trade.side == "buy" else "red"
        table.add_row(
            f"[{style}]{trade.side}[/]",
            f"{float(trade.amount_in):,.4f} {trade.token_in}",
            f"{float(trade.amount_out):,.4f} {trade.token_out}",
            f"{float(trade.price):,.2f}",
            str(trade.block_number),
            trade.transaction_hash,
        )
    return table
