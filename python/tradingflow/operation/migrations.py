"""The newest migration this code knows, read from the files that come with it."""

from __future__ import annotations

from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory

# Beside the package, in the checkout and in the image.
ALEMBIC_INI = Path(__file__).resolve().parents[2] / "alembic.ini"


def head_revision() -> str | None:
    """The revision that `alembic upgrade head` leads to; None in an image that cannot migrate."""
    if not ALEMBIC_INI.exists():
        return None
    return ScriptDirectory.from_config(Config(str(ALEMBIC_INI))).get_current_head()
