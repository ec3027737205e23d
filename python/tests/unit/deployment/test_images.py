"""The images hold what their processes import, and a push that changes it builds them anew."""

import re
import subprocess
import sys
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml

from tests.unit.deployment.deployment_files import REPOSITORY

PYTHON = REPOSITORY / "python"
ENTRY_MODULES = {
    "account-services": (
        "tradingflow.account_manager.server",
        "tradingflow.account_manager.celery_worker",
        "tradingflow.monitor.server",
        "tradingflow.cli",
    ),
    "worker": ("tradingflow.py_worker.server",),
}
WORKFLOWS = {
    "account-services": ("python-account-services.yml", ("account-services",)),
    "worker": ("python-worker.yml", ("worker", "gateway")),
}


@cache
def stages() -> dict[str, tuple[str, list[str]]]:
    """Of each stage: the stage or image it starts from, and the files it copies from the context."""
    found: dict[str, tuple[str, list[str]]] = {}
    name = ""
    for line in (PYTHON / "Dockerfile").read_text().splitlines():
        if start := re.match(r"FROM (\S+) AS (\S+)", line):
            name = start.group(2)
            found[name] = (start.group(1), [])
        elif line.startswith("COPY ") and "--from=" not in line:
            found[name][1].extend(line.split()[1:-1])
    return found


def copied(stage: str) -> set[str]:
    """Every path of the context that ends up in the stage or decides what does."""
    parent, files = stages()[stage]
    inherited = copied(parent) if parent in stages() else set()
    built_from = copied("dependencies") if stage == "runtime" else set()
    return set(files) | inherited | built_from


@cache
def imports() -> grimp.ImportGraph:
    return grimp.build_graph("tradingflow")


def imported_by(module: str) -> set[str]:
    """The files of tradingflow that running `module` reads."""
    graph = imports()
    names = graph.find_upstream_modules(module) | {module}
    packages = {name.rsplit(".", n)[0] for name in names for n in range(1, name.count(".") + 1)}
    return {path_of(name) for name in names | packages}


def path_of(module: str) -> str:
    path = module.replace(".", "/")
    return f"{path}/__init__.py" if (PYTHON / path).is_dir() else f"{path}.py"


def is_covered(path: str, copies: set[str]) -> bool:
    return any(path == copy or path.startswith(f"{copy}/") for copy in copies)


@pytest.mark.parametrize(("target", "module"), [(t, m) for t, modules in ENTRY_MODULES.items() for m in modules])
def test_an_image_holds_all_that_its_processes_import(target: str, module: str) -> None:
    if module not in imports().modules:
        pytest.skip(f"{module} is not built yet")
    missing = {path for path in imported_by(module) if not is_covered(path, copied(target))}
    assert missing == set()


def left_out() -> dict[str, set[str]]:
    """Of each image, the installed packages its dependencies stage removes."""
    found: dict[str, set[str]] = {}
    for name, removed in re.findall(r"AS (\S+)-dependencies\n.*\n.*rm -r (.*)\n", (PYTHON / "Dockerfile").read_text()):
        found[name] = {package for package in removed.split() if "/" not in package and "." not in package}
    assert set(found) == set(ENTRY_MODULES)
    return found


IMPORT_WITHOUT = """
import importlib, sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in gone:
            raise ModuleNotFoundError(f"{name} is not in the image", name=name)

gone, modules = set(sys.argv[1].split(",")), sys.argv[2].split(",")
for name in sys.argv[3].split(","):
    sys.modules[name] = None
sys.meta_path.insert(0, Without())
for module in modules:
    importlib.import_module(module)
"""


@pytest.mark.parametrize("target", ENTRY_MODULES)
def test_an_image_leaves_out_no_package_its_processes_import(target: str) -> None:
    """Of all its modules, whoever imports them: nodes are found by name. What the packages import counts as well."""
    held = copied(target)
    modules = sorted(name for name in imports().modules if is_covered(path_of(name), held))
    services = [f"tradingflow.{name}" for name in ("account_manager", "monitor", "py_worker")]
    absent = [name for name in services if not is_covered(path_of(name), held)]
    lists = [",".join(names) for names in (left_out()[target], modules, absent)]
    command = [sys.executable, "-c", IMPORT_WITHOUT, *lists]
    done = subprocess.run(command, check=False, cwd=PYTHON, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2_000:]
    external = grimp.build_graph("tradingflow", include_external_packages=True)
    named = {package for module in modules for package in external.find_modules_directly_imported_by(module)}
    assert named & left_out()[target] == set()


@pytest.mark.parametrize("target", ENTRY_MODULES)
def test_an_image_can_migrate(target: str) -> None:
    """Whichever is deployed first brings the tables up to date: files, Alembic, and what the two import."""
    held = copied(target)
    assert {"alembic.ini", "migrations"} <= held
    assert all(is_covered(path, held) for path in imported_by("tradingflow.db.models"))
    modules = "alembic.command,alembic.config,tradingflow.db.engine,tradingflow.db.models"
    command = [sys.executable, "-c", IMPORT_WITHOUT, ",".join(left_out()[target]), modules, "tradingflow.operation"]
    done = subprocess.run(command, check=False, cwd=PYTHON, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2_000:]


def test_the_worker_image_holds_no_code_of_the_account_services() -> None:
    assert not is_covered("tradingflow/account_manager/__init__.py", copied("worker"))
    assert not is_covered("tradingflow/py_worker/__init__.py", copied("account-services"))


@pytest.mark.parametrize("group", WORKFLOWS)
def test_a_push_that_changes_an_image_builds_it(group: str) -> None:
    file, targets = WORKFLOWS[group]
    filters = path_filters(file)
    always = {"Dockerfile", ".dockerignore"}
    for copy in set.union(always, *(copied(target) for target in targets)):
        for path in files_below(PYTHON / copy):
            name = str(path.relative_to(REPOSITORY))
            assert any(fnmatch(name, pattern) for pattern in filters), f"{name} is in no filter of {file}"


@pytest.mark.parametrize("group", WORKFLOWS)
def test_no_filter_is_left_over(group: str) -> None:
    for pattern in path_filters(WORKFLOWS[group][0]):
        assert list(REPOSITORY.glob(pattern)), f"{pattern} matches nothing"


def test_what_is_copied_is_not_ignored() -> None:
    allowed = [line[1:] for line in (PYTHON / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for stage in stages():
        for path in copied(stage):
            assert is_covered(path, set(allowed)), f"{path} is kept out by .dockerignore"


def test_the_base_images_carry_a_full_tag() -> None:
    bases = {parent for parent, _ in stages().values() if parent not in stages()}
    assert bases == {"python:3.11-slim-bookworm", "debian:bookworm-slim"}


@pytest.mark.parametrize("file", sorted(path.name for path in (REPOSITORY / ".github/workflows").glob("*.yml")))
def test_workflows_have_no_rights_by_default_and_pin_their_actions(file: str) -> None:
    text = (REPOSITORY / ".github/workflows" / file).read_text()
    assert workflow(file)["permissions"] == {}
    for action in re.findall(r"uses: (\S+)", text):
        assert re.fullmatch(r"[\w/.-]+@[0-9a-f]{40}", action), action


def workflow(file: str) -> dict[Any, Any]:
    loaded: dict[Any, Any] = yaml.safe_load((REPOSITORY / ".github/workflows" / file).read_text())
    return loaded


def path_filters(file: str) -> list[str]:
    # YAML 1.1 reads the key `on` as true.
    filters: list[str] = workflow(file)[True]["push"]["paths"]
    return filters


def files_below(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return [p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
