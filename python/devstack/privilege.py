"""Running a program that refuses to run as root.

PostgreSQL does. When we are root it runs under an account without privileges. Where the checkout lies
below a directory that account may not pass through (a home of mode 700), the program gets the single
capability that lets it read and search directories; it gains no power to write what is not its own.
"""

import os
import pwd
import shutil
from collections.abc import Iterable
from pathlib import Path

from devstack.errors import ServerMissing

ACCOUNTS = ("postgres", "nobody")
CAPABILITIES = {"dac_read_search": 2, "dac_override": 1}  # numbers of linux/capability.h, narrowest first


class Unprivileged:
    """The account a program runs under when we are root; ourselves otherwise."""

    def __init__(self) -> None:
        self._account = _account() if os.geteuid() == 0 else None

    def command(self, command: list[str], must_reach: Iterable[Path]) -> list[str]:
        """The command, wrapped so that it runs without root's power yet reaches these paths."""
        if self._account is None:
            return command
        return [
            _setpriv(),
            f"--reuid={self._account.pw_uid}",
            f"--regid={self._account.pw_gid}",
            "--clear-groups",
            *_capability(must_reach, self._account),
            *command,
        ]

    def own(self, *paths: Path) -> None:
        """Hand files and folders over to the account."""
        if self._account is not None:
            for path in paths:
                os.chown(path, self._account.pw_uid, self._account.pw_gid)


def _capability(must_reach: Iterable[Path], account: pwd.struct_passwd) -> list[str]:
    if all(_reachable(path, account) for path in must_reach):
        return []
    for name, number in CAPABILITIES.items():
        if _have_capability(number):
            return [f"--inh-caps=+{name}", f"--ambient-caps=+{name}"]
    raise ServerMissing(
        f"PostgreSQL runs as {account.pw_name}, who may not enter the folder of this checkout\n"
        "  what to do: move the checkout where others may enter, or start as another user than root"
    )


def _account() -> pwd.struct_passwd:
    for name in ACCOUNTS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ServerMissing(f"no account to run PostgreSQL under\n  what to do: create one named {ACCOUNTS[0]}")


def _setpriv() -> str:
    program = shutil.which("setpriv")
    if program is None:
        raise ServerMissing("setpriv is not installed\n  what to do: apt-get install util-linux")
    return program


def _reachable(path: Path, account: pwd.struct_passwd) -> bool:
    return all(_may_enter(parent, account) for parent in path.resolve().parents)


def _may_enter(directory: Path, account: pwd.struct_passwd) -> bool:
    status = directory.stat()
    if status.st_uid == account.pw_uid:
        return bool(status.st_mode & 0o100)
    if status.st_gid == account.pw_gid:
        return bool(status.st_mode & 0o010)
    return bool(status.st_mode & 0o001)


def _have_capability(number: int) -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False
