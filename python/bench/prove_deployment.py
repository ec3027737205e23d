"""`make prove-deployment`: the compose files for real, on one machine and split over two networks.

Builds the images, brings everything up, plays the main job against the containers and checks it against the chain,
brings everything down and up again, and finds the data still there. Needs a Docker engine and the base images.
MODE=single|split (default: both), BUILD=0 takes the images that are there, WORKERS=n Python Workers (default 2).
"""

import os
import subprocess
import sys
from contextlib import ExitStack

from bench.compose_project import DATA_FILE, SERVICES_FILE, Project
from bench.compose_world import World, job_of, parts_for, scratch, settings_for
from bench.figure import Figures, progress
from devstack.main_job.summary import Summary

UP_TARGET_S = 60.0
DOWN_TARGET_S = 30.0
IMAGE_TARGET_MB = 500.0
COUNTED = ("users", "vaults", "flows", "cycles", "node_tasks", "trades", "contract_events")
IMAGES = ("account-services", "worker", "gateway")


def play_main_job(world: World, settings: dict[str, str]) -> Summary:
    """The main job of `make run`, against the published ports; raises what it raises."""
    job, summary = job_of(parts_for(world, settings))
    job.play()
    return summary


def counts(data: Project) -> dict[str, int]:
    """How many rows each of the tables holds."""
    query = " UNION ALL ".join(f"SELECT '{table}', count(*) FROM {table}" for table in COUNTED)  # noqa: S608
    return {str(name): int(count) for name, count in data.rows(query)}


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
