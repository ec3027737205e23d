"""What can go wrong while the local platform is brought up.

DevstackError
├── PortTaken       another program listens where a server must
├── ServerFailed    a process ended or never became ready; quotes its log
└── ServerMissing   a server program is not on this machine
"""

from pathlib import Path


class DevstackError(Exception):
    """A message a person can act on; printed without a traceback."""


class PortTaken(DevstackError):
    """Another program already listens on a port we need."""


class ServerMissing(DevstackError):
    """A program needed to run a server is not installed."""


class ServerFailed(DevstackError):
    """A process ended early or was not ready in time."""

    def __init__(self, name: str, what: str, log_file: Path, log_tail: str, advice: str) -> None:
        quoted = "\n".join(f"    | {line}" for line in log_tail.splitlines()) or "    | (empty)"
        super().__init__(f"{name} {what}\n  last lines of {log_file}:\n{quoted}\n  what to do: {advice}")
        self.name = name
