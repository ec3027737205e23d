"""Journaled answers as the values nodes got: the way back of `runtime.journal.answer_of`."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NoReturn

from pydantic import TypeAdapter

from tradingflow.core.errors import DependencyUnavailable, InvalidInput, Refused, TradingFlowError
from tradingflow.outbound.client import HttpResponse
from tradingflow.py_worker.kit import CodeResult, PoolPrice, Quote, TokenInfo, TradeReceipt

_KINDS: Mapping[str, type[TradingFlowError]] = {
    "InvalidInput": InvalidInput,
    "DependencyUnavailable": DependencyUnavailable,
}
_ADAPTERS: Mapping[tuple[str, str], TypeAdapter[Any]] = {
    ("clock", "now"): TypeAdapter(datetime),
    ("markets", "token"): TypeAdapter(TokenInfo),
    ("markets", "pool_price"): TypeAdapter(PoolPrice),
    ("markets", "pool_twap"): TypeAdapter(PoolPrice),
    ("markets", "quote"): TypeAdapter(Quote),
    ("markets", "balances"): TypeAdapter(dict[str, int]),
    ("markets", "pools"): TypeAdapter(tuple[str, ...]),
    ("trades", "swap"): TypeAdapter(TradeReceipt),
    ("trades", "resume"): TypeAdapter(TradeReceipt | None),
    ("code", "run"): TypeAdapter(CodeResult),
}


def value_of(part: str, call: str, result: Any) -> Any:
    """The value a part gave, of the type it gave."""
    if (part, call) == ("http", "request"):
        body = result["text"].encode() if "text" in result else base64.b64decode(result["base64"])
        return HttpResponse(result["status"], result["headers"], body, result["url"])
    adapter = _ADAPTERS.get((part, call))
    return result if adapter is None else adapter.validate_python(result)


def raise_told(error: Mapping[str, str]) -> NoReturn:
    """Raise what the part raised then."""
    raise _KINDS.get(error["kind"], Refused)(error["code"], error["detail"])
