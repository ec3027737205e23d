"""The pages in docs/nodes are those the node types write, and their example flows are valid flows."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tradingflow.py_worker.engine.graph import build_graph
from tradingflow.py_worker.kit import node_types
from tradingflow.py_worker.kit.pages import pages
from tradingflow.py_worker.specs import node_specs

DOCS = Path(__file__).resolve().parents[4] / "docs" / "nodes"
EXAMPLE = re.compile(r"```json\n(.*?)\n```", re.DOTALL)


def test_the_committed_pages_are_up_to_date() -> None:
    """Mend with `python -m tradingflow.py_worker.kit.pages ../docs/nodes`."""
    committed = {path.name: path.read_text(encoding="utf-8") for path in DOCS.glob("*.md")}
    assert committed == pages()


@pytest.mark.parametrize("name", sorted({node.type for node in node_types().values()}))
def test_the_example_on_a_page_is_a_flow_the_worker_accepts(name: str) -> None:
    found = EXAMPLE.search((DOCS / f"{name}.md").read_text(encoding="utf-8"))
    assert found is not None
    flow: dict[str, Any] = json.loads(found.group(1))
    graph = build_graph(flow["flow_json"], node_specs(node_types()))
    assert name in {node.type for node in graph.nodes}


@pytest.mark.parametrize("name", sorted({node.type for node in node_types().values()}))
def test_an_example_feeds_every_handle_its_node_needs(name: str) -> None:
    node = node_types()[name]
    required = {handle.name for handle in node.input_handles().values() if handle.required}
    assert required <= node.example_inputs.keys()


def test_every_node_is_named_in_a_unit_test_and_those_that_ask_servers_in_a_wire_test() -> None:
    tests = Path(__file__).resolve().parents[2]
    unit = "".join(path.read_text(encoding="utf-8") for path in (tests / "unit" / "nodes").glob("test_*.py"))
    wire = "".join(path.read_text(encoding="utf-8") for path in (tests / "integration").rglob("test_*.py"))
    for node in {node.type: node for node in node_types().values()}.values():
        names = (node.type, type(node).__name__)
        assert any(name in unit + wire for name in names), f"{node.type} has no test"
