"""The EIP-4361 parser: what it reads, and that nothing has a second spelling."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradingflow.account_manager.auth import siwe
from tradingflow.core.errors import InvalidInput, TradingFlowError, Unauthenticated

ADDRESS = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
OURS = siwe.Audience("app.example.org", "https://app.example.org")
PLAIN = siwe.compose(OURS, ADDRESS, 1, "abcdef0123456789", NOW)
FULL = (
    f"https://app.example.org wants you to sign in with your Ethereum account:\n{ADDRESS}\n\n\n"
    "URI: https://app.example.org\nVersion: 1\nChain ID: 1\nNonce: abcdef0123456789\n"
    "Issued At: 2026-11-22T12:00:00.123Z\nExpiration Time: 2026-11-22T13:00:00+01:30\n"
    "Not Before: 2026-11-22T11:59:00Z\nRequest ID: a-b_c\nResources:\n- https://a.example/b\n- ipfs://bafy"
)


def test_a_composed_message_reads_back() -> None:
    message = siwe.parse(PLAIN)
    assert (message.address, message.chain_id, message.issued_at) == (ADDRESS, 1, NOW)
    assert message.statement == siwe.STATEMENT
    siwe.check(message, OURS, NOW)


def test_every_optional_field_is_read_and_a_statement_may_be_missing() -> None:
    message = siwe.parse(FULL)
    assert (message.origin, message.statement) == ("https://app.example.org", None)
    assert message.expiration_time == datetime(2026, 11, 22, 11, 30, tzinfo=UTC)
    with pytest.raises(Unauthenticated, match="Expiration Time has passed"):
        siwe.check(message, OURS, NOW)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\nVersion: 1", "\nVersion: 2"),
        ("\nVersion: 1", "\nversion: 1"),
        ("\nVersion: 1", "\nVersion:  1"),
        ("\nVersion: 1", ""),
        ("\nChain ID: 1", "\nChain ID: 01"),
        ("\nChain ID: 1", "\nChain ID: +1"),
        ("\nChain ID: 1", "\nChain ID: 0x1"),
        ("\nChain ID: 1", "\nChain ID: 1\nChain ID: 2"),
        ("\nChain ID: 1", "\nChain ID: " + "9" * 30),
        ("Nonce: abcdef0123456789", "Nonce: short"),
        ("Nonce: abcdef0123456789", "Nonce: abcdef-123456789"),
        (ADDRESS, ADDRESS.lower()),
        (ADDRESS, ADDRESS[:-1]),
        (ADDRESS, "0X" + ADDRESS[2:]),
        ("\n\nSign", "\nSign"),
        ("funds.\n\nURI", "funds.\nURI"),
        ("URI: https://", "URI: not a uri "),
        ("2026-11-22T12:00:00Z", "2026-11-22 12:00:00Z"),
        ("2026-11-22T12:00:00Z", "2026-11-22T12:00:00"),
        ("2026-11-22T12:00:00Z", "2026-13-22T12:00:00Z"),
        ("2026-11-22T12:00:00Z", "0001-01-01T00:00:00+23:00"),
        ("2026-11-22T12:00:00Z", "2026-11-22T12:00:00Z\n"),
        ("2026-11-22T12:00:00Z", "2026-11-22T12:00:00Z\nExpiration Time: tomorrow"),
        ("2026-11-22T12:00:00Z", "2026-11-22T12:00:00Z\nResources:\n https://x"),
        ("2026-11-22T12:00:00Z", "2026-11-22T12:00:00Z\nIssued At: 2026-11-22T12:00:00Z"),
        ("sign in with", "sign  in with"),
        ("account:", "account"),
        ("\n", "\r\n"),
        ("costs nothing", "costs n\u00f6thing"),
        ("costs nothing", "costs\tnothing"),
        ("costs nothing", "costs nothing" + " " * 2048),
    ],
)
def test_a_message_in_another_spelling_is_refused(old: str, new: str) -> None:
    assert old in PLAIN
    with pytest.raises(InvalidInput):
        siwe.parse(PLAIN.replace(old, new, 1) if old != "\n" else PLAIN.replace(old, new))


@pytest.mark.parametrize(
    "origin",
    [
        "app.example.org.evil.com",
        "evil.com/app.example.org",
        "user@app.example.org",
        "app.example.org:443",
        "App.example.org",
        "app.example.org.",
        "http://app.example.org",
        "https://https://app.example.org",
        " app.example.org",
    ],
)
def test_only_our_exact_domain_is_accepted(origin: str) -> None:
    message = siwe.parse(PLAIN.replace("app.example.org wants", f"{origin} wants", 1))
    with pytest.raises(Unauthenticated, match="domain"):
        siwe.check(message, OURS, NOW)


@pytest.mark.parametrize("age", [timedelta(minutes=5, seconds=1), -timedelta(minutes=1, seconds=1)])
def test_a_message_issued_too_long_ago_or_in_the_future_is_refused(age: timedelta) -> None:
    with pytest.raises(Unauthenticated, match="Issued At"):
        siwe.check(siwe.parse(PLAIN), OURS, NOW + age)


def test_a_message_not_yet_valid_is_refused() -> None:
    late = PLAIN + "\nNot Before: 2026-11-22T12:00:30Z"
    with pytest.raises(Unauthenticated, match="Not Before"):
        siwe.check(siwe.parse(late), OURS, NOW)


@given(st.text(max_size=3000))
def test_arbitrary_text_is_refused_with_our_error_and_no_other(text: str) -> None:
    with pytest.raises(TradingFlowError):
        siwe.parse(text)


@given(st.integers(0, len(FULL) - 1), st.characters(codec="ascii"))
def test_a_message_with_one_character_changed_is_refused_or_means_something_else(place: int, character: str) -> None:
    changed = FULL[:place] + character + FULL[place + 1 :]
    try:
        message = siwe.parse(changed)
    except TradingFlowError:
        return
    # Request ID and resources mean nothing to us; everything else must differ when the text does.
    if changed != FULL and place < FULL.index("\nRequest ID"):
        assert message != siwe.parse(FULL)
