"""A signed webhook with an idempotency key, in the form of the Standard Webhooks specification 1.0."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import timedelta
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from tradingflow.py_worker.kit import Json, Node, NodeContext, NodeInputs, NodeOutputs, NodeParams, Secret
from tradingflow.py_worker.kit.providers import accept


class Params(NodeParams):
    url: str = Field(max_length=4000, description="Public http or https address that takes the webhook")
    signing_secret: Secret | None = Field(
        default=None, description='Signs the body, as {"$secret": "name"}; the receiver checks `webhook-signature`'
    )
    timeout_s: float = Field(default=10, gt=0, le=60, description="Seconds until the receiver must have answered")


class Inputs(NodeInputs):
    data: Json = Field(description="What to send")


class Delivery(BaseModel):
    model_config = ConfigDict(frozen=True)

    status: int
    webhook_id: str


class Outputs(NodeOutputs):
    response: Delivery = Field(description="Status of the receiver, and the id by which it can tell a repetition")


class WebhookSenderNode(Node[Params, Inputs, Outputs]):
    type = "webhook_sender_node"
    title = "Webhook"
    description = "Posts data to an address of yours, signed, and with an id that stays the same when it is repeated."
    category = "integration"
    default_timeout = timedelta(seconds=75)  # the longest `timeout_s` fits
    example: ClassVar[dict[str, Any]] = {
        "url": "https://hooks.example.com/tradingflow",
        "signing_secret": {"$secret": "webhook"},
    }
    example_inputs: ClassVar[dict[str, Any]] = {"data": {"side": "buy", "price": "1990"}}

    async def run(self, ctx: NodeContext, params: Params, inputs: Inputs) -> Outputs:
        identity = "msg_" + hashlib.sha256(ctx.idempotency_key.encode()).hexdigest()[:32]
        timestamp = str(int(ctx.clock.now().timestamp()))
        document = {"flow_id": ctx.flow_id, "cycle": ctx.cycle, "node_id": ctx.node_id, "data": inputs.data}
        body = json.dumps(document).encode()
        headers = {
            "content-type": "application/json",
            "webhook-id": identity,
            "webhook-timestamp": timestamp,
            "idempotency-key": identity,
        }
        if params.signing_secret is not None:
            secret = await ctx.secrets.reveal(params.signing_secret)
            headers["webhook-signature"] = sign(secret, identity, timestamp, body)
        response = await ctx.http.request(
            "POST", params.url, headers=headers, content=body, timeout_s=params.timeout_s, follow_redirects=False
        )
        accept(response, "the receiver")
        return Outputs(response=Delivery(status=response.status, webhook_id=identity))


def sign(secret: str, identity: str, timestamp: str, body: bytes) -> str:
    """`v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`. A secret `whsec_…` is base64 of the key."""
    key = base64.b64decode(secret.removeprefix("whsec_")) if secret.startswith("whsec_") else secret.encode()
    signed = hmac.new(key, f"{identity}.{timestamp}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(signed.digest()).decode()
