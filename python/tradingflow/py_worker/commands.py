"""`tradingflow node …`: what a strategy author types."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from tradingflow.core.errors import InvalidInput

app = typer.Typer(no_args_is_help=True, help="Write and try nodes.")

Json = Annotated[str, typer.Option(help="JSON, or @FILE.")]


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Lower case with _, e.g. funding_rate.")],
    folder: Annotated[Path, typer.Option(help="Where the node's folder is made.")] = Path(),
) -> None:
    """Write a node package to begin with: the node, its test, and the entry point workers find it by."""
    from tradingflow.py_worker.workbench.template import write_template

    files = write_template(name, folder)
    for file in files:
        typer.echo(file)
    typer.echo(f"try it: pytest {files[0].parent}; install it beside the worker: pip install -e {files[0].parent}")


@app.command("test")
def try_out(
    node: Annotated[str, typer.Argument(help="A type of `tradingflow node list`, or the node's .py file.")],
    config: Json = "{}",
    inputs: Json = "{}",
    secret: Annotated[
        list[str] | None, typer.Option(help="NAME=@FILE, or NAME to be asked for its value; may be repeated.")
    ] = None,
    cycles: Annotated[int, typer.Option(min=1, max=1000, help="How often; state stays.")] = 1,
    allow_loopback: Annotated[bool, typer.Option(help="Let it reach servers on this machine.")] = False,
) -> None:
    """Run one node with given inputs and print what it gives, one JSON object a cycle.

    HTTP and the sandbox are real; datasets are empty, approvals time out at once, chains and trading are left out.
    """
    from tradingflow.py_worker.workbench.bench import find_node, run_node

    values = dict(_secret(text) for text in secret or ())
    running = run_node(
        find_node(node),
        _object(config, "config"),
        _object(inputs, "inputs"),
        secrets=values,
        allow_loopback=allow_loopback,
        cycles=cycles,
    )
    for ran in asyncio.run(running):
        typer.echo(json.dumps(asdict(ran)))


@app.command("list")
def list_types() -> None:
    """Show every node type a worker here would know."""
    from tradingflow.py_worker.kit import catalog

    for entry in catalog():
        typer.echo(f"{entry['type']:<22} {entry['category']:<12} {entry['description']}")


@app.command()
def show(
    node: Annotated[str, typer.Argument(help="A type of `tradingflow node list`, or the node's .py file.")],
) -> None:
    """Print what GET /nodes/types says of one node, as JSON."""
    from tradingflow.py_worker.kit.registry import describe
    from tradingflow.py_worker.workbench.bench import find_node

    typer.echo(json.dumps(describe(find_node(node)), indent=2))


def _object(text: str, what: str) -> dict[str, Any]:
    read = Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text
    try:
        value = json.loads(read)
    except ValueError as error:
        raise InvalidInput("invalid_json", f"--{what} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidInput("invalid_json", f"--{what} is a JSON object, such as {{}}")
    return value


def _secret(text: str) -> tuple[str, str]:
    """Never on the command line, where every user of the machine can read it."""
    name, _, value = text.partition("=")
    if not value:
        return name, typer.prompt(f"value of {name}", hide_input=sys.stdin.isatty(), err=True)
    if not value.startswith("@"):
        raise InvalidInput("secret_on_command_line", "write a secret as NAME=@FILE, or NAME to be asked for it")
    return name, Path(value[1:]).read_text(encoding="utf-8").strip()
