"""A compose deployment as on a server, with a trader whose flows trade through a vault, and how its end is judged."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from bench.compose_project import DATA_FILE, REPOSITORY, SERVICES_FILE, Project
from bench.compose_world import World, job_of, parts_for, scratch, settings_for
from bench.deployment_flows import completed_trades, open_cycles, open_trades
from bench.deployment_traffic import Traffic
from bench.figure import Figures, progress

# Flows that could not trade for five minutes have thirty cycles before them, each as long as a trade takes.
SETTLE_TIMEOUT_S = 600
TOKEN_LIFE_S = 3600


class LoadedDeployment:
    """One compose project in a folder of its own, as on a server, with a job that has opened a vault."""

    def __init__(
        self, opened: ExitStack, *, prepare: Callable[[Path], None] | None = None, more_files: Sequence[str] = ()
    ) -> None:
        """`prepare` is given the folder before anything starts; `more_files` are compose files it leaves there."""
        folder = opened.enter_context(scratch())
        self.world = World(folder, opened)
        self.settings = settings_for(self.world.deployment, self.world.relay_port, folder)
        self.settings |= {"ACCESS_TOKEN_TTL_S": str(TOKEN_LIFE_S)}
        self.home = self._home(folder)
        files = (DATA_FILE, *more_files, SERVICES_FILE)
        self.project = Project("tradingflow-load", files, self.settings, folder, self.home)
        if prepare is not None:
            prepare(self.home)
        opened.callback(self.project.run, "down", "--remove-orphans", "--volumes")
        self.project.up()
        self.parts = parts_for(self.world, self.settings)
        self.vault = job_of(self.parts)[0].open_vault()

    @staticmethod
    def _home(folder: Path) -> Path:
        """What lies on a server: the compose files and deploy.sh, no source."""
        home = folder / "home"
        (home / "python").mkdir(parents=True)  # as deploy.sh makes it, which only comes later here
        for name in (DATA_FILE, SERVICES_FILE, "python/scripts/deploy.sh"):
            shutil.copy2(REPOSITORY / name, home)
        (home / ".env").touch()  # deploy.sh asks for it; compose is given its settings with --env-file
        return home

    def traffic(self, rate: float) -> Traffic:
        """Requests of the trader's front end to both services."""
        accounts, worker = self.parts.accounts.base_url, self.parts.worker.base_url
        pool = self.world.deployment.market.pool
        urls = [
            f"{accounts}/users/me",
            f"{accounts}/trades?limit=50",
            f"{accounts}/portfolio",
            f"{worker}/flows?limit=50",
            f"{worker}/flows/load_0/status",
            f"{accounts}/events?chain_id=31337&contract={pool}&limit=20",
            f"{worker}/flows/load_1/cycles?limit=20",
        ]
        return Traffic(urls, self.parts.accounts.token, rate)

    def deploy(self, group: str, tag: str) -> None:
        """Replace one group by the same image under another tag; raises RuntimeError when deploy.sh refuses."""
        image = f"tradingflow/{group}"
        subprocess.run(["docker", "tag", f"{image}:local", f"{image}:{tag}"], check=True)
        compose = self.project.command[:-2]  # deploy.sh names the services' file itself
        environment = os.environ | {"COMPOSE": " ".join(compose), "SKIP_PULL": "1"}
        command = [str(self.home / "deploy.sh"), group, tag]
        done = subprocess.run(command, cwd=self.home, env=environment, capture_output=True, text=True, check=False)
        progress(done.stdout.rstrip())
        if done.returncode != 0:
            raise RuntimeError(f"deploy.sh {group} {tag}\n{done.stderr[-4000:]}")


def logged_errors(home: Path) -> list[str]:
    """The lines of level error or worse in the services' log files."""
    lines = [line for file in sorted((home / "logs").glob("*.log")) for line in file.read_text().splitlines()]
    return [line for line in lines if '"level": "error"' in line or '"level": "critical"' in line]


def tell_errors(home: Path) -> None:
    """The first of them, each by its beginning and its end, where an exception is named."""
    for line in logged_errors(home)[:10]:
        progress(f"{line[:200]} … {line[-600:]}")


def settle(deployed: LoadedDeployment, flows: int, until: datetime) -> None:
    """Let the cycles due until then end, stop every flow, and let its trades settle."""
    _wait(lambda: open_cycles(deployed.project, until), "cycles")
    for number in range(flows):
        deployed.parts.worker.post(f"/flows/load_{number}/stop")
    _wait(lambda: open_trades(deployed.project), "trades")


def _wait(open_: Callable[[], int], what: str) -> None:
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while count := open_():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{count} {what} are still open")
        time.sleep(1)


def show_trades(figures: Figures, deployed: LoadedDeployment) -> None:
    """The chain is the judge: every completed trade mined once, and nothing mined that no row knows."""
    trades = deployed.parts.truth.executed_trades(deployed.vault, deployed.world.deployment.start_block)
    mined = [trade.trade_id for trade in trades]
    doubled = len(mined) - len(set(mined))
    figures.show("load_doubled_trades", doubled, "trades", target="== 0", ok=doubled == 0, mined=len(mined))
    differ = set(mined) ^ set(completed_trades(deployed.project))
    figures.show("load_trades_unlike_the_chain", len(differ), "trades", target="== 0", ok=not differ)
