"""Nodes made for testing: each does one thing an engine test needs."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import timedelta
from typing import Annotated, Any

from tradingflow.core.errors import Refused
from tradingflow.py_worker.kit import NOT_TAKEN, Handle, Node, NodeContext, NodeInputs, NodeOutputs, NodeParams
from tradingflow.py_worker.kit.node import NodeFailed


class Value(NodeOutputs):
    value: Any = None


class MaybeValue(NodeInputs):
    value: Any = None


class NoParams(NodeParams):
    pass


class EmitParams(NodeParams):
    value: Any = 1


class Emit(Node[EmitParams, NodeInputs, Value]):
    """Gives its parameter."""

    type, title, description, category = "emit", "Emit", "Gives a value.", "test"

    async def run(self, ctx: NodeContext, params: EmitParams, inputs: NodeInputs) -> Value:
        ctx.log.info("emitting", what=params.value)
        return Value(value=params.value)


class NumberInput(NodeInputs):
    value: float


class Number(NodeOutputs):
    value: float


class Add(Node[EmitParams, NumberInput, Number]):
    """Adds its parameter."""

    type, title, description, category = "add", "Add", "Adds a number.", "test"

    async def run(self, ctx: NodeContext, params: EmitParams, inputs: NumberInput) -> Number:
        return Number(value=inputs.value + params.value)


class ManyInputs(NodeInputs):
    values: Annotated[list[Any], Handle(many=True)] = []  # noqa: RUF012


class Gather(Node[NoParams, ManyInputs, Value]):
    """Gives the list of what came."""

    type, title, description, category = "gather", "Gather", "Gives all values.", "test"

    async def run(self, ctx: NodeContext, params: NoParams, inputs: ManyInputs) -> Value:
        return Value(value=inputs.values)


class Pass(Node[NoParams, MaybeValue, Value]):
    """Does nothing."""

    type, title, description, category = "pass", "Pass", "Passes its value on.", "test"

    async def run(self, ctx: NodeContext, params: NoParams, inputs: MaybeValue) -> Value:
        return Value(value=inputs.value)


class SplitOutputs(NodeOutputs):
    true: Any = NOT_TAKEN
    false: Any = NOT_TAKEN


class Split(Node[EmitParams, MaybeValue, SplitOutputs]):
    """Takes the branch its parameter says."""

    type, title, description, category = "split", "Split", "Takes one branch.", "test"

    async def run(self, ctx: NodeContext, params: EmitParams, inputs: MaybeValue) -> SplitOutputs:
        return SplitOutputs(true=inputs.value) if params.value else SplitOutputs(false=inputs.value)


class FailParams(NodeParams):
    times: int = 1_000_000
    defect: bool = False


class Fail(Node[FailParams, MaybeValue, Value]):
    """Fails the first `times` times it is run with one idempotency key."""

    type, title, description, category = "fail", "Fail", "Fails.", "test"
    keys: dict[str, int] = defaultdict(int)  # noqa: RUF012 - one a process, as the node itself

    async def run(self, ctx: NodeContext, params: FailParams, inputs: MaybeValue) -> Value:
        self.keys[ctx.idempotency_key] += 1
        if self.keys[ctx.idempotency_key] <= params.times:
            if params.defect:
                raise ZeroDivisionError
            raise Refused("no_luck", "this node was told to fail")
        return Value(value=self.keys[ctx.idempotency_key])


class SleepParams(NodeParams):
    seconds: float = 0.05


class Sleep(Node[SleepParams, MaybeValue, Value]):
    """Waits; records who was cancelled."""

    type, title, description, category = "sleep", "Sleep", "Waits.", "test"
    default_timeout = timedelta(seconds=60)
    started: list[str] = []  # noqa: RUF012
    cancelled: list[str] = []  # noqa: RUF012

    async def run(self, ctx: NodeContext, params: SleepParams, inputs: MaybeValue) -> Value:
        self.started.append(ctx.idempotency_key)
        try:
            await asyncio.sleep(params.seconds)
        except asyncio.CancelledError:
            self.cancelled.append(ctx.idempotency_key)
            raise
        return Value(value=inputs.value)


class Count(Node[NoParams, MaybeValue, Number]):
    """Remembers how many cycles it ran in."""

    type, title, description, category = "count", "Count", "Counts its runs.", "test"

    async def run(self, ctx: NodeContext, params: NoParams, inputs: MaybeValue) -> Number:
        count = (await ctx.state.get("count") or 0) + 1
        await ctx.state.set("count", count)
        return Number(value=count)


class Text(NodeOutputs):
    text: str


class Say(Node[EmitParams, NodeInputs, Text]):
    """Gives a text, so that a number handle can refuse it."""

    type, title, description, category = "say", "Say", "Gives a text.", "test"

    async def run(self, ctx: NodeContext, params: EmitParams, inputs: NodeInputs) -> Text:
        return Text(text=str(params.value))


class Told(Node[NoParams, NodeInputs, Value]):
    """Gives what started the cycle."""

    type, title, description, category = "told", "Told", "Gives its trigger.", "test"

    async def run(self, ctx: NodeContext, params: NoParams, inputs: NodeInputs) -> Value:
        return Value(value={"kind": ctx.trigger.kind, "payload": ctx.trigger.payload})


class OddParams(NodeParams):
    where: str


class Odd(Node[OddParams, MaybeValue, Value]):
    """Leaves something PostgreSQL cannot hold where its parameter says."""

    type, title, description, category = "odd", "Odd", "Leaves odd things.", "test"
    default_timeout = timedelta(seconds=60)

    async def run(self, ctx: NodeContext, params: OddParams, inputs: MaybeValue) -> Value:
        odd = "half a pair \ud800 and NUL \x00"
        if params.where == "log":
            ctx.log.info(odd, what=odd)
        elif params.where == "failure":
            raise NodeFailed("odd", odd)
        elif params.where == "question":
            await ctx.datasets.write("t", [{"a": odd}], append=True, write_key="k")
        elif params.where == "key":
            await ctx.state.set("k" * 9_000, 1)
        elif params.where == "deep":
            value: list[Any] = []
            for _ in range(100_000):
                value = [value]
            await ctx.state.set("deep", value)
        return Value(value=1)


_NODES = (Told(), Emit(), Add(), Gather(), Pass(), Split(), Fail(), Sleep(), Count(), Say(), Odd())
TEST_TYPES = {node.type: node for node in _NODES}


def node(node_id: str, kind: str, config: Any = None, **more: Any) -> dict[str, Any]:
    return {"id": node_id, "type": kind, "config": config or {}, **more}


def edge(source: str, target: str, source_handle: str = "value", target_handle: str = "value") -> dict[str, Any]:
    return {"source": source, "source_handle": source_handle, "target": target, "target_handle": target_handle}
