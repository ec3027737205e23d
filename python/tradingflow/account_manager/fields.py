"""What amounts, prices, addresses and hashes look like in this service's JSON."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from tradingflow.core.errors import InvalidInput
from tradingflow.core.evm import parse_address, parse_hash32
from tradingflow.core.money import parse_base_units

T = TypeVar("T")
# PostgreSQL's bigint; chain ids and block numbers beyond it do not exist.
MAX_BIGINT = 2**63 - 1


def _speaking(parse: Callable[[str], T]) -> Callable[[object], T]:
    """A parser of ours as pydantic wants it: its InvalidInput becomes a ValueError with the same sentence."""

    def validate(value: object) -> T:
        if not isinstance(value, str):
            raise ValueError("must be a string")  # noqa: TRY004 - pydantic turns ValueError into a 422
        try:
            return parse(value)
        except InvalidInput as error:
            raise ValueError(error.detail) from error

    return validate


def _plain(value: Decimal) -> str:
    """Without exponent and without trailing zeros."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


EvmAddressField = Annotated[
    str,
    BeforeValidator(_speaking(parse_address)),
    WithJsonSchema({"type": "string", "pattern": "^0x[0-9a-fA-F]{40}$", "description": "20 bytes, EIP-55 checksum"}),
]
Hash32Field = Annotated[
    str,
    BeforeValidator(_speaking(parse_hash32)),
    WithJsonSchema({"type": "string", "pattern": "^0x[0-9a-fA-F]{64}$", "description": "32 bytes"}),
]
BaseUnitsField = Annotated[
    int,
    BeforeValidator(lambda v: v if isinstance(v, int) and not isinstance(v, bool) else _speaking(parse_base_units)(v)),
    PlainSerializer(str, return_type=str),
    WithJsonSchema(
        {"type": "string", "pattern": "^[0-9]{1,78}$", "description": "whole base units, at most 2^256 - 1"}
    ),
]
DecimalField = Annotated[
    Decimal,
    PlainSerializer(_plain, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$", "description": "exact decimal number"}),
]
ChainId = Annotated[int, Field(gt=0, le=MAX_BIGINT, description="EIP-155 chain id")]
BlockNumber = Annotated[int, Field(ge=0, le=MAX_BIGINT)]


class RequestModel(BaseModel):
    """A request body: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_max_length=10_000)


class ResponseModel(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)
