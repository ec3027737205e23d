"""Containers whose clock steps while they run, as after a wrong time server.

All containers have the machine's own clock, so `shifted_clock.c` stands in front of it. (libfaketime 0.9.10 could not:
with counters left alone, as a real step leaves them, Python's `time.sleep` fails with EINVAL.)
"""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

from devstack.errors import DevstackError

COMPOSE_FILE = "docker-compose-shifted-clocks.yml"
_SOURCE = Path(__file__).with_name("shifted_clock.c")
_INSIDE = "/shifted"


class ShiftedClocks:
    """Of the given compose services, all by the same amount."""

    def __init__(self, services: Sequence[str]) -> None:
        self._services = services
        self._shift = Path()

    def install(self, home: Path) -> None:
        """Leave in `home`, beside the compose files, what `COMPOSE_FILE` there adds to the services."""
        folder = home / "shifted"
        folder.mkdir()
        self._shift = folder / "seconds"
        self._shift.write_bytes(struct.pack("=q", 0))
        _compile(folder / "clock.so")
        added = {
            "environment": {"LD_PRELOAD": f"{_INSIDE}/clock.so", "SHIFTED_CLOCK": f"{_INSIDE}/{self._shift.name}"},
            "volumes": [f"{folder}:{_INSIDE}:ro"],
        }
        # JSON is YAML.
        (home / COMPOSE_FILE).write_text(json.dumps({"services": dict.fromkeys(self._services, added)}))

    def shift(self, seconds: int) -> None:
        """Their time of day is so much ahead from now on; negative: behind."""
        with self._shift.open("r+b") as mapped:  # the file stays the one they have mapped
            mapped.write(struct.pack("=q", seconds))


def _compile(library: Path) -> None:
    if shutil.which("cc") is None:
        raise DevstackError("no C compiler here\n  what to do: apt-get install gcc libc6-dev")
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(_SOURCE)], check=True)
