"""`make run`: everything up, the main job played and checked, a summary, and up it stays until Ctrl-C."""

import contextlib
import os
import signal
import sys
import threading
from pathlib import Path

from rich.console import Console
from web3 import Web3

from devstack.errors import DevstackError
from devstack.main_job.accounts import TRADER, account
from devstack.main_job.api import Api, ApiRefused
from devstack.main_job.chain_truth import ChainTruth, connect
from devstack.main_job.deployment import Deployment, deploy
from devstack.main_job.job import MainJob, Parts
from devstack.main_job.local_data import LocalData
from devstack.main_job.platform import Platform
from devstack.main_job.steps import CheckFailed, Steps
from devstack.main_job.summary import Summary
from devstack.main_job.wallet import Wallet
from devstack.market_maker import read_closes
from devstack.run_lock import end_on_sigterm, only_run
from devstack.stack import Stack
from devstack.supervisor import Supervisor
from devstack.uniswap import Artifacts

REPOSITORY = Path(__file__).resolve().parents[3]
BLOCK_TIME_S = 1.0
MIN_CYCLES = 5
# A transaction hash and what stands beside it must fit on one line.
SUMMARY_WIDTH = 140
SUMMARY_FILE = "summary.json"
SERVICE_PORTS = ("account_manager", "py_worker", "monitor", "celery_worker", "celery_beat")


class Run:
    """One `make run`, from nothing to the summary."""

    def __init__(self, console: Console, *, once: bool, candles: Path | None, min_cycles: int) -> None:
        self._console = console
        self._once = once
        self._candles = candles
        self._min_cycles = min_cycles
        self._local = REPOSITORY / ".local"
        self._steps = Steps(console)
        self._summary = Summary()
        self._supervisor = Supervisor(self._steps.say)

    def play(self) -> int:
        """The exit code: 0 when every step was checked true."""
        with Stack(REPOSITORY, self._steps.say, block_time_s=BLOCK_TIME_S) as stack:
            try:
                job = self._bring_up_and_play(stack)
                self._finish()
                if job is not None and not self._once:
                    self._stay_up(job)
            finally:
                for name in self._supervisor.stop():
                    self._steps.say(f"{name} did not stop in time and was killed")
        return 0 if self._summary.ok else 1

    def _bring_up_and_play(self, stack: Stack) -> MainJob | None:
        try:
            parts = self._bring_up(stack)
            job = MainJob(parts, self._steps, self._summary)
            job.play()
        except (CheckFailed, ApiRefused, DevstackError) as problem:
            self._summary.problem = str(problem)
            return None
        except Exception as problem:  # noqa: BLE001 (whatever it is, a summary is owed)
            self._console.print_exception()
            self._summary.problem = f"{type(problem).__name__}: {problem}"
            return None
        return job

    def _bring_up(self, stack: Stack) -> Parts:
        stack.ports.require_free(*SERVICE_PORTS)
        with self._steps.step(f"data services ({stack.kind}) and local chain"):
            endpoints = stack.start()
        web3 = connect(endpoints.rpc_url)
        with self._steps.step("contracts: Uniswap V3 with a pool, VaultFactory") as say:
            deployment, fresh = self._deployment(web3, endpoints.rpc_url)
            say(f"{'deployed' if fresh else 'still standing from an earlier run'}: factory {deployment.vault_factory}")
        platform = Platform(REPOSITORY, endpoints, deployment, stack.ports)
        with self._steps.step("database schema"):
            LocalData(endpoints, disposable=stack.kind != "env").forget_other_chains(fresh=fresh, say=self._steps.say)
            platform.migrate()
        with self._steps.step("services") as say:
            if self._candles is not None:
                closes = len(read_closes(self._candles))
                say(f"the pool follows {closes} closes of {self._candles.name}, scaled to its own price")
            self._supervisor.start(
                *platform.processes(), platform.market_maker(self._market_file(deployment), self._candles)
            )
        self._summary.urls = {
            **{f"{name} docs": f"{url}/docs" for name, url in platform.urls.items()},
            "Chain (JSON-RPC)": endpoints.rpc_url,
        }
        artifacts = Artifacts(REPOSITORY)
        return Parts(
            accounts=Api(platform.urls["Account Manager"]),
            worker=Api(platform.urls["Python Worker"]),
            wallet=Wallet(account(TRADER), web3),
            truth=ChainTruth(web3, artifacts, deployment.market, deployment.vault_factory),
            deployment=deployment,
            artifacts=artifacts,
            min_cycles=self._min_cycles,
        )

    def _deployment(self, web3: Web3, rpc_url: str) -> tuple[Deployment, bool]:
        """The deployment, and whether it was made just now."""
        file = self._local / "deployment.json"
        kept = Deployment.load(file)
        if kept is not None and kept.stands_on(web3):
            return kept, False
        deployment = deploy(rpc_url, REPOSITORY)
        deployment.save(file)
        return deployment, True

    def _market_file(self, deployment: Deployment) -> Path:
        file = self._local / "market.json"
        file.write_text(deployment.market.as_json(), encoding="utf-8")
        return file

    def _finish(self) -> None:
        self._summary.steps = self._steps.done
        self._summary.seconds = round(self._steps.elapsed_s, 1)
        self._summary.ok = self._summary.problem is None and self._steps.all_ok
        self._summary.write(self._local / SUMMARY_FILE)
        self._summary.show(self._console)

    def _stay_up(self, job: MainJob) -> None:
        job.resume_flow()
        self._console.print(
            "The flow trades on. `make status`, `make logs` in another terminal; Ctrl-C stops everything."
        )
        with contextlib.suppress(KeyboardInterrupt):  # the way it is meant to end
            threading.Event().wait()


def _unreadable(candles: Path) -> str | None:
    """What is wrong with a candles file; None when nothing is."""
    try:
        read_closes(candles)
    except UnicodeDecodeError:
        return f"{candles} is not a text file; give a CSV with the columns date,open,high,low,close,volume"
    except OSError as problem:
        return f"{candles}: {problem.strerror}"
    except (ValueError, ArithmeticError) as problem:
        return str(problem)
    return None


def _min_cycles() -> int:
    """CYCLES, a whole number from 1; raises DevstackError for anything else."""
    text = os.environ.get("CYCLES") or str(MIN_CYCLES)
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise DevstackError(f"CYCLES={text!r}: give a whole number of cycles from 1")
    return int(text)


def main() -> int:
    """The command line of `make run`: ONCE, CANDLES and CYCLES come from the environment."""
    end_on_sigterm()
    console = Console(highlight=False, width=max(Console().width, SUMMARY_WIDTH))
    candles = Path(os.environ["CANDLES"]) if os.environ.get("CANDLES") else None
    if candles is not None and (problem := _unreadable(candles)):
        console.print(f"CANDLES: {problem}", soft_wrap=True)
        return 2
    try:
        with only_run(REPOSITORY):
            once = os.environ.get("ONCE", "") not in {"", "0"}
            return Run(console, once=once, candles=candles, min_cycles=_min_cycles()).play()
    except DevstackError as problem:
        console.print(f"[red]{problem}[/red]")
        return 1
    except KeyboardInterrupt:
        console.print("stopped")
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
