"""`make hostile`: does the sandbox hold, do the innocent notice, and does any node call an address inside?

Set by the environment: SEED, RUNS (fuzzed programs), OWNERS (attackers).
"""

import asyncio
import os
import random
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bench.figure import Figures, progress
from bench.hostile_outbound import show_outbound
from bench.hostile_snippets import ESCAPES, FRAGMENTS, HARM
from tradingflow.core.errors import TradingFlowError
from tradingflow.py_worker.kit import CodeResult
from tradingflow.py_worker.sandbox.runner import OwnedRunner, Sandbox, SandboxPlan

SEED = int(os.environ.get("SEED", "1"))
RUNS = int(os.environ.get("RUNS", "10000"))
OWNERS = int(os.environ.get("OWNERS", "2"))
NOW = datetime(2026, 1, 1, tzinfo=UTC)
HARM_TIMEOUT_S, FUZZ_TIMEOUT_S = 1.0, 0.2
# The interpreter stops itself at the time-out; one second later the pool kills it.
GRACE_S = 3.0
DAMAGE = [0, 9, 10, 39, 40, 92, 123, 0x7F, 0x202E, 0xFFFD, 0x1F600]
INNOCENT = "total = 0\nfor price in prices:\n    total += price\noutput_data = total / len(prices)"
# What a control run in plain Python must not do to the machine it runs on.
UNSAFE_IN_PLAIN_PYTHON = ("kill", "fork", "exec", "remove")
PLAIN_TIMEOUT_S = 2
INNOCENT_P99_MS = 50.0
INNOCENT_PAUSE_S = 0.005
QUIET_S = 5


@dataclass
class Bait:
    """What nobody inside may reach: a secret in a file and in the environment, a file, a listener."""

    directory: Path
    secret: str = field(default_factory=lambda: secrets.token_hex(16))

    def __post_init__(self) -> None:
        self.canary = self.directory / "canary"
        self.canary.write_text(self.secret)
        self.canary.chmod(0o666)
        self.directory.chmod(0o777)
        self.target = self.directory / "target"
        os.environ["SANDBOX_SECRET"] = self.secret
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)

    def names(self) -> dict[str, object]:
        port = self.listener.getsockname()[1]
        return {"CANARY": str(self.canary), "TARGET": str(self.target), "PORT": port, "PID": os.getpid()}

    def taken(self) -> list[str]:
        """Which of it was reached, whatever the program printed."""
        found = []
        if self.target.exists() or self.target.is_symlink():
            self.target.unlink()
            found.append("wrote a file")
        if not self.canary.exists() or self.canary.read_text() != self.secret:
            self.canary.write_text(self.secret)
            found.append("changed the canary")
        if self._was_called():
            found.append("called the listener")
        return found

    def _was_called(self) -> bool:
        try:
            self.listener.accept()[0].close()
        except BlockingIOError:
            return False
        return True


@dataclass
class Attack:
    """Outcomes of all hostile programs."""

    bait: Bait
    runs: int = 0
    escapes: list[str] = field(default_factory=list)
    overdue: list[str] = field(default_factory=list)

    async def run(self, runner: OwnedRunner, code: str, timeout_s: float) -> None:
        started = time.monotonic()
        told = await self._told(runner, code, timeout_s)
        self.runs += 1
        if time.monotonic() - started > timeout_s + GRACE_S:
            self.overdue.append(code[:80])
        if await asyncio.to_thread(mentions, told, self.bait.secret) or self.bait.taken():
            self.escapes.append(code[:80])

    async def _told(self, runner: OwnedRunner, code: str, timeout_s: float) -> object:
        try:
            result: CodeResult = await runner.run(
                code, self.bait.names(), ["output_data"], timeout_s=timeout_s, now=NOW, seed="hostile", strict=False
            )
        except TradingFlowError as error:
            return str(error)
        return [result.outputs, result.stdout, result.stderr, result.error]


def mentions(value: object, secret: str) -> bool:
    """Whether the secret is anywhere in what a program gave back."""
    if isinstance(value, dict):
        return any(mentions(item, secret) for pair in value.items() for item in pair)
    if isinstance(value, list):
        return any(mentions(item, secret) for item in value)
    return isinstance(value, str) and secret in value


def fuzzed(chance: random.Random) -> str:
    """A program of random fragments, some with random damage."""
    numbers = [0, 1, -1, 7, 255, 10**6, 2**63]
    lines = [chance.choice(FRAGMENTS).format(n=chance.choice(numbers)) for _ in range(chance.randint(1, 12))]
    if chance.random() < 0.3:
        lines = ["    " * chance.randint(0, 1) + line for line in lines]
    code = "\n".join(lines)
    if chance.random() < 0.4:
        at = chance.randrange(len(code) + 1)
        code = code[:at] + chr(chance.choice(DAMAGE)) + code[at:]
    return code


