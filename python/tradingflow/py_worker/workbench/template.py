"""A node package to begin with: the node, its test, and the entry point by which a worker finds it."""

from __future__ import annotations

import re
from pathlib import Path

from tradingflow.core.errors import Conflict, InvalidInput
from tradingflow.py_worker.kit import node_types
from tradingflow.py_worker.kit.registry import ENTRY_POINT_GROUP

_NAME = re.compile(r"[a-z][a-z0-9_]{0,60}")

_PROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{distribution}"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["tradingflow"]

[project.entry-points."{group}"]
{type} = "{type}:{cls}"

[tool.setuptools]
py-modules = ["{type}"]

[tool.pytest.ini_options]
asyncio_mode = "auto"
"""

_NODE = '''\
"""How far a number is from another one, in percent."""

from pydantic import Field

from tradingflow.py_worker.kit import Node, NodeContext, NodeFailed, NodeInputs, NodeOutputs, NodeParams


class Params(NodeParams):
    reference: float = Field(gt=0, description="What the number is compared with")


class Inputs(NodeInputs):
    value: float = Field(description="The number")


class Outputs(NodeOutputs):
    distance: float = Field(description="Percent above the reference; negative below it")


class {cls}(Node[Params, Inputs, Outputs]):
    type = "{type}"
    title = "{title}"
    description = "Tells how far a number is from another one."
    category = "logic"
    example = {{"reference": 2000}}
    example_inputs = {{"value": 2100}}

    async def run(self, ctx: NodeContext, params: Params, inputs: Inputs) -> Outputs:
        if inputs.value < 0:
            raise NodeFailed("negative_value", "the value is a price, which is never below zero")
        distance = (inputs.value / params.reference - 1) * 100
        ctx.log.info("compared", distance=distance)
        return Outputs(distance=distance)
'''

_TEST = """\
import pytest
from {type} import {cls}

from tradingflow.py_worker.kit import NodeFailed
from tradingflow.py_worker.kit.testing import MemoryContext

NODE = {cls}()


async def test_it_tells_the_distance_in_percent() -> None:
    outputs = await NODE.execute(MemoryContext(), {{"reference": 2000}}, {{"value": 2100}})
    assert outputs.signals() == {{"distance": pytest.approx(5.0)}}


async def test_it_refuses_a_negative_price() -> None:
    with pytest.raises(NodeFailed, match="negative_value"):
        await NODE.execute(MemoryContext(), {{"reference": 2000}}, {{"value": -1}})


def test_its_example_is_valid() -> None:
    assert NODE.validate_params(NODE.example) == []
"""


def write_template(name: str, folder: Path) -> list[Path]:
    """A folder named after the node in `folder`; returns the files. Raises InvalidInput or Conflict."""
    kind = name if name.endswith("_node") else f"{name}_node"
    if not _NAME.fullmatch(kind):
        raise InvalidInput(
            "invalid_name", "a node's name is lower case letters, digits and _, and begins with a letter"
        )
    if kind in node_types():
        raise Conflict("node_type_exists", f"there is a node {kind} already")
    target = folder / kind
    if target.exists():
        raise Conflict("folder_exists", f"{target} exists already")
    words = kind.split("_")
    values = {
        "type": kind,
        "cls": "".join(word.capitalize() for word in words),
        "title": " ".join(words[:-1]).capitalize(),
        "distribution": "tradingflow-" + kind.replace("_", "-").strip("-"),
        "group": ENTRY_POINT_GROUP,
    }
    texts = {"pyproject.toml": _PROJECT, f"{kind}.py": _NODE, f"test_{kind}.py": _TEST}
    target.mkdir(parents=True)
    for file, text in texts.items():
        (target / file).write_text(text.format(**values), encoding="utf-8")
    return [target / file for file in texts]
