"""`tradingflow monitor …`: what an operator types. Imports what a command needs only when it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from tradingflow.monitor.desk import Desk

T = TypeVar("T")
app = typer.Typer(no_args_is_help=True, help="Look at and mend what the Monitor stores.")

ChainId = Annotated[int, typer.Argument(help="A chain of CHAINS.")]


def _at_desk(chain_id: int, work: Callable[[Desk], Awaitable[T]]) -> T:
    from tradingflow.core.config import MonitorSettings
    from tradingflow.monitor.desk import open_desk

    async def run() -> T:
        async with open_desk(MonitorSettings(), chain_id) as desk:
            return await work(desk)

    return asyncio.run(run())


def _with_engine(work: Callable[[AsyncEngine], Awaitable[T]]) -> T:
    from tradingflow.core.config import MonitorSettings
    from tradingflow.db.engine import make_engine

    async def run() -> T:
        engine = make_engine(MonitorSettings(), application="monitor-desk", pool_size=1)
        try:
            return await work(engine)
        finally:
            await engine.dispose()

    return asyncio.run(run())


@app.command()
def status() -> None:
    """Show every chain: how far it is stored, whether it is halted, what is missing."""
    from rich.console import Console
    from rich.table import Table

    from tradingflow.core.config import MonitorSettings
    from tradingflow.monitor.desk import read_statuses

    table = Table("chain", "next block", "next final", "contracts", "gaps", "undecoded", "updated", "state")
    for chain in asyncio.run(read_statuses(MonitorSettings())):
        numbers = (chain.next_block, chain.next_final_block, chain.contracts, chain.gaps, chain.undecoded)
        state = chain.halted_reason or "following"
        table.add_row(str(chain.chain_id), *map(str, numbers), f"{chain.updated_at:%Y-%m-%d %H:%M:%S}", state)
    Console().print(table)


@app.command()
def backfill(chain_id: ChainId) -> None:
    """Read the chain up to its head here and now, with a progress bar; also fills the gaps of late contracts."""
    _at_desk(chain_id, lambda desk: desk.backfill())


@app.command()
def verify(
    chain_id: ChainId,
    first: Annotated[int, typer.Option("--from", help="First block.")],
    last: Annotated[int, typer.Option("--to", help="Last block.")],
) -> None:
    """Compare stored events with a fresh read of the chain, and discovered vaults with the factory's own count."""

    async def work(desk: Desk) -> int:
        differences = await desk.operation.verify(desk.reader, first, last)
        for difference in differences:
            typer.echo(f"block {difference.block_number} log {difference.log_index}: {difference.what}")
        children = await desk.operation.verify_children(desk.reader)
        for factory, (made, stored) in children.items():
            typer.echo(f"factory {factory}: {made} vaults made, {stored} stored")
        return len(differences) + sum(made - stored for made, stored in children.values())

    wrong = _at_desk(chain_id, work)
    typer.echo(f"blocks {first} to {last}: {wrong} differences")
    raise typer.Exit(wrong > 0)


@app.command()
def redecode(
    chain_id: ChainId, kind: Annotated[str | None, typer.Option(help="Only contracts of this kind.")] = None
) -> None:
    """Decode again what could not be decoded, after an ABI was added or mended."""
    tried, decoded = _at_desk(chain_id, lambda desk: desk.operation.redecode(kind))
    typer.echo(f"{decoded} of {tried} events are decoded now")


@app.command()
def reindex(chain_id: ChainId, address: Annotated[str, typer.Argument(help="A monitored contract.")]) -> None:
    """Forget one contract's events and have the running Monitor read them again."""
    from tradingflow.core.evm import parse_address

    gone = _at_desk(chain_id, lambda desk: desk.operation.reindex(parse_address(address)))
    typer.echo(f"{gone} events are forgotten and will be read again")


@app.command()
def resume(
    chain_id: ChainId,
    rewind_to: Annotated[int | None, typer.Option(help="The last stored block that is on the chain.")] = None,
) -> None:
    """Go on with a halted chain; after a deep reorg, from the last block that is still on the chain."""
    gone = _at_desk(chain_id, lambda desk: desk.store.resume(rewind_to))
    typer.echo(f"chain {chain_id} goes on; {gone} events were taken back")


@app.command()
def abi(
    kind: Annotated[str, typer.Argument(help="What contracts of this ABI are called; * for events of any contract.")],
    file: Annotated[Path, typer.Argument(help="A JSON ABI.", exists=True, dir_okay=False)],
) -> None:
    """Keep an ABI, in the place of the one the kind had; `redecode` applies it to what is stored."""
    from tradingflow.monitor.catalogue import keep_abi

    count = _with_engine(lambda engine: keep_abi(engine, kind, file.read_bytes()))
    typer.echo(f"{kind} has {count} events now")


@app.command()
def factory(
    kind: Annotated[str, typer.Argument(help="The factories' kind.")],
    event: Annotated[str, typer.Argument(help="The event that announces a contract.")],
    argument: Annotated[str, typer.Argument(help="The argument that holds its address.")],
    child_kind: Annotated[str, typer.Argument(help="The kind it is of.")],
) -> None:
    """Follow what factories of a kind announce. `reindex` a factory to discover what it announced before."""
    from tradingflow.monitor.catalogue import keep_rule
    from tradingflow.monitor.discovery import FactoryRule

    _with_engine(lambda engine: keep_rule(engine, FactoryRule(kind, event, argument, child_kind)))
    typer.echo(f"what {event} of {kind} announces is followed as {child_kind}")


@app.command()
def follow(
    chain_id: ChainId,
    address: Annotated[str, typer.Argument(help="A contract.")],
    kind: Annotated[str, typer.Argument(help="Built in, or given by `abi`.")],
    first: Annotated[int, typer.Option("--from", help="First block.")] = 0,
) -> None:
    """Store the events of a contract from a block on; its past is read beside what is new."""
    from tradingflow.core.evm import parse_address
    from tradingflow.monitor.catalogue import follow as begin

    is_new = _with_engine(lambda engine: begin(engine, chain_id, parse_address(address), kind, first))
    typer.echo(f"{address} is followed as {kind}" if is_new else f"{address} is followed already")


@app.command()
def unwanted(chain_id: ChainId) -> None:
    """List contracts that no user wants (any more), no factory announced and CHAINS does not name."""
    contracts = _at_desk(chain_id, lambda desk: desk.unwanted())
    for contract in contracts:
        typer.echo(f"{contract.address}  {contract.kind}  from block {contract.from_block}")
    typer.echo(f"{len(contracts)} contracts are followed for nobody, or for you: `monitor unfollow` ends it")


@app.command()
def unfollow(
    chain_id: ChainId,
    address: Annotated[str, typer.Argument(help="A monitored contract.")],
    users_too: Annotated[bool, typer.Option("--users-too", help="Although users want it.")] = False,
) -> None:
    """Forget a contract with its events; the running Monitor reads it no more."""
    from tradingflow.core.evm import parse_address

    gone = _at_desk(chain_id, lambda desk: desk.unfollow(parse_address(address), users_too=users_too))
    typer.echo(f"{address} is followed no more; {gone} events are forgotten. The same again, later, forgets the newest")
