"""`argument=name:value` of a query, as events' arguments are stored. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tradingflow.chain.decoder import WIDEST_NUMBER_BITS
from tradingflow.core.errors import InvalidInput
from tradingflow.core.evm import parse_address

MAX_ARGUMENTS = 4
MAX_CHARS = 256
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_HEX = re.compile(r"0x(?:[0-9a-fA-F]{2})*")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,77})")
_NAME = re.compile(r"[A-Za-z_$][\w$]{0,255}", re.ASCII)


def parse_arguments(texts: Sequence[str]) -> list[list[dict[str, Any]]]:
    """For each `name:value` what the stored arguments may hold. Raises InvalidInput."""
    if len(texts) > MAX_ARGUMENTS:
        raise InvalidInput("too_many_arguments", f"at most {MAX_ARGUMENTS} arguments can be asked for")
    return [_possible(text) for text in texts]


def _possible(text: str) -> list[dict[str, Any]]:
    name, colon, value = text.partition(":")
    if not colon or not _NAME.fullmatch(name) or len(value) > MAX_CHARS or not value.isprintable():
        raise InvalidInput("invalid_argument", "an argument is asked for as name:value, for example to:0x00… or id:7")
    return [{name: form} for form in _forms(value)]


def _forms(value: str) -> list[Any]:
    """A value is text, unless it also reads as something the decoder stores in another form."""
    if _ADDRESS.fullmatch(value):
        return [parse_address(value.lower())]
    if _HEX.fullmatch(value):
        return [value.lower(), value] if value != value.lower() else [value]
    forms: list[Any] = [value]
    if _INTEGER.fullmatch(value) and abs(int(value)) < 2**WIDEST_NUMBER_BITS:
        forms.append(int(value))
    if value in {"true", "false"}:
        forms.append(value == "true")
    return forms