async def innocent(runner: OwnedRunner, stop: asyncio.Event, times_ms: list[float]) -> None:
    """A neighbour who computes an average now and then, while others attack."""
    prices = [float(n) for n in range(100)]
    while not stop.is_set():
        started = time.perf_counter()
        result = await runner.run(INNOCENT, {"prices": prices}, ["output_data"], timeout_s=5, now=NOW, seed="i")
        times_ms.append((time.perf_counter() - started) * 1000)
        if result.outputs != {"output_data": 49.5}:
            raise RuntimeError(f"the innocent got {result}")
        await asyncio.sleep(INNOCENT_PAUSE_S)


async def attack(runners: list[OwnedRunner], attack: Attack, jobs: list[tuple[str, float]]) -> None:
    queue = iter(jobs)

    async def attacker(runner: OwnedRunner) -> None:
        for code, timeout_s in queue:
            await attack.run(runner, code, timeout_s)
            if attack.runs % 1000 == 0:
                progress(f"{attack.runs} programs, {len(attack.escapes)} escapes")

    await asyncio.gather(*(attacker(runner) for runner in runners for _ in range(2)))


def control(bait: Bait) -> int:
    """How many of the escapes work in plain Python: the bait must be able to tell."""
    caught = 0
    for code in ESCAPES:
        if not any(word in code for word in UNSAFE_IN_PLAIN_PYTHON):
            caught += bait.secret in _plainly(code, bait) or bool(bait.taken())
    return caught


def _plainly(code: str, bait: Bait) -> str:
    names = "".join(f"{name} = {value!r}\n" for name, value in bait.names().items())
    program = f"{names}{code}\nprint(repr(globals().get('output_data')))"
    command = [sys.executable, "-I", "-c", program]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=PLAIN_TIMEOUT_S, check=False).stdout
    except subprocess.TimeoutExpired:
        return ""


async def measure(figures: Figures, seed: int, runs: int, owners: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    plan = SandboxPlan(processes=2 * owners + 2)
    sandbox = Sandbox(plan)
    with tempfile.TemporaryDirectory() as folder:
        bait = Bait(Path(folder))
        progress("control: the same programs in plain Python")
        caught = control(bait)
        figures.show("hostile_control_escapes", caught, "programs", target=">= 5 in plain Python", ok=caught >= 5)
        await sandbox.start()
        figures.show("sandbox_wall_parts_missing", 0 if sandbox.refusal is None else 1, "parts", target="== 0",
                     ok=sandbox.refusal is None, refusal=sandbox.refusal)  # fmt: skip
        if sandbox.refusal is None:
            await _under_attack(figures, sandbox, bait, chance, runs, owners)
    await sandbox.close()


async def _under_attack(
    figures: Figures, sandbox: Sandbox, bait: Bait, chance: random.Random, runs: int, owners: int
) -> None:
    mallory = [sandbox.for_owner(f"mallory-{number}") for number in range(owners)]
    known = [(code, HARM_TIMEOUT_S) for code in ESCAPES + HARM]
    jobs = known + [(fuzzed(chance), FUZZ_TIMEOUT_S) for _ in range(runs)]
    outcome = Attack(bait)
    quiet_ms = await _watch_innocent(sandbox, asyncio.sleep(QUIET_S))
    times_ms = await _watch_innocent(sandbox, attack(mallory, outcome, jobs))
    for code in outcome.escapes + outcome.overdue:
        progress(f"LOOK AT: {code!r}")
    p50, p99 = statistics.median(times_ms), statistics.quantiles(times_ms, n=100)[98]
    quiet_p99 = statistics.quantiles(quiet_ms, n=100)[98]
    figures.show("hostile_programs", len(known), "programs", target=">= 60", ok=len(known) >= 60)
    figures.show(
        "hostile_fuzzed_programs",
        outcome.runs - len(known),
        "programs",
        target=f"== {runs}",
        ok=outcome.runs == len(jobs),
    )
    figures.show("sandbox_escapes", len(outcome.escapes), "programs", target="== 0", ok=not outcome.escapes)
    figures.show("hostile_overdue", len(outcome.overdue), "programs", target="== 0", ok=not outcome.overdue)
    figures.show("innocent_p50_under_attack", p50, "ms", target="shown", ok=True, runs=len(times_ms))
    figures.show("innocent_p99_under_attack", p99, "ms", target=f"< {INNOCENT_P99_MS} ms", ok=p99 < INNOCENT_P99_MS,
                 baseline="p99 without an attack", baseline_value=quiet_p99)  # fmt: skip


async def _watch_innocent(sandbox: Sandbox, during: Coroutine[None, None, None]) -> list[float]:
    times_ms, stop = list[float](), asyncio.Event()
    neighbour = asyncio.create_task(innocent(sandbox.for_owner("alice"), stop, times_ms))
    await during
    stop.set()
    await neighbour
    return times_ms


def main() -> int:
    progress(f"seed {SEED}, {RUNS} fuzzed programs, {OWNERS} attackers")
    figures = Figures()
    asyncio.run(measure(figures, SEED, RUNS, OWNERS))
    asyncio.run(show_outbound(figures))
    return figures.exit_code


if __name__ == "__main__":
    sys.exit(main())
