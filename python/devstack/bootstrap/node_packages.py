"""npm packages exactly as a lock file names them."""

import shutil
import subprocess
from pathlib import Path

from devstack.bootstrap.stamp import Stamp
from devstack.bootstrap.steps import Shell, StepFailed

OLDEST_NODE = 20


class NodePackages:
    """`node_modules` next to a package-lock.json."""

    def __init__(self, title: str, folder: Path) -> None:
        self.title = title
        self._folder = folder
        self._stamp = Stamp.of(folder / "node_modules", [folder / "package-lock.json"])

    @property
    def is_complete(self) -> bool:
        """Whether it is what the lock file asks for."""
        return self._stamp.is_set

    def install(self, shell: Shell) -> None:
        """`npm ci`; raises StepFailed when Node is missing or too old."""
        _require_node()
        self._stamp.remove()
        shell.run("npm", "ci", "--no-audit", "--no-fund", cwd=self._folder)
        self._stamp.set()


def _require_node() -> None:
    advice = f"install Node.js {OLDEST_NODE} or newer with npm (nodejs.org, or your system's packages)"
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise StepFailed(f"node or npm is not on PATH\n  what to do: {advice}")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout.strip()
    major = version.removeprefix("v").partition(".")[0]
    if not major.isdigit() or int(major) < OLDEST_NODE:
        raise StepFailed(f"node is {version or 'broken'}\n  what to do: {advice}")
