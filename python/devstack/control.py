"""`make stop`, `make status`, `make logs`: everything `make run` recorded below `.local/`."""

import argparse
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.table import Table

from devstack.daemon import LOG_FILE, ProcessRecord, stop_process
from devstack.leftovers import recorded, stop_recorded
from devstack.run_lock import run_folder
from devstack.service import answers_ok

REPOSITORY = Path(__file__).resolve().parents[2]
RUN_STOP_TIMEOUT_S = 90


def stop(repository: Path) -> int:
    """Stop `make run` and whatever it left running. 0 when everything ended when asked to."""
    run = ProcessRecord.read(run_folder(repository))
    if run is not None and run.identity.alive and not stop_process(run, RUN_STOP_TIMEOUT_S):
        print(f"make run (pid {run.pid}) did not stop within {RUN_STOP_TIMEOUT_S} s and was killed")
    local = repository / ".local"
    left = recorded(local)
    killed = stop_recorded(local)
    for record in left:
        print(f"{record.name} (pid {record.pid}) {'was killed' if record in killed else 'stopped'}")
    print("everything is stopped" if not killed else "everything is stopped, some of it by force")
    return 1 if killed else 0


def status(repository: Path) -> int:
    """Print one line a process. 0 when all are well, 1 when one is not ready, 3 when nothing runs."""
    records = sorted(recorded(repository / ".local"), key=lambda record: record.started_at)
    if not records:
        print("nothing is running; `make run` starts it")
        return 3
    table = Table("service", "pid", "port", "state", "URL", box=None)
    states = {record: _state(record) for record in records}
    for record, state in states.items():
        table.add_row(record.name, str(record.pid), str(record.port or "-"), state, record.url or "-")
    Console(width=shutil.get_terminal_size((120, 24)).columns).print(table)
    return 1 if "not ready" in states.values() else 0


def logs(repository: Path, name: str | None, lines: int, *, follow: bool) -> int:
    """Show the end of the logs, of all or of one name, and follow them until Ctrl-C."""
    files = [file for file in log_files(repository) if name in {None, file.parent.name, file.stem}]
    if not files:
        known = ", ".join(sorted({_log_name(file) for file in log_files(repository)})) or "none yet"
        print(f"no log named {name!r}; there are: {known}" if name else "no logs yet; `make run` writes them")
        return 1
    command = ["tail", "-n", str(lines), *(["-F"] if follow else []), *map(str, files)]
    with suppress(KeyboardInterrupt):
        subprocess.run(command, check=False)
    return 0


def log_files(repository: Path) -> list[Path]:
    """The logs of `make run` and of the start scripts."""
    return sorted([*(repository / ".local").rglob(LOG_FILE), *(repository / "logs").glob("*.log")])


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="devstack.control", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("stop")
    commands.add_parser("status")
    log_options = commands.add_parser("logs")
    log_options.add_argument("--name", default=None)
    log_options.add_argument("--lines", type=int, default=20)
    log_options.add_argument("--follow", action="store_true")
    options = parser.parse_args(arguments)
    if options.command == "stop":
        return stop(REPOSITORY)
    if options.command == "status":
        return status(REPOSITORY)
    return logs(REPOSITORY, options.name or None, options.lines, follow=options.follow)


def _state(record: ProcessRecord) -> str:
    if record.ready_url is None:
        return "running"
    return "ready" if answers_ok(record.ready_url) else "not ready"


def _log_name(file: Path) -> str:
    return file.parent.name if file.name == LOG_FILE else file.stem


if __name__ == "__main__":
    raise SystemExit(main())
