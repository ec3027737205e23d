"""What amounts, prices, addresses and hashes look like in this service's JSON."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Annotated, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)

from tradingflow.account_manager.json_text import plain_text
from tradingflow.core.errors import InvalidInput
from tradingflow.core.evm import parse_address, parse_hash32
from tradingflow.core.money import parse_base_units

T = TypeVar("T")
_DATE_AND_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}", re.ASCII)
# What every JSON reader keeps exactly; chain ids and block numbers beyond it do not exist.
MAX_SAFE_INTEGER = 2**53 - 1


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


def _rfc3339(value: object) -> object:
    """Pydantic would also take numbers, as seconds or milliseconds by their size."""
    if not isinstance(value, str) or not _DATE_AND_TIME.match(value):
        raise ValueError("must be a time like 2030-01-01T00:00:00Z")
    return value


_ADDRESS_SCHEMA = WithJsonSchema(
    {"type": "string", "pattern": "^0x[0-9a-fA-F]{40}$", "description": "20 bytes, EIP-55 checksum"}
)
_HASH_SCHEMA = WithJsonSchema({"type": "string", "pattern": "^0x[0-9a-fA-F]{64}$", "description": "32 bytes"})
_BASE_UNITS_SCHEMA = WithJsonSchema(
    {"type": "string", "pattern": "^[0-9]{1,78}$", "description": "whole base units, at most 2^256 - 1"}
)

EvmAddressField = Annotated[
    str,
    BeforeValidator(_speaking(parse_address)),
    _ADDRESS_SCHEMA,
]
Hash32Field = Annotated[
    str,
    BeforeValidator(_speaking(parse_hash32)),
    _HASH_SCHEMA,
]
BaseUnitsField = Annotated[
    int,
    BeforeValidator(_speaking(parse_base_units)),
    PlainSerializer(str, return_type=str),
    _BASE_UNITS_SCHEMA,
]
# The same as an answer gives them: ours already, so there is nothing to check.
EvmAddressText = Annotated[str, _ADDRESS_SCHEMA]
Hash32Text = Annotated[str, _HASH_SCHEMA]
BaseUnitsText = Annotated[int, PlainSerializer(str, return_type=str), _BASE_UNITS_SCHEMA]
DecimalField = Annotated[
    Decimal,
    PlainSerializer(plain_text, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$", "description": "exact decimal number"}),
]
FIRST_YEAR, LAST_YEAR = 1970, 9000


def is_storable(moment: datetime) -> bool:
    """Whether PostgreSQL and arithmetic with a zone around it can hold this moment."""
    return FIRST_YEAR <= moment.year <= LAST_YEAR


def _storable(moment: datetime) -> datetime:
    if not is_storable(moment):
        raise ValueError(f"must lie between the years {FIRST_YEAR} and {LAST_YEAR}")
    return moment


Moment = Annotated[
    AwareDatetime,
    BeforeValidator(_rfc3339),
    AfterValidator(_storable),
    WithJsonSchema({"type": "string", "format": "date-time", "description": "RFC 3339, with its offset from UTC"}),
]
ChainId = Annotated[int, Field(gt=0, le=MAX_SAFE_INTEGER, description="EIP-155 chain id")]
BlockNumber = Annotated[int, Field(ge=0, le=MAX_SAFE_INTEGER)]


class RequestModel(BaseModel):
    """A request body: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_max_length=10_000)


class ResponseModel(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)
