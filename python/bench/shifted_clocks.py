"""Containers whose clock steps while they run, as after a wrong time server.

All containers have the machine's own clock, so libfaketime (Debian: `libfaketime`) stands in front of it: preloaded, it
adds what a file says to the time of day. Counters are left alone, as a real step leaves them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from devstack.errors import DevstackError

COMPOSE_FILE = "docker-compose-shifted-clocks.yml"
LIBRARY = "libfaketimeMT.so.1"
_INSIDE = "/shifted"


class ShiftedClocks:
    """Of the given compose services, all by the same amount."""

    def __init__(self, services: Sequence[str]) -> None:
        self._services = services
        self._ahead = Path()

    def install(self, home: Path) -> None:
        """Leave in `home`, beside the compose files, what `COMPOSE_FILE` there adds to the services."""
        library = next(Path("/usr/lib").glob(f"*/faketime/{LIBRARY}"), None)
        if library is None:
            raise DevstackError(f"no {LIBRARY} below /usr/lib\n  what to do: apt-get install libfaketime")
        folder = home / "shifted"
        folder.mkdir()
        shutil.copy2(library, folder)
        self._ahead = folder / "ahead"
        self.shift(0)
        added = {
            "environment": {
                "LD_PRELOAD": f"{_INSIDE}/{LIBRARY}",
                "FAKETIME_TIMESTAMP_FILE": f"{_INSIDE}/{self._ahead.name}",
                "FAKETIME_CACHE_DURATION": "1",  # seconds until it reads the file again
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            },
            "volumes": [f"{folder}:{_INSIDE}:ro"],
        }
        # JSON is YAML.
        (home / COMPOSE_FILE).write_text(json.dumps({"services": dict.fromkeys(self._services, added)}))

    def shift(self, seconds: int) -> None:
        """Their time of day is so much ahead from now on; negative: behind."""
        self._ahead.write_text(f"{seconds:+d}\n")
