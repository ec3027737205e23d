"""The virtual environment `.venv`, filled with exactly the pinned and hashed requirements."""

import os
import subprocess
import sys
from pathlib import Path

from devstack.bootstrap.stamp import Stamp
from devstack.bootstrap.steps import Shell

TITLE = "Python packages"
INSTALLER = "uv"


class PythonEnvironment:
    """`.venv` at the root of the repository."""

    def __init__(self, repository: Path) -> None:
        self._folder = repository / ".venv"
        self._requirements = repository / "python" / "requirements-dev.txt"
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        self._stamp = Stamp.of(self._folder, [self._requirements], version)

    @property
    def is_complete(self) -> bool:
        """Whether it holds what the requirements ask for."""
        return self._stamp.is_set and (self._folder / "bin" / "python").exists()

    def install(self, shell: Shell) -> None:
        """Create it when needed and install: with uv, itself checked by hash, or with pip where uv will not run."""
        self._stamp.remove()
        if not self._is_usable():
            shell.run(sys.executable, "-m", "venv", "--clear", self._folder)
        if not self._install_with_uv(shell):
            shell.run(*self._pip_install(), "-r", self._requirements)
        self._stamp.set()

    def _install_with_uv(self, shell: Shell) -> bool:
        pinned_uv = self._folder / "uv-requirement.txt"
        pinned_uv.write_text(pinned_block(self._requirements.read_text(), INSTALLER))
        if not shell.succeeds(*self._pip_install(), "--no-deps", "-r", pinned_uv):
            return False
        uv = [self._program("uv"), "pip", "install", "--python", self._program("python"), "--require-hashes"]
        return shell.succeeds(*uv, "-r", self._requirements, env=os.environ | {"UV_NO_PROGRESS": "1"})

    def _pip_install(self) -> list[str]:
        return [self._program("python"), "-m", "pip", "install", "--disable-pip-version-check", "--require-hashes"]

    def _is_usable(self) -> bool:
        """Whether there is an environment of this very Python version with a working pip."""
        program = self._program("python")
        if not Path(program).exists():
            return False
        question = "import sys, pip; print('%d.%d' % sys.version_info[:2])"
        done = subprocess.run([program, "-c", question], capture_output=True, text=True, check=False)
        return done.stdout.strip() == f"{sys.version_info.major}.{sys.version_info.minor}"

    def _program(self, name: str) -> str:
        return str(self._folder / "bin" / name)


def pinned_block(requirements: str, package: str) -> str:
    """The requirement of one package with all its hashes, cut out of compiled requirements."""
    lines = requirements.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith(f"{package}=="))
    end = start
    while lines[end].endswith("\\"):
        end += 1
    return "\n".join(lines[start : end + 1]) + "\n"
