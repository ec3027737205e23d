"""Running installation steps side by side, and telling a person what goes on."""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

HEARTBEAT_S = 10.0
LOG_TAIL_LINES = 15
NO_NETWORK_SIGNS = (
    "Temporary failure",
    "Could not resolve",
    "Could not connect",
    "ENOTFOUND",
    "EAI_AGAIN",
    "ECONNREFUSED",
    "dns error",
    "Failed to fetch",
    "Failed to establish a new connection",
    "Network is unreachable",
)


class StepFailed(Exception):
    """A step could not be done; the message says why and what to do."""


@dataclass(frozen=True)
class Step:
    """One thing to install; `work` runs its commands through the shell it is given."""

    title: str
    work: Callable[["Shell"], None]
    after: tuple[str, ...] = field(default=())


class Shell:
    """Runs commands of one step with their output in one log file."""

    def __init__(self, log_file: Path) -> None:
        self._log_file = log_file
        log_file.parent.mkdir(parents=True, exist_ok=True)
        log_file.write_bytes(b"")

    def run(
        self, *command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None, advice: str = ""
    ) -> None:
        """Run a command; raises StepFailed with the end of its output."""
        if not self.succeeds(*command, cwd=cwd, env=env):
            raise StepFailed(self._explain(command, advice))

    def succeeds(self, *command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> bool:
        """Run a command and tell whether it ended well."""
        with self._log_file.open("ab") as log:
            log.write(f"$ {' '.join(map(str, command))}\n".encode())
            log.flush()
            done = subprocess.run(
                command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
            )
        return done.returncode == 0

    def _explain(self, command: Sequence[str | Path], advice: str) -> str:
        output = self._log_file.read_text(errors="replace")
        if any(sign in output for sign in NO_NETWORK_SIGNS):
            advice = "check the network connection (and proxy settings), then run the same command again"
        quoted = "\n".join(f"    | {line}" for line in output.splitlines()[-LOG_TAIL_LINES:])
        return (
            f"`{' '.join(map(str, command[:4]))} …` failed\n  last lines of {self._log_file}:\n{quoted}"
            f"\n  what to do: {advice or 'read the log'}"
        )


def run_steps(steps: Sequence[Step], log_folder: Path) -> bool:
    """Do all steps, side by side where they may; False when one failed."""
    began = time.monotonic()
    waiting = list(steps)
    running: dict[Future[float], str] = {}
    done: set[str] = set()
    failed = False
    with ThreadPoolExecutor(max_workers=len(steps) or 1) as pool:
        while running or (waiting and not failed):
            for step in [step for step in waiting if not failed and done.issuperset(_awaited(step, steps))]:
                waiting.remove(step)
                _say(f"{step.title} …")
                running[pool.submit(_timed, step, log_folder)] = step.title
            finished, _ = wait(running, timeout=HEARTBEAT_S, return_when=FIRST_COMPLETED)
            for future in finished:
                failed |= not _report(running.pop(future), future, done)
            if not finished:
                _say(f"still working after {time.monotonic() - began:.0f} s: {', '.join(running.values())}")
    return not failed


def _awaited(step: Step, steps: Sequence[Step]) -> set[str]:
    return {title for title in step.after if any(other.title == title for other in steps)}


def _timed(step: Step, log_folder: Path) -> float:
    began = time.monotonic()
    step.work(Shell(log_folder / f"setup-{step.title.replace(' ', '-').lower()}.log"))
    return time.monotonic() - began


def _report(title: str, future: "Future[float]", done: set[str]) -> bool:
    try:
        _say(f"{title}: done in {future.result():.1f} s")
    except StepFailed as problem:
        _say(f"{title}: {problem}")
        return False
    done.add(title)
    return True


def _say(line: str) -> None:
    print(f"  {line}", file=sys.stderr, flush=True)
