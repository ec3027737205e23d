"""The root directory of sandboxed processes: the interpreter, the libraries it is linked to, and nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tradingflow.core.errors import DependencyUnavailable
from tradingflow.py_worker.sandbox.wall import INTERPRETER, WallPlan

_LINKED = re.compile(r"(?:=> )?(/\S+) \(0x")
_PACKAGE_ROOT = Path(__file__).resolve().parents[3]

# The priority is lowered before Python starts, so that starting one costs the others nothing either.
_LAUNCHER = """#!/usr/bin/env -S nice -n {niceness} {python} -IS
import sys
sys.path.insert(0, {root!r})
from tradingflow.py_worker.sandbox.wall import WallPlan, main
main({plan!r})
"""


def make_jail(directory: Path, interpreter: Path) -> Path:
    """Fill a folder in `directory` and return it.

    Raises DependencyUnavailable when the interpreter's libraries cannot be found.
    """
    jail = directory / "jail"
    jail.mkdir(mode=0o755)
    _copy(interpreter, jail / INTERPRETER.lstrip("/"))
    for library in _libraries(interpreter):
        _copy(library, jail / str(library).lstrip("/"))
    for folder, _, _ in os.walk(jail):
        Path(folder).chmod(0o555)
    return jail


def make_launcher(jail: Path, name: str, user_id: int, niceness: int) -> Path:
    """A program beside the jail that walls itself in, in it, and becomes the interpreter."""
    launcher = jail.parent / f"launch-{name}"
    plan = WallPlan(jail=str(jail), user_id=user_id)
    text = _LAUNCHER.format(niceness=niceness, python=sys.executable, root=str(_PACKAGE_ROOT), plan=plan)
    launcher.write_text(text, encoding="utf-8")
    launcher.chmod(0o500)
    return launcher


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o555)


def _libraries(program: Path) -> Iterator[Path]:
    """As the dynamic linker finds them; the linker itself included."""
    answer = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise DependencyUnavailable("sandbox_unavailable", f"the libraries of {program.name} cannot be listed by ldd")
    for line in answer.stdout.splitlines():
        if found := _LINKED.search(line):
            yield Path(found.group(1))
