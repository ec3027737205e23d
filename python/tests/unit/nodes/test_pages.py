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
