"""`tradingflow node …`: the template works as written, workers find what it installs, and one node can be tried."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tradingflow.core.errors import InvariantBroken, TradingFlowError
from tradingflow.py_worker.commands import app
from tradingflow.py_worker.kit import node_types
from tradingflow.py_worker.workbench.template import write_template

RUN = CliRunner()
PYTHON_ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def template(tmp_path: Path) -> Path:
    write_template("spread", tmp_path)
    return tmp_path / "spread_node"


@pytest.fixture
def installed(template: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """As pip leaves it: the module on the path, its entry points in a dist-info folder beside it."""
    info = template / "tradingflow_spread_node-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tradingflow-spread-node\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[tradingflow.nodes]\nspread_node = spread_node:SpreadNode\n")
    monkeypatch.syspath_prepend(str(template))
    yield template
    sys.modules.pop("spread_node", None)


def test_the_template_passes_its_own_test(template: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(template)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(PYTHON_ROOT)}, cwd=template
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_a_node_of_an_installed_package_is_in_the_catalog(installed: Path) -> None:
    assert node_types.__wrapped__()["spread_node"].title == "Spread"


@pytest.mark.parametrize(
    ("line", "said"),
    [("spread_node:Nothing", "cannot be loaded"), ("spread_node:Params", "cannot be loaded"),
     ("collections:OrderedDict", "no subclass"), ("no_such_module:X", "cannot be loaded")],
)  # fmt: skip
def test_a_broken_package_is_named(installed: Path, line: str, said: str) -> None:
    points = next(installed.glob("*.dist-info")) / "entry_points.txt"
    points.write_text(f"[tradingflow.nodes]\nspread_node = {line}\n")
    with pytest.raises(InvariantBroken, match=said) as broken:
        node_types.__wrapped__()
    assert line in broken.value.detail


def test_a_package_cannot_take_the_name_of_one_of_our_nodes(installed: Path) -> None:
    module = installed / "spread_node.py"
    module.write_text(module.read_text().replace('type = "spread_node"', 'type = "code_node"'))
    with pytest.raises(InvariantBroken, match="two nodes claim the type 'code_node'"):
        node_types.__wrapped__()


@pytest.mark.parametrize("name", ["Spread", "1x", "../x", "a b", "", "x" * 80])
def test_a_name_no_module_could_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(TradingFlowError, match="invalid_name"):
        write_template(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["code", "code_node", "spread"])
def test_nothing_that_exists_is_written_over(template: Path, name: str) -> None:
    with pytest.raises(TradingFlowError, match="exist"):
        write_template(name, template.parent)


def test_one_node_is_run_from_its_file(template: Path) -> None:
    options = ["--config", '{"reference": 2000}', "--inputs", '{"value": 2100}', "--cycles", "2"]
    done = RUN.invoke(app, ["test", str(template / "spread_node.py"), *options])
    assert done.exit_code == 0, done.output
    ran = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"cycle"')]
    assert [entry["cycle"] for entry in ran] == [0, 1]
    assert ran[0]["outputs"] == {"distance": pytest.approx(5.0)}
    assert ran[0]["log"][0].startswith("info compared")


def test_a_branch_that_is_not_taken_is_said() -> None:
    options = ["--config", '{"expression": "x < 3.0"}', "--inputs", '{"x": 2}']
    done = RUN.invoke(app, ["test", "condition_node", *options])
    ran = json.loads(next(line for line in done.stdout.splitlines() if line.startswith('{"cycle"')))
    assert (ran["outputs"], ran["not_taken"]) == ({"true": {"x": 2}}, ["false"])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["test", "nope_node"], "not_found"), (["test", "nope.py"], "not_found"),
     (["test", "condition_node", "--config", "{"], "invalid_json"),
     (["test", "condition_node", "--config", "[]"], "invalid_json"),
     (["test", "condition_node", "--secret", "key=hunter2"], "secret_on_command_line"),
     (["test", "http_request_node", "--config", '{"url": "http://127.0.0.1:9999/"}'], "address_forbidden"),
     (["show", "nope"], "not_found")],
)  # fmt: skip
def test_what_cannot_be_run_is_said_with_its_code(arguments: list[str], code: str) -> None:
    done = RUN.invoke(app, arguments)
    assert isinstance(done.exception, TradingFlowError)
    assert done.exception.code == code


def test_every_type_is_listed_and_shown() -> None:
    listed = RUN.invoke(app, ["list"]).stdout.splitlines()
    assert {line.split()[0] for line in listed} == {node.type for node in node_types().values()}
    assert json.loads(RUN.invoke(app, ["show", "code_node"]).stdout)["type"] == "code_node"
