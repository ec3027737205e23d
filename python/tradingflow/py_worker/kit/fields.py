"""Parameter types several nodes share; their descriptions become the form's help texts."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from tradingflow.core.errors import InvalidInput
from tradingflow.core.evm import parse_address
from tradingflow.py_worker.engine.interval import ALLOWED
from tradingflow.py_worker.kit.rows import MAX_ROWS_STORED


def _address(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("an address is text: 0x followed by 40 hex digits")  # noqa: TRY004 - pydantic wants ValueError
    try:
        return parse_address(value)
    except InvalidInput as error:
        raise ValueError(error.detail) from error


Address = Annotated[
    str, BeforeValidator(_address), WithJsonSchema({"type": "string", "pattern": "^0x[0-9a-fA-F]{40}$"})
]
ChainId = Annotated[int, Field(gt=0, description="EVM chain id, e.g. 1 for Ethereum")]
SlippageBps = Annotated[
    int,
    Field(ge=1, le=1000, description="How much less than the quote you accept, in basis points (100 = 1 %)"),
]
PoolFee = Annotated[
    int, Field(gt=0, lt=1_000_000, description="Pool fee in hundredths of a basis point (3000 = 0.3 %)")
]


def _no_truth(allowed: str) -> BeforeValidator:
    """Pydantic takes true for 1 and false for 0."""

    def validate(value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError(allowed)  # noqa: TRY004 - pydantic wants ValueError
        return value

    return BeforeValidator(validate)


# What an interval is, the engine judges.
CycleInterval = Annotated[int | float | str, _no_truth(ALLOWED)]
KeepRows = Annotated[
    int,
    Field(ge=1, le=MAX_ROWS_STORED),
    _no_truth(f"keep_rows is how many of the newest rows stay: a number from 1 to {MAX_ROWS_STORED}, or null for all"),
]
PositiveDecimal = Annotated[Decimal, Field(gt=0, allow_inf_nan=False)]
