"""Which tokens look like spam."""

from __future__ import annotations

import pytest

from tradingflow.account_manager.token.metadata import TokenMetadata
from tradingflow.account_manager.token.spam import spam_reason
from tradingflow.core.evm import address_from_bytes

USDC = address_from_bytes(b"\x01" * 20)
OTHER = address_from_bytes(b"\x02" * 20)


@pytest.mark.parametrize(
    ("symbol", "name", "reason"),
    [
        ("WETH", "Wrapped Ether", None),
        ("YFI", "yearn.finance", None),
        (None, None, None),
        ("USDC", "USD Coin", "imitation"),
        ("usdc", "USD Coin", "imitation"),
        ("U\u0405DC", "USD Coin", "lookalike"),
        ("aave-gift.com", "x", "link"),
        ("X", "see https://x.example", "link"),
        ("X", "Visit us to claim your 1000 USDC", "lure"),
        ("RECLAIM", "Reclaimed Wood", None),
    ],
)
def test_words_that_lure_or_lie_make_spam(symbol: str | None, name: str | None, reason: str | None) -> None:
    assert spam_reason(OTHER, TokenMetadata(symbol, name, 6), {"USDC": USDC}) == reason


def test_the_trusted_token_itself_is_none() -> None:
    assert spam_reason(USDC, TokenMetadata("USDC", "USD Coin", 6), {"USDC": USDC}) is None
