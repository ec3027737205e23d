"""Gives what started the cycle: the webhook's body, or the contract event."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from tradingflow.py_worker.kit import Json, Node, NodeContext, NodeInputs, NodeOutputs, NodeParams


class Outputs(NodeOutputs):
    payload: Json = Field(default=None, description="The webhook's body (JSON or text), or the contract event")
    kind: str = Field(description="`interval cron manual rerun partial node webhook contract_event`")


class TriggerNode(Node[NodeParams, NodeInputs, Outputs]):
    type = "trigger_node"
    title = "Trigger"
    description = "What started this cycle: the body of the webhook call, or the contract event with its arguments."
    category = "logic"
    example: ClassVar[dict[str, Any]] = {}

    async def run(self, ctx: NodeContext, params: NodeParams, inputs: NodeInputs) -> Outputs:
        return Outputs(payload=ctx.trigger.payload, kind=ctx.trigger.kind)
