"""A question to a language model behind any OpenAI-compatible endpoint."""

from __future__ import annotations

import asyncio
import importlib
import json
from datetime import timedelta
from decimal import Decimal
from typing import Any, ClassVar, Self

import httpx
from pydantic import AliasChoices, ConfigDict, Field, model_validator

from tradingflow.core.errors import DependencyUnavailable, InvalidInput, TooManyRequests, TradingFlowError
from tradingflow.py_worker.kit import Json, Node, NodeContext, NodeFailed, NodeInputs, NodeOutputs, NodeParams, Secret
from tradingflow.py_worker.kit.fields import PositiveDecimal
from tradingflow.py_worker.kit.providers import ContextTransport, malformed
from tradingflow.py_worker.kit.values import variables

TIMEOUT_S = 90.0
PER_MILLION = 1_000_000


class Params(NodeParams):
    model: str = Field(min_length=1, max_length=200, description="The endpoint's name of the model")
    prompt: str = Field(
        min_length=1, max_length=50_000, description="The question; {name} stands for the input at the handle `name`"
    )
    system: str | None = Field(default=None, max_length=50_000, description="What the model is told to be")
    base_url: str = Field(
        default="https://api.openai.com/v1",
        validation_alias=AliasChoices("base_url", "endpoint"),
        description="An OpenAI-compatible endpoint",
    )
    api_key: Secret | None = Field(default=None, description='API key, as {"$secret": "name"}')
    output_schema: dict[str, Any] | None = Field(
        default=None, description="JSON schema of the answer; with it the answer is an object"
    )
    temperature: float | None = Field(default=None, ge=0, le=2, description="How freely the model answers")
    max_input_chars: int = Field(default=100_000, ge=1, le=1_000_000, description="Longest prompt, inputs filled in")
    max_output_tokens: int = Field(default=1000, ge=1, le=32_000, description="Most tokens of an answer")
    max_cost: PositiveDecimal | None = Field(
        default=None, description="Refuse to ask when the answer could cost more; in the currency of the prices below"
    )
    input_price: PositiveDecimal | None = Field(default=None, description="Price of a million input tokens")
    output_price: PositiveDecimal | None = Field(default=None, description="Price of a million output tokens")

    @model_validator(mode="after")
    def _a_limit_needs_prices(self) -> Self:
        if self.max_cost is not None and (self.input_price is None or self.output_price is None):
            raise ValueError("max_cost needs input_price and output_price")
        return self


class Inputs(NodeInputs):
    model_config = ConfigDict(extra="allow")


class Outputs(NodeOutputs):
    ai_response: Json = Field(description="The answer: text, or an object where `output_schema` is given")


class AiModelNode(Node[Params, Inputs, Outputs]):
    type = "ai_model_node"
    title = "AI model"
    description = "Asks a language model, with the inputs in the prompt, within limits of length and cost."
    category = "analysis"
    default_timeout = timedelta(seconds=120)
    example: ClassVar[dict[str, Any]] = {
        "model": "gpt-5-mini",
        "api_key": {"$secret": "openai"},
        "prompt": "Is the mood of these headlines good or bad for ETH? {headlines}",
    }
    example_inputs: ClassVar[dict[str, Any]] = {"headlines": ["ETH climbs after upgrade", "Fees at a two-year low"]}

    async def run(self, ctx: NodeContext, params: Params, inputs: Inputs) -> Outputs:
        prompt = _within_limits(params, fill(params.prompt, variables(inputs.model_extra or {}, ctx.incoming)))
        try:
            answer = await _ask(ctx, params, prompt)
        except httpx.InvalidURL as error:
            raise InvalidInput("invalid_url", "the address of the model endpoint cannot be read") from error
        return Outputs(ai_response=_read(answer, params.output_schema))


def fill(prompt: str, values: dict[str, Json]) -> list[str]:
    """Each {name} of an input replaced; other braces are left alone, and a value is never searched for names again.

    In pieces, which share a value that is named often: joined they may be of any length.
    """
    pieces = [prompt]
    for name, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        pieces = [part for piece in pieces for part in _split(piece, "{" + name + "}", _Filled(text))]
    return pieces


class _Filled(str):
    """Text that came from an input."""

    __slots__ = ()


