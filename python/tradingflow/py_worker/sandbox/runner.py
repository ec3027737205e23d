"""The sandbox as the worker holds it: a pool of walled-in interpreters, shared fairly between owners."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID
from weakref import WeakValueDictionary

from pydantic_monty import CollectStreams, Monty, MontyError, MontySession, ResourceLimits
from pydantic_monty._binary import find_monty_binary

from tradingflow.core.errors import DependencyUnavailable, InvalidInput, Refused
from tradingflow.core.logging import get_logger
from tradingflow.py_worker.kit import CodeResult, Json
from tradingflow.py_worker.sandbox.host_modules import HostModules
from tradingflow.py_worker.sandbox.jail import make_jail, make_launcher
from tradingflow.py_worker.sandbox.lanes import NICENESS, CpuAccounts, LaneName, cpu_seconds
from tradingflow.py_worker.sandbox.results import Budget, NotJson, as_json, explain
from tradingflow.py_worker.sandbox.wall import Findings

LOOK_TIMEOUT_S = 20
MAX_CODE_CHARS = 100_000
MAX_PRINTED_BYTES = 64_000
CHECKOUT_TIMEOUT_S = 30.0
MAX_HOST_CALLS = 100
SESSIONS_PER_INTERPRETER = 500
# Stands for a name the code never set.
UNSET = "\x00unset\x00"

logger = get_logger(__name__)


@dataclass(frozen=True)
class SandboxPlan:
    """`accept_missing` names the parts of the wall an operator agrees to live without; empty: all are needed."""

    user_id: int = 64_998
    processes: int = 4
    processes_per_owner: int = 2
    memory_bytes: int = 64 * 1024 * 1024
    accept_missing: frozenset[str] = frozenset()


class Sandbox:
    """Start it once a process and close it at the end. Where the wall cannot be built it says so and refuses code."""

    def __init__(self, plan: SandboxPlan) -> None:
        self._plan = plan
        self._directory: Path | None = None
        self._lanes: dict[LaneName, Lane] = {}
        self._accounts = CpuAccounts()
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self.refusal: str | None = "the sandbox has not been started"

    async def start(self) -> None:
        """Build the wall, look at it from inside, and warm the interpreters up."""
        self.refusal = await asyncio.to_thread(self._open)
        if self.refusal is not None:
            logger.error("code nodes are refused: the sandbox wall cannot be built", reason=self.refusal)

    def _open(self) -> str | None:
        self._directory = Path(tempfile.mkdtemp(prefix="tradingflow-sandbox-"))
        try:
            jail = make_jail(self._directory, Path(find_monty_binary()))
            launchers = {
                name: make_launcher(jail, name, self._plan.user_id, niceness) for name, niceness in NICENESS.items()
            }
            missing = set(look_at_wall(launchers["quick"], self._directory).missing())
        except (OSError, DependencyUnavailable, subprocess.SubprocessError, ValueError) as error:
            return f"the wall could not be built ({type(error).__name__}: {error})"
        if refused := missing - self._plan.accept_missing:
            return f"the wall lacks: {', '.join(sorted(refused))}"
        if missing:
            logger.warning("the sandbox wall is incomplete, as the operator accepted", missing=sorted(missing))
        processes: dict[LaneName, int] = {"quick": self._plan.processes, "slow": max(1, self._plan.processes // 2)}
        self._lanes = {name: open_lane(name, launchers[name], processes[name]) for name in launchers}
        return None

    async def close(self) -> None:
        """End the interpreters and remove the jail. Runs still under way are waited for."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self.refusal = "the sandbox is closed"
        for lane in self._lanes.values():
            lane.threads.shutdown(wait=True)
            lane.pool.__exit__(None, None, None)
        self._lanes = {}
        if self._directory is not None:
            _remove(self._directory)

    def for_owner(self, owner: UUID | str) -> OwnedRunner:
        """A `CodeRunner` whose runs take turns with the owner's others, so that nobody can fill the pool."""
        return OwnedRunner(self, str(owner))

    def lane_of(self, owner: str, now_s: float) -> LaneName:
        """Where an owner's next run would be, at a time of the event loop's clock."""
        return self._accounts.lane(owner, now_s)

    async def run(self, owner: str, job: Job) -> CodeResult:
        if self.refusal is not None or not self._lanes:
            raise Refused("sandbox_unavailable", f"code cannot run on this worker: {self.refusal}")
        turn = self._turns.setdefault(owner, asyncio.Semaphore(self._plan.processes_per_owner))
        await turn.acquire()
        try:
            running = self._submit(owner, job, turn)
        except BaseException:
            turn.release()
            raise
        return await asyncio.wrap_future(running)

    def _submit(self, owner: str, job: Job, turn: asyncio.Semaphore) -> Future[CodeResult]:
        """Takes over the turn. Who waits may be cancelled, the interpreter computes on: the owner's turn and account
        follow the run, not who waits for it."""
        loop = asyncio.get_running_loop()
        lane = self._lanes[self.lane_of(owner, loop.time())]
        meter = Meter()

        def ended() -> None:
            self._accounts.charge(owner, meter.cpu_s, loop.time())
            turn.release()

        running = lane.threads.submit(run_job, lane.pool, self._plan, job, meter)
        running.add_done_callback(lambda _: loop.call_soon_threadsafe(ended))
        return running


