"""The pages of docs/nodes, written from the node types: `python -m tradingflow.py_worker.kit.pages FOLDER`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tradingflow.py_worker.engine.document import MAX_HANDLE_LENGTH
from tradingflow.py_worker.kit.node import Node
from tradingflow.py_worker.kit.registry import catalog, node_types


def write_pages(folder: Path) -> list[Path]:
    """One page a node and an index; returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in pages().items():
        path = folder / name
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def pages() -> dict[str, str]:
    """File name to Markdown."""
    entries = catalog()
    found = {f"{entry['type']}.md": _page(entry) for entry in entries}
    lines = [f"| [{e['type']}]({e['type']}.md) | {e['category']} | {e['description']} |" for e in entries]
    head = ["# Nodes", "", "Written from the node types; `GET /nodes/types` says the same to programs.", ""]
    return {"README.md": "\n".join([*head, "| node | kind | what it does |", "|---|---|---|", *lines, ""]), **found}


def example_flow(node: Node[Any, Any, Any]) -> dict[str, Any]:
    """A flow that holds the node with its example config; a code node feeds it the example's inputs."""
    entry = {"id": "example", "type": node.type, "config": dict(node.example)}
    if not node.example_inputs:
        return {"nodes": [entry], "edges": []}
    code = "\n".join(f"{name} = {value!r}" for name, value in node.example_inputs.items())
    edges = [
        {"source": "source", "source_handle": name, "target": "example", "target_handle": name}
        for name in node.example_inputs
    ]
    return {"nodes": [{"id": "source", "type": "code_node", "config": {"python_code": code}}, entry], "edges": edges}


def _page(entry: Mapping[str, Any]) -> str:
    node = node_types()[entry["type"]]
    flow = {"flow_id": f"{node.type}_example", "cycle_interval": "5m", "flow_json": example_flow(node)}
    parts = [f"# {node.title}: `{node.type}`", "", node.description, ""]
    parts += ["## Config", "", *_config(entry["config_schema"]), ""]
    parts += ["## Inputs", "", *_handles(entry["inputs"], open_=entry["open_inputs"]), ""]
    parts += ["## Outputs", "", *_handles(entry["outputs"], open_=entry["open_outputs"]), ""]
    parts += ["## An example flow", "", "```json", json.dumps(flow, indent=2), "```", ""]
    return "\n".join(parts)


def _config(schema: Mapping[str, Any]) -> list[str]:
    properties = schema.get("properties", {})
    if not properties:
        return ["None."]
    required = set(schema.get("required", ()))
    rows = [_row(name, field, required) for name, field in properties.items()]
    return ["| field | default | meaning |", "|---|---|---|", *rows]


def _row(name: str, field: Mapping[str, Any], required: set[str]) -> str:
    default = "required" if name in required else f"`{json.dumps(field.get('default'))}`"
    return f"| `{name}` | {default} | {_cell(field.get('description', ''))} |"


def _handles(handles: list[dict[str, Any]], *, open_: bool) -> list[str]:
    rows = [
        f"| `{h['name']}` | {h['kind']}{', several edges' if h['many'] else ''} | {_cell(h['description'])} |"
        for h in handles
    ]
    table = ["| handle | kind | meaning |", "|---|---|---|", *rows] if rows else []
    rule = f"Handles of any other name of at most {MAX_HANDLE_LENGTH} characters may be used, too."
    return [*table, *(["", rule] if open_ else [])] or ["None."]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main() -> None:
    for path in write_pages(Path(sys.argv[1])):
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
