"""`python3 -m devstack.bootstrap run|test|check`, from `python/`, with the machine's own Python."""

import os
import shutil
import sys

OLDEST_PYTHON = (3, 11)


def use_newer_python() -> None:
    """Start over with a newer Python of this machine when this one is too old."""
    for minor in (11, 12, 13):
        program = shutil.which(f"python3.{minor}")
        if program:
            os.execv(program, [program, "-m", "devstack.bootstrap", *sys.argv[1:]])
    sys.exit(
        f"TradingFlow needs Python 3.11 or newer; {sys.executable} is {sys.version_info[0]}.{sys.version_info[1]}\n"
        "  what to do: apt-get install python3.11 python3.11-venv"
    )


if sys.version_info < OLDEST_PYTHON:
    use_newer_python()

from devstack.bootstrap.plan import main  # noqa: E402  # older Pythons cannot even read it

sys.exit(main(sys.argv[1:]))
