"""The migrations this code knows, read from the files that come with it."""

from __future__ import annotations

from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory

# Beside the package, in the checkout and in the image.
ALEMBIC_INI = Path(__file__).resolve().parents[2] / "alembic.ini"


def head_revision() -> str | None:
    """The revision that `alembic upgrade head` leads to; None in an image that cannot migrate."""
    scripts = _scripts()
    return None if scripts is None else scripts.get_current_head()


def knows(revision: str) -> bool:
    """Whether tables of this revision are ones this code can make and read."""
    scripts = _scripts()
    return scripts is not None and any(script.revision == revision for script in scripts.walk_revisions())


def _scripts() -> ScriptDirectory | None:
    return ScriptDirectory.from_config(Config(str(ALEMBIC_INI))) if ALEMBIC_INI.exists() else None
