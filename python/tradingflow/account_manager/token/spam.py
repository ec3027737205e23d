"""Why a token looks like spam: its words lure or lie. Pure, and a hint only: nothing is refused because of it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tradingflow.account_manager.token.metadata import TokenMetadata

_LINK = re.compile(r"https?:|www\.|\bt\.me/", re.IGNORECASE)
# A web address in a symbol; in a name it may be honest (yearn.finance, Curve.fi).
_SITE = re.compile(r"\.(com|net|org|io|xyz|app|fi|finance|site|live|top|click|gift)\b", re.IGNORECASE)
_LURE = re.compile(r"\b(claim|visit|airdrops?|vouchers?|giveaway|redeem)\b", re.IGNORECASE)


def spam_reason(address: str, metadata: TokenMetadata, trusted: Mapping[str, str]) -> str | None:
    """`link`, `lure`, `lookalike` or `imitation`; None for a token that raises no suspicion.

    `trusted` maps the symbols of the chain's configured tokens, in upper case, to their addresses.
    """
    symbol, words = metadata.symbol or "", f"{metadata.symbol or ''} {metadata.name or ''}"
    if _LINK.search(words) or _SITE.search(symbol):
        return "link"
    if _LURE.search(words):
        return "lure"
    if not symbol.isascii():
        return "lookalike"
    if trusted.get(symbol.upper(), address) != address:
        return "imitation"
    return None
