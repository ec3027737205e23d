"""Waits for a person's yes or no."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar, Literal

from pydantic import Field

from tradingflow.py_worker.kit import NOT_TAKEN, Asking, Json, Node, NodeContext, NodeInputs, NodeOutputs, NodeParams

LONGEST_WAIT_S = 6 * 86_400


class Params(NodeParams):
    question: str = Field(
        min_length=1, max_length=2_000, pattern=r"^[^\x00]*$", description="What the person decides, with what arrives"
    )
    timeout_s: int = Field(
        default=3600, ge=1, le=LONGEST_WAIT_S, description="Seconds until the answer is the one of `on_timeout`"
    )
    on_timeout: Literal["approve", "reject"] = Field(default="reject", description="The answer when nobody gives one")


class Inputs(NodeInputs):
    data: Json = Field(default=None, description="Shown with the question, and passed on")


class Outputs(NodeOutputs):
    approved: Json = Field(default=NOT_TAKEN, description="What arrived, when the answer is yes")
    rejected: Json = Field(default=NOT_TAKEN, description="What arrived, when the answer is no")


class ApprovalNode(Node[Params, Inputs, Outputs]):
    type = "approval_node"
    title = "Approval"
    description = (
        "Waits for your yes or no (GET /approvals, POST /approvals/{id}) and goes on at `approved` or `rejected`."
    )
    category = "logic"
    default_timeout = timedelta(days=7)
    example: ClassVar[dict[str, Any]] = {"question": "Sell half of the ETH?", "timeout_s": 900, "on_timeout": "reject"}
    example_inputs: ClassVar[dict[str, Any]] = {"data": {"sell": "0.5", "price": "2410"}}

    async def run(self, ctx: NodeContext, params: Params, inputs: Inputs) -> Outputs:
        timeout = timedelta(seconds=params.timeout_s)
        approved = await ctx.approvals.ask(Asking(params.question, inputs.data, timeout, params.on_timeout))
        ctx.log.info("decided", approved=approved)
        return Outputs(approved=inputs.data) if approved else Outputs(rejected=inputs.data)
