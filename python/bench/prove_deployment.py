"""`make prove-deployment`: the compose files for real, on one machine and split over two networks.

Builds the images, brings everything up, plays the main job against the containers and checks it against the chain,
brings everything down and up again, and finds the data still there. Needs a Docker engine and the base images.
MODE=single|split (default: both), BUILD=0 takes the images that are there, WORKERS=n Python Workers (default 2).
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from web3 import Web3

from bench.compose_world import (
    DATA_FILE,
    REPOSITORY,
    SERVICES_FILE,
    Project,
    Relay,
    engine_address,
    settings_for,
)
from bench.figure import Figures, progress
from devstack.anvil import Anvil
from devstack.main_job.accounts import TRADER, account
from devstack.main_job.api import Api
from devstack.main_job.chain_truth import ChainTruth
from devstack.main_job.deployment import deploy
from devstack.main_job.job import MainJob, Parts
from devstack.main_job.steps import Steps
from devstack.main_job.summary import Summary
from devstack.main_job.wallet import Wallet
from devstack.ports import free_port
from devstack.service import ServiceProcess
from devstack.uniswap import Artifacts

UP_TARGET_S = 60.0
DOWN_TARGET_S = 30.0
IMAGE_TARGET_MB = 500.0
MIN_CYCLES = 5
COUNTED = ("users", "vaults", "flows", "cycles", "node_tasks", "trades", "contract_events")
IMAGES = ("account-services", "worker", "gateway")


class World:
    """A chain with our contracts and a market that moves, reachable from containers."""

    def __init__(self, folder: Path, opened: ExitStack) -> None:
        self.folder = folder
        chain = Anvil(folder / "chain", free_port(), repository=REPOSITORY, block_time_s=1.0, persistent=False)
        opened.callback(chain.stop)
        chain.start()
        self.rpc_url = chain.url
        self.deployment = deploy(chain.url, REPOSITORY)
        self.address = engine_address()
        relay = Relay(self.address, chain.port)
        opened.callback(relay.close)
        self.relay_port = relay.port
        self._start_market(opened)

    def _start_market(self, opened: ExitStack) -> None:
        market_file = self.folder / "market.json"
        market_file.write_text(self.deployment.market.as_json())
        command = [sys.executable, "-m", "devstack.main_job.market_maker", str(market_file), "--rpc-url", self.rpc_url]
        maker = ServiceProcess("market", command, directory=self.folder / "market", cwd=REPOSITORY / "python", env={})
        opened.callback(maker.stop)
        maker.start()


def play_main_job(world: World, settings: dict[str, str]) -> Summary:
    """The main job of `make run`, against the published ports; raises what it raises."""
    web3 = Web3(Web3.HTTPProvider(world.rpc_url))
    artifacts, deployment = Artifacts(REPOSITORY), world.deployment
    summary = Summary()
    parts = Parts(
        accounts=Api(f"http://127.0.0.1:{settings['ACCOUNT_MANAGER_PORT']}"),
        worker=Api(f"http://127.0.0.1:{settings['PY_WORKER_PORT']}"),
        wallet=Wallet(account(TRADER), web3),
        truth=ChainTruth(web3, artifacts, deployment.market, deployment.vault_factory),
        deployment=deployment,
        artifacts=artifacts,
        min_cycles=MIN_CYCLES,
    )
    MainJob(parts, Steps(Console(stderr=True)), summary).play()
    return summary


def counts(data: Project) -> dict[str, int]:
    """How many rows each of the tables holds."""
    query = " UNION ALL ".join(f"SELECT '{table}', count(*) FROM {table}" for table in COUNTED)  # noqa: S608
    said = data.run("exec", "-T", "postgres", "psql", "-U", "tradingflow", "-d", "tradingflow", "-Atc", query)
    return {name: int(count) for name, count in (line.split("|") for line in said.split())}


def projects(mode: str, world: World, settings: dict[str, str]) -> list[Project]:
    """In the order they are started: one project with both files, or two that share no network."""
    name = f"tradingflow-prove-{mode}"
    if mode == "single":
        return [Project(name, (DATA_FILE, SERVICES_FILE), settings, world.folder)]
    data = settings | {"DATA_BIND_ADDRESS": world.address}
    services = settings | {"DATA_SERVER_HOST": world.address}
    return [
        Project(f"{name}-data", (DATA_FILE,), data, world.folder),
        Project(f"{name}-services", (SERVICES_FILE,), services, world.folder),
    ]


def prove(mode: str, figures: Figures, workers: int) -> None:
    """One mode, from nothing to nothing."""
    with scratch() as folder, ExitStack() as opened:
        world = World(folder, opened)
        settings = settings_for(world.deployment, world.relay_port, folder)
        parts = projects(mode, world, settings)
        for project in parts:
            opened.callback(project.run, "down", "--remove-orphans", "--volumes")
        up_s = sum(project.up(*scale(project, parts, workers)) for project in parts)
        figures.show(f"{mode}_up", up_s, "s", target=f"<= {UP_TARGET_S:g}", ok=up_s <= UP_TARGET_S, workers=workers)
        summary = play_main_job(world, settings)
        trades = len(summary.trades)
        figures.show(
            f"{mode}_main_job_trades", trades, "trades", target=">= 2", ok=trades >= 2, vault=summary.vault_address
        )
        prove_data_survives(mode, figures, parts)


def scale(project: Project, parts: list[Project], workers: int) -> list[str]:
    return ["--scale", f"py-worker={workers}"] if project is parts[-1] else []


def prove_data_survives(mode: str, figures: Figures, parts: list[Project]) -> None:
    """Down in time, up again, and at least what was there before is there again."""
    before = counts(parts[0])
    down_s = sum(project.down() for project in reversed(parts))
    figures.show(f"{mode}_down", down_s, "s", target=f"<= {DOWN_TARGET_S:g}", ok=down_s <= DOWN_TARGET_S)
    again_s = sum(project.up() for project in parts)
    figures.show(f"{mode}_up_again", again_s, "s", target=f"<= {UP_TARGET_S:g}", ok=again_s <= UP_TARGET_S)
    after = counts(parts[0])
    lost = sum(max(0, rows - after[table]) for table, rows in before.items())
    figures.show(f"{mode}_rows_lost", lost, "rows", target="== 0", ok=lost == 0, rows=sum(before.values()))


def build(figures: Figures) -> None:
    """Build what the compose file builds, and show how large it is."""
    with scratch() as folder:
        project = Project("tradingflow-prove-build", (SERVICES_FILE,), {}, folder)
        progress(f"building {', '.join(IMAGES)}")
        project.run("build")
    for image in IMAGES:
        command = ["docker", "image", "inspect", f"tradingflow/{image}:local", "--format", "{{.Size}}"]
        size = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) / 1e6
        figures.show(f"image_{image}", size, "MB", target=f"<= {IMAGE_TARGET_MB:g}", ok=size <= IMAGE_TARGET_MB)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder on disk (not in memory) for data and settings, removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="tradingflow-prove-", dir="/var/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Both modes unless MODE names one."""
    figures = Figures()
    if os.environ.get("BUILD", "1") != "0":
        build(figures)
    mode = os.environ.get("MODE", "")
    for each in [mode] if mode else ["single", "split"]:
        progress(f"== {each}")
        prove(each, figures, int(os.environ.get("WORKERS", "2")))
    return figures.exit_code


if __name__ == "__main__":
    sys.exit(main())
