"""`python -m tradingflow.cli`: what an operator or a strategy author types. Each command imports what it needs."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from tradingflow.core.errors import TradingFlowError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def tradingflow() -> None:
    """Operate TradingFlow. Settings come from the environment and from `.env`."""


@app.command()
def wait(timeout: Annotated[float, typer.Option(help="Seconds until giving up.")] = 60.0) -> None:
    """Wait until PostgreSQL, Redis and RabbitMQ answer; exit 1 naming those that do not."""
    from tradingflow.core.config import PlatformSettings
    from tradingflow.operation.data_services import wait_for_data_services

    asyncio.run(wait_for_data_services(PlatformSettings(), timeout_s=timeout, say=typer.echo))


def main() -> None:
    """Run a command; what we raise ourselves is printed as a sentence."""
    try:
        app()
    except TradingFlowError as error:
        sys.exit(f"{error.code}: {error.detail}")


if __name__ == "__main__":
    main()
