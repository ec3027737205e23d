"""`tradingflow trades …`: what an operator types. Imports what a command needs only when it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from tradingflow.account_manager.trade.desk import TradeDesk
    from tradingflow.db.models import Trade

T = TypeVar("T")
app = typer.Typer(no_args_is_help=True, help="Look at and mend trades.")

TradeId = Annotated[str, typer.Argument(help="0x and 64 hex digits, as `list` shows it.")]


def _at_desk(work: Callable[[TradeDesk], Awaitable[T]]) -> T:
    from tradingflow.account_manager.trade.desk import open_desk
    from tradingflow.core.config import PlatformSettings

    async def run() -> T:
        async with open_desk(PlatformSettings()) as desk:
            return await work(desk)

    return asyncio.run(run())


@app.command("list")
def list_trades(
    status: Annotated[str | None, typer.Option(help="requested, submitted, completed or failed.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
) -> None:
    """Show the newest trades."""
    from rich.console import Console
    from rich.table import Table

    table = Table("trade", "created", "chain", "vault", "amount in", "amount out", "state")
    for trade in _at_desk(lambda desk: desk.newest(status, limit)):
        amounts = (str(trade.amount_in), str(trade.amount_out or ""))
        created = f"{trade.created_at:%Y-%m-%d %H:%M:%S}"
        table.add_row(trade.id, created, str(trade.chain_id), trade.vault_address, *amounts, _state(trade))
    # Ids are for copying: never cut, whatever the width of the terminal.
    Console(width=260).print(table)


@app.command()
def show(trade_id: TradeId) -> None:
    """Show one trade and every transaction signed for it."""
    trade, attempts = _at_desk(lambda desk: desk.read(trade_id))
    typer.echo(f"{trade.id}  {_state(trade)}")
    typer.echo(f"  {trade.amount_in} of {trade.token_in} for at least {trade.min_amount_out} of {trade.token_out}")
    if trade.failure_detail:
        typer.echo(f"  {trade.failure_detail}")
    for attempt in attempts:
        place = f"block {attempt.block_number}" if attempt.block_number is not None else "not mined"
        fees = f"max fee {attempt.max_fee_per_gas}, tip {attempt.max_priority_fee_per_gas} wei"
        kind = "empty transfer" if attempt.gives_up else "swap"
        typer.echo(
            f"  nonce {attempt.nonce}.{attempt.attempt}  {attempt.hash}  {attempt.status}, {place}, {kind}, {fees}"
        )


@app.command()
def retry(trade_id: TradeId) -> None:
    """Queue a failed trade again under the same trade id; the vault still executes it at most once."""
    _at_desk(lambda desk: desk.retry(trade_id))
    typer.echo("queued")


@app.command()
def cancel(trade_id: TradeId) -> None:
    """Call an open trade off."""
    typer.echo(_at_desk(lambda desk: desk.cancel(trade_id)))


@app.command()
def reconcile(chain_id: Annotated[int, typer.Argument(help="A chain of CHAINS.")]) -> None:
    """Compare trades with what the vaults say they executed; exit 1 when something differs."""
    differences = _at_desk(lambda desk: desk.reconcile(chain_id))
    for found in differences:
        typer.echo(f"{found.vault} {found.trade_id}\n  row:   {found.row}\n  chain: {found.chain}")
    typer.echo(f"{len(differences)} trades differ" if differences else "rows and chain agree")
    raise typer.Exit(bool(differences))


def _state(trade: Trade) -> str:
    return f"{trade.status} ({trade.failure_code})" if trade.failure_code else trade.status
