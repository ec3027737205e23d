"""`python -m tradingflow.cli`: what an operator or a strategy author types. Each command imports what it needs."""

from __future__ import annotations

import asyncio
import logging
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from tradingflow.account_manager.trade.commands import app as trades
from tradingflow.core.errors import TradingFlowError
from tradingflow.monitor.commands import app as monitor

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(monitor, name="monitor")
app.add_typer(trades, name="trades")
# The image of the account services has this command line, but neither nodes nor flows.
if find_spec("tradingflow.py_worker") is not None:
    app.add_typer(import_module("tradingflow.py_worker.commands").app, name="node")
    app.add_typer(import_module("tradingflow.py_worker.backtest.commands").app, name="backtest")


@app.callback()
def tradingflow() -> None:
    """Operate TradingFlow. Settings come from the environment and from `.env`."""
    # What goes wrong is said by the command itself, once.
    logging.lastResort = None


@app.command()
def wait(timeout: Annotated[float, typer.Option(help="Seconds until giving up.")] = 60.0) -> None:
    """Wait until PostgreSQL, Redis and RabbitMQ answer; exit 1 naming those that do not."""
    from tradingflow.core.config import PlatformSettings
    from tradingflow.operation.data_services import wait_for_data_services

    asyncio.run(wait_for_data_services(PlatformSettings(), timeout_s=timeout, say=typer.echo))


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False) -> None:
    """Check everything an operator would, and say how to mend it; exit 1 when something failed."""
    from tradingflow.core.config import PlatformSettings
    from tradingflow.operation.doctor import examine
    from tradingflow.operation.finding import State
    from tradingflow.operation.report import show

    findings = asyncio.run(examine(PlatformSettings()))
    show(findings, as_json=as_json)
    raise typer.Exit(any(finding.state is State.FAIL for finding in findings))


@app.command()
def exporter(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 7003,
    disk: Annotated[Path, typer.Option(help="A folder on the disk to watch.", exists=True)] = Path(),
) -> None:
    """Publish for Prometheus at /metrics: trades, schedules, queues, outbox, dead letters, connections, disk."""
    from tradingflow.core.config import PlatformSettings
    from tradingflow.core.logging import configure_logging
    from tradingflow.operation.exporter import create_app
    from tradingflow.web.serve import serve

    settings = PlatformSettings()
    configure_logging("exporter", settings.log_level, json=settings.log_format == "json", directory=settings.log_dir)
    serve(create_app(settings, disk), host, port)


@app.command("alert-routes")
def alert_routes(
    file: Annotated[Path, typer.Argument(help="Where Alertmanager reads its configuration.", dir_okay=False)],
) -> None:
    """Write Alertmanager's configuration from the ALERT_* settings, and say whom alerts are told."""
    import json

    from tradingflow.core.config import AlertSettings
    from tradingflow.operation.alert_routes import alertmanager_config, ways

    settings = AlertSettings()
    file.write_text(json.dumps(alertmanager_config(settings)))
    told = " and ".join(ways(settings)) or "nothing: set ALERT_WEBHOOK_URL, ALERT_TELEGRAM_CHAT or ALERT_EMAIL_TO"
    typer.echo(f"alerts are told by {told}")


Management = Annotated[
    str, typer.Option("--rabbitmq-management", help="URL of RabbitMQ's management; empty leaves its definitions out.")
]


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(help="Where the back-up gets a folder of its own.")],
    management: Management = "",
) -> None:
    """Back up PostgreSQL, and RabbitMQ's definitions, while everything runs. CREDENTIALS_KEY is not part of it."""
    from tradingflow.core.config import PlatformSettings
    from tradingflow.operation.backup import take_backup
    from tradingflow.operation.broker_definitions import ManagementApi

    settings = PlatformSettings()
    api = ManagementApi(management, settings) if management else None
    typer.echo(asyncio.run(take_backup(settings, folder, api)))


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(help="The folder that `backup` printed.")],
    replace: Annotated[bool, typer.Option("--replace", help="Drop the tables that are there.")] = False,
    as_it_was: Annotated[
        bool, typer.Option("--as-it-was", help="Let live flows trade on, and sessions and API keys live.")
    ] = False,
    management: Management = "",
) -> None:
    """Put a back-up back; the services must be stopped. Ends on the newest schema.

    Live flows come back paused, and every session and API key ended: what its owner ended since the back-up was taken
    is not in it.
    """
    from tradingflow.core.config import PlatformSettings
    from tradingflow.operation import restore as steps
    from tradingflow.operation.archive import Manifest
    from tradingflow.operation.broker_definitions import ManagementApi

    settings = PlatformSettings()
    manifest = Manifest.read(folder)
    steps.refuse_unknown(manifest)
    asyncio.run(steps.clear_the_way(settings, replace=replace))
    with steps.or_as_it_was(settings):
        steps.migrate(manifest.revision)
        held_back = asyncio.run(steps.load(settings, folder, manifest, as_it_was=as_it_was))
        steps.migrate("head")
    typer.echo(f"{sum(file.rows for file in manifest.tables)} rows of {manifest.created_at} are back")
    if held_back is not None:
        typer.echo(held_back)
    if management:
        api = ManagementApi(management, settings)
        asyncio.run(steps.load_definitions(folder, settings.rabbitmq_vhost, api, typer.echo))


def main() -> None:
    """Run a command; what we raise ourselves is printed as a sentence."""
    try:
        app()
    except TradingFlowError as error:
        sys.exit(f"{error.code}: {error.detail}")


if __name__ == "__main__":
    main()