@dataclass(frozen=True)
class Lane:
    """Interpreters of one priority, and the threads that wait for them."""

    pool: Monty
    threads: ThreadPoolExecutor


def open_lane(name: LaneName, launcher: Path, processes: int) -> Lane:
    pool = Monty(
        binary_path=launcher,
        min_processes=processes,
        max_processes=processes,
        checkout_timeout=CHECKOUT_TIMEOUT_S,
        max_checkouts_per_worker=SESSIONS_PER_INTERPRETER,
    )
    pool.__enter__()
    return Lane(pool, ThreadPoolExecutor(processes, f"sandbox-{name}"))


@dataclass
class Meter:
    """Processor seconds of one run. One whose interpreter had to be killed counts what it was allowed."""

    cpu_s: float = 0.0
    _pid: int | None = None
    _began_s: float | None = None

    def begin(self, pid: int | None) -> None:
        self._pid, self._began_s = pid, None if pid is None else cpu_seconds(pid)

    def end(self, allowed_s: float) -> None:
        now_s = None if self._pid is None else cpu_seconds(self._pid)
        self.cpu_s = allowed_s if now_s is None or self._began_s is None else now_s - self._began_s


@dataclass(frozen=True)
class OwnedRunner:
    """`CodeRunner` of one owner."""

    sandbox: Sandbox
    owner: str

    async def run(
        self,
        code: str,
        inputs: Mapping[str, Json],
        outputs: Sequence[str],
        *,
        timeout_s: float,
        now: datetime,
        seed: str,
        strict: bool = True,
    ) -> CodeResult:
        if len(code) > MAX_CODE_CHARS:
            raise InvalidInput("code_too_long", f"code has at most {MAX_CODE_CHARS} characters")
        return await self.sandbox.run(self.owner, Job(code, inputs, outputs, timeout_s, now, seed, strict))


@dataclass(frozen=True)
class Job:
    """`strict`: a value that cannot travel is an error; else it is left out."""

    code: str
    inputs: Mapping[str, Json]
    outputs: Sequence[str]
    timeout_s: float
    now: datetime
    seed: str
    strict: bool


def run_job(pool: Monty, plan: SandboxPlan, job: Job, meter: Meter) -> CodeResult:
    """One run in one fresh session. Blocks its thread, not the worker: the interpreter runs in its own process."""
    limits = ResourceLimits(
        max_feed_duration_secs=job.timeout_s,
        max_memory=plan.memory_bytes,
        max_recursion_depth=300,
        max_suspensions=MAX_HOST_CALLS,
    )
    printed = CollectStreams(MAX_PRINTED_BYTES)
    try:
        with pool.checkout(
            script_name="code",
            limits=limits,
            os_policy={"datetime": job.now, "sleep": "zero", "random_start": {"seed": job.seed}},
            external_modules=HostModules().factories(),
        ) as session:
            meter.begin(session.worker_pid)
            try:
                session.feed_run(job.code, inputs=dict(job.inputs), print_callback=printed)
                outputs = _collect(session, job)
            finally:
                meter.end(job.timeout_s)
    except MontyError as error:
        return CodeResult({}, *_streams(printed), error=explain(error))
    except NotJson as error:
        return CodeResult({}, *_streams(printed), error=str(error))
    except TimeoutError as error:
        raise DependencyUnavailable("sandbox_busy", "no interpreter became free in time") from error
    return CodeResult(outputs, *_streams(printed))


def _collect(session: MontySession, job: Job) -> dict[str, Json]:
    names = [name for name in job.outputs if name.isidentifier()]
    pairs = ", ".join(f"{name!r}: {name}" for name in names)
    found = session.feed_run(
        f"{{{pairs}}}", external_lookup=dict.fromkeys(names, UNSET), print_callback=CollectStreams(0)
    )
    budget, outputs = Budget(), dict[str, Json]()
    for name, value in found.items():
        if value == UNSET:
            continue
        try:
            outputs[name] = as_json(value, budget)
        except NotJson as error:
            if job.strict:
                raise NotJson(f"TypeError: {name} {error}") from None
    return outputs


def _streams(printed: CollectStreams) -> tuple[str, str]:
    """What went to stdout and to stderr."""
    lines = printed.output
    stdout = "".join(text for stream, text in lines if stream == "stdout")
    stderr = "".join(text for stream, text in lines if stream == "stderr")
    return stdout, stderr


def look_at_wall(launcher: Path, directory: Path) -> Findings:
    """Send a process through the wall to try the doors: a canary file, a listener, this process."""
    canary = directory / "canary"
    canary.write_text("untouched", encoding="utf-8")
    canary.chmod(0o644)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        command = [str(launcher), "--look", str(os.getuid()), str(os.getpid()), str(canary), str(port)]
        looked = subprocess.run(command, capture_output=True, text=True, timeout=LOOK_TIMEOUT_S, check=False)
    if looked.returncode != 0:
        raise ValueError(looked.stderr.strip().rsplit("\n", 1)[-1] or f"exit code {looked.returncode}")
    return Findings(**json.loads(looked.stdout))


def _remove(directory: Path) -> None:
    for folder, _, _ in os.walk(directory):
        Path(folder).chmod(0o700)
    shutil.rmtree(directory, ignore_errors=True)
