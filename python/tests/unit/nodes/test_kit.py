from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import Field

from tradingflow.core.errors import InvalidInput, InvariantBroken, Refused
from tradingflow.py_worker.kit import (
    NOT_TAKEN,
    Amount,
    Handle,
    Node,
    NodeContext,
    NodeInputs,
    NodeOutputs,
    NodeParams,
    Secret,
    SecretRef,
    catalog,
    kinds_fit,
    missing,
    node_types,
    registry,
)
from tradingflow.py_worker.kit.testing import MemoryContext


class Params(NodeParams):
    factor: int = 2
    key: Secret | None = None


class Inputs(NodeInputs):
    price: Decimal
    many: Annotated[list[Any], Handle(many=True)] = Field(default_factory=list)
    label: str | None = None


class Outputs(NodeOutputs):
    amount: Amount
    rest: dict[str, Any] = NOT_TAKEN


class DoubleNode(Node[Params, Inputs, Outputs]):
    type = "double_node"
    title = "Double"
    description = "Doubles."
    category = "test"

    async def run(self, ctx: NodeContext, params: Params, inputs: Inputs) -> Outputs:
        return Outputs(amount=int(inputs.price) * params.factor)


NODE = DoubleNode()


def test_handles_are_read_off_the_models() -> None:
    handles = NODE.input_handles()
    assert {name: (h.kind, h.required, h.many) for name, h in handles.items()} == {
        "price": ("number", True, False),
        "many": ("any", False, True),
        "label": ("text", False, False),
    }
    assert {name: h.kind for name, h in NODE.output_handles().items()} == {"amount": "number", "rest": "object"}


@pytest.mark.parametrize(
    ("source", "target", "fits"), [("number", "number", True), ("any", "list", True), ("text", "number", False)]
)
def test_a_signal_fits_the_same_kind_or_any(source: Any, target: Any, fits: bool) -> None:
    assert kinds_fit(source, target) is fits


async def test_amounts_beyond_53_bits_travel_as_text(ctx: MemoryContext) -> None:
    outputs = await NODE.execute(ctx, {}, {"price": str(2**70)})
    assert outputs.signals() == {"amount": str(2**71)}
    assert outputs.not_taken() == {"rest"}


async def test_an_input_of_the_wrong_type_names_the_handle(ctx: MemoryContext) -> None:
    with pytest.raises(InvalidInput, match="price"):
        await NODE.execute(ctx, {}, {"price": "a lot"})


def test_an_unknown_parameter_is_named() -> None:
    assert [error.field for error in NODE.validate_params({"facter": 3})] == ["facter"]


def test_a_secret_written_into_the_flow_is_refused_and_not_repeated() -> None:
    errors = NODE.validate_params({"key": "hunter2-hunter2"})
    assert errors
    assert "hunter2" not in repr(errors)


def test_a_secret_is_named_by_reference() -> None:
    assert NODE.validate_params({"key": {"$secret": "telegram"}}) == []
    assert Params.model_validate({"key": {"$secret": "telegram"}}).key == SecretRef.model_validate(
        {"$secret": "telegram"}
    )


def test_a_part_this_worker_lacks_is_refused_by_name() -> None:
    with pytest.raises(Refused, match="the sandbox is not available"):
        missing("the sandbox").run()


def test_two_nodes_of_one_name_stop_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_all_nodes", lambda: iter([DoubleNode(), DoubleNode()]))
    registry.node_types.cache_clear()
    with pytest.raises(InvariantBroken, match="double_node"):
        registry.node_types()
    registry.node_types.cache_clear()


@pytest.mark.parametrize("entry", catalog(), ids=lambda entry: entry["type"])
def test_every_type_in_the_catalog_can_be_drawn_and_has_a_valid_example(entry: dict[str, Any]) -> None:
    assert entry["title"]
    assert entry["description"].endswith(".")
    assert entry["category"]
    assert node_types()[entry["type"]].validate_params(entry["example"]) == []
    for handle in entry["outputs"]:
        assert handle["description"], handle["name"]
    for name, schema in entry["config_schema"].get("properties", {}).items():
        assert "description" in schema or "$ref" in schema, name


@pytest.mark.parametrize("entry", catalog(), ids=lambda entry: entry["type"])
def test_the_longest_time_a_parameter_allows_fits_into_the_time_of_its_node(entry: dict[str, Any]) -> None:
    longest = entry["config_schema"]["properties"].get("timeout_s", {}).get("maximum", 0)
    assert longest <= entry["default_timeout_s"]
