"""The node itself, and what a graph needs to know of its type."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, Generic, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from tradingflow.core.errors import InvalidInput, Refused
from tradingflow.py_worker.kit.batch import BatchRun, BatchTape, Column, Idle
from tradingflow.py_worker.kit.context import NodeContext
from tradingflow.py_worker.kit.handles import HandleSpec, Json, NodeInputs, NodeOutputs, NodeParams

P = TypeVar("P", bound=NodeParams)
I = TypeVar("I", bound=NodeInputs)  # noqa: E741
O = TypeVar("O", bound=NodeOutputs)  # noqa: E741


_ParamsModel = type[NodeParams]
_InputsModel = type[NodeInputs]
_OutputsModel = type[NodeOutputs]


class NodeFailed(Refused):
    """The node did its work and the answer is no: bad data from a provider, an error in user code."""


@dataclass(frozen=True)
class ParamError:
    """One thing wrong with a node's config; `field` is its dotted path."""

    field: str
    message: str


class Node(ABC, Generic[P, I, O]):
    """One type of node: stateless, one instance a process.

    A subclass says `class MyNode(Node[MyParams, MyInputs, MyOutputs])`, names its `type` and implements `run`.
    Everything that changes goes through `ctx`.
    """

    type: ClassVar[str]
    title: ClassVar[str]
    description: ClassVar[str]
    category: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    example: ClassVar[Mapping[str, Any]] = {}
    """A `config` that is valid; shown in the catalog and the docs."""
    example_inputs: ClassVar[Mapping[str, Any]] = {}
    """What the example needs at its input handles; every required one."""
    default_timeout: ClassVar[timedelta] = timedelta(seconds=30)
    """How long one run may take where the flow says nothing else."""
    Params: ClassVar[_ParamsModel]
    Inputs: ClassVar[_InputsModel]
    Outputs: ClassVar[_OutputsModel]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for base in getattr(cls, "__orig_bases__", ()):
            if get_origin(base) is Node:
                cls.Params, cls.Inputs, cls.Outputs = get_args(base)

    @abstractmethod
    async def run(self, ctx: NodeContext, params: P, inputs: I) -> O:
        """One cycle's work. Raise NodeFailed, or let TradingFlowError through; anything else is a defect."""

    def batch(self, run: BatchRun, params: P) -> Mapping[str, Column] | None:
        """What `run` gives in every cycle of a backtest by output handle, bit for bit; None: ask `run` cycle by cycle.

        Only for nodes without effects. Decline when any of the runs would fail.
        """
        return None

    def idle(self, tape: BatchTape, params: P, connected: Collection[str]) -> Idle | None:
        """When a run has nothing to do, so that a backtest need not run it; None: run it always.

        `connected` are the input handles that edges or literals feed.
        """
        return None

    def input_handles(self) -> dict[str, HandleSpec]:
        return self.Inputs.handles()

    def output_handles(self) -> dict[str, HandleSpec]:
        return self.Outputs.handles()

    def has_open_inputs(self) -> bool:
        """Whether edges may end at handles of any name."""
        return self.Inputs.is_open()

    def has_open_outputs(self) -> bool:
        """Whether edges may start at handles of any name."""
        return self.Outputs.is_open()

    def validate_params(self, config: Mapping[str, Any]) -> list[ParamError]:
        """What is wrong with a config; empty when it will do. Never repeats a value, which might be a secret."""
        try:
            self.Params.model_validate(config)
        except ValidationError as error:
            return _param_errors(error)
        return []

    async def execute(self, ctx: NodeContext, config: Mapping[str, Any], inputs: Mapping[str, Json]) -> NodeOutputs:
        """`run` on JSON: what the runtime calls. Raises InvalidInput when config or inputs do not fit."""
        return await self.run(ctx, self.read_params(config), self.read_inputs(inputs))

    def read_params(self, config: Mapping[str, Any]) -> P:
        """Raises InvalidInput when the config does not fit."""
        params: P = _validated(self.Params, config, "invalid_config")
        return params

    def read_inputs(self, inputs: Mapping[str, Json]) -> I:
        """Raises InvalidInput when the inputs do not fit."""
        values: I = _validated(self.Inputs, inputs, "invalid_input")
        return values


def _validated(model: type[BaseModel], values: Mapping[str, Any], code: str) -> Any:
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        what = "; ".join(f"{e.field}: {e.message}" for e in _param_errors(error))
        raise InvalidInput(code, what) from error


def _param_errors(error: ValidationError) -> list[ParamError]:
    return [
        ParamError(".".join(str(part) for part in item["loc"]) or "config", item["msg"])
        for item in error.errors(include_url=False, include_context=False, include_input=False)
    ]
