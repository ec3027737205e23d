"""A message through the Telegram Bot API."""

from __future__ import annotations

import asyncio
import json
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from tradingflow.core.errors import TooManyRequests
from tradingflow.outbound.client import HttpResponse
from tradingflow.py_worker.kit import Json, Node, NodeContext, NodeInputs, NodeOutputs, NodeParams, Secret
from tradingflow.py_worker.kit.node import NodeFailed
from tradingflow.py_worker.kit.providers import accept, excerpt, malformed, parse_json

LONGEST_MESSAGE = 4096
MOST_TRIES = 3
LONGEST_WAIT_S = 20
PROVIDER = "Telegram"


class Params(NodeParams):
    bot_token: Secret = Field(description='The bot\'s token, as {"$secret": "name"}')
    chat_id: str = Field(pattern=r"^(-?\d{1,20}|@\w{3,40})$", description="Numeric chat id, or @name of a channel")
    text: str = Field(
        default="{message}", min_length=1, max_length=LONGEST_MESSAGE, description="{message} stands for the input"
    )
    parse_mode: Literal["HTML", "MarkdownV2"] | None = Field(default=None, description="How Telegram reads markup")
    api_url: str = Field(default="https://api.telegram.org", description="Address of the Bot API server")


class Inputs(NodeInputs):
    message: Json = Field(default=None, description="What to say; what is not text is shown as JSON")


class Sent(BaseModel):
    model_config = ConfigDict(frozen=True)

    message_id: int
    chat_id: str


class Outputs(NodeOutputs):
    result: Sent = Field(description="Id of the message in its chat")


class TelegramSenderNode(Node[Params, Inputs, Outputs]):
    type = "telegram_sender_node"
    title = "Telegram"
    description = "Sends a message to a Telegram chat; waits as long as Telegram asks when it is busy."
    category = "integration"
    example: ClassVar[dict[str, Any]] = {
        "bot_token": {"$secret": "telegram"},
        "chat_id": "@my_channel",
        "text": "Bought: {message}",
    }
    example_inputs: ClassVar[dict[str, Any]] = {"message": "0.5 ETH at 1990"}

    async def run(self, ctx: NodeContext, params: Params, inputs: Inputs) -> Outputs:
        said = inputs.message if isinstance(inputs.message, str) else json.dumps(inputs.message)
        # Cut before as well: a text may name the message hundreds of times.
        text = params.text.replace("{message}", said[:LONGEST_MESSAGE])[:LONGEST_MESSAGE]
        body = {"chat_id": params.chat_id, "text": text}
        if params.parse_mode:
            body["parse_mode"] = params.parse_mode
        token = await ctx.secrets.reveal(params.bot_token)
        response = await _send(ctx, f"{params.api_url.rstrip('/')}/bot{token}/sendMessage", body)
        answer = parse_json(response, PROVIDER)
        try:
            return Outputs(result=Sent(message_id=answer["result"]["message_id"], chat_id=params.chat_id))
        except (KeyError, TypeError, ValueError) as error:
            raise malformed(PROVIDER, "its answer names no message") from error


async def _send(ctx: NodeContext, url: str, body: dict[str, str]) -> HttpResponse:
    """Try again when Telegram says it is busy, after the delay it names."""
    content = json.dumps(body).encode()
    for attempt in range(MOST_TRIES):
        response = await ctx.http.request(
            "POST", url, headers={"content-type": "application/json"}, content=content, follow_redirects=False
        )
        wait_s = _retry_after_s(response)
        if wait_s is None:
            _accept(response)
            return response
        if wait_s > LONGEST_WAIT_S or attempt == MOST_TRIES - 1:
            raise TooManyRequests("provider_busy", f"{PROVIDER} asks for a pause of {wait_s} s", wait_s)
        ctx.log.info("Telegram is busy, waiting", seconds=wait_s)
        await asyncio.sleep(wait_s)
    raise TooManyRequests("provider_busy", f"{PROVIDER} stays busy", LONGEST_WAIT_S)


def _retry_after_s(response: HttpResponse) -> int | None:
    """Seconds from `parameters.retry_after` of a 429; None for any other answer."""
    if response.status != 429:
        return None
    try:
        return max(0, int(json.loads(response.body)["parameters"]["retry_after"]))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return 1


def _accept(response: HttpResponse) -> None:
    """Telegram's own words for a refusal, which never hold the token."""
    if response.status in (401, 404):
        raise NodeFailed("provider_refused", "Telegram does not know this bot token")
    if 400 <= response.status < 500:
        raise NodeFailed("provider_refused", f"Telegram refuses: {excerpt(response.body)}")
    accept(response, PROVIDER)