def _split(piece: str, mark: str, value: _Filled) -> list[str]:
    if isinstance(piece, _Filled) or mark not in piece:
        return [piece]
    parts: list[str] = []
    for index, part in enumerate(piece.split(mark)):
        parts += [part] if index == 0 else [value, part]
    return parts


def _within_limits(params: Params, pieces: list[str]) -> str:
    """The prompt, before anything is paid for. A token has at least one byte, so bytes bound the tokens from above."""
    system = params.system or ""
    length = sum(map(len, pieces)) + len(system)
    if length > params.max_input_chars:
        allowed = params.max_input_chars
        raise NodeFailed("prompt_too_long", f"the prompt has {length} characters, allowed are {allowed}")
    prompt = "".join(pieces)
    if params.max_cost is None or params.input_price is None or params.output_price is None:
        return prompt
    size = len((prompt + system).encode())
    worst = (size * params.input_price + params.max_output_tokens * params.output_price) / PER_MILLION
    if worst > params.max_cost:
        said = f"the answer could cost {worst.normalize():f}, allowed are {params.max_cost:f}"
        raise NodeFailed("too_expensive", said)
    return prompt


async def _ask(ctx: NodeContext, params: Params, prompt: str) -> str:
    openai = await asyncio.to_thread(importlib.import_module, "openai")  # seconds of processor time, the first time
    key = await ctx.secrets.reveal(params.api_key) if params.api_key else "none"
    transport = ContextTransport(ctx.http, timeout_s=TIMEOUT_S)
    async with (
        httpx.AsyncClient(transport=transport, trust_env=False) as http,
        openai.AsyncOpenAI(api_key=key, base_url=params.base_url, http_client=http, max_retries=0) as client,
    ):
        try:
            completion = await client.chat.completions.create(**_request(params, prompt))
        except openai.RateLimitError as error:
            raise TooManyRequests("provider_busy", "the model endpoint asks us to slow down", 10) from error
        except openai.APIStatusError as error:
            raise _refusal(error.status_code) from error
        except openai.APIError as error:
            raise _cause(error) from error
        except (ValueError, TypeError, RecursionError) as error:
            raise malformed("the model endpoint", "its answer is no completion") from error
    return _text(ctx, params, completion)


def _request(params: Params, prompt: str) -> dict[str, Any]:
    messages = [{"role": "system", "content": params.system}] if params.system else []
    request: dict[str, Any] = {
        "model": params.model,
        "messages": [*messages, {"role": "user", "content": prompt}],
        "max_tokens": params.max_output_tokens,
    }
    if params.temperature is not None:
        request["temperature"] = params.temperature
    if params.output_schema is not None:
        schema = {"name": "answer", "strict": True, "schema": params.output_schema}
        request["response_format"] = {"type": "json_schema", "json_schema": schema}
    return request


def _refusal(status: int) -> TradingFlowError:
    if status >= 500:
        return DependencyUnavailable("provider_failed", f"the model endpoint answers {status}")
    return NodeFailed("provider_refused", f"the model endpoint answers {status}; check the model, key and schema")


def _cause(error: Exception) -> TradingFlowError:
    """The guarded client's own error where the library wrapped one."""
    inner = error.__cause__
    return inner if isinstance(inner, TradingFlowError) else malformed("the model endpoint", type(error).__name__)


def _text(ctx: NodeContext, params: Params, completion: Any) -> str:
    try:
        text = completion.choices[0].message.content
        usage = completion.usage
    except (AttributeError, IndexError, TypeError) as error:
        raise malformed("the model endpoint", "its answer holds no message") from error
    if not isinstance(text, str):
        raise NodeFailed("no_answer", "the model gave no text")
    tokens_in, tokens_out = getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None)
    ctx.log.info("asked a model", model=params.model, input_tokens=tokens_in, output_tokens=tokens_out,
                 cost=_cost(params, tokens_in, tokens_out))  # fmt: skip
    return text


def _cost(params: Params, tokens_in: int | None, tokens_out: int | None) -> str | None:
    if params.input_price is None or params.output_price is None or tokens_in is None or tokens_out is None:
        return None
    return f"{(Decimal(tokens_in) * params.input_price + Decimal(tokens_out) * params.output_price) / PER_MILLION:f}"


def _read(text: str, schema: dict[str, Any] | None) -> Json:
    if schema is None:
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NodeFailed("no_json", "the model did not answer with JSON, though a schema was given") from error
