"""Invariant 8: secrets never reach a log line."""

from __future__ import annotations

import logging

import pytest

from tradingflow.core.logging import configure_logging, get_logger, redact

CANARY = "canary-7f3a91"


@pytest.mark.parametrize(
    "fields",
    [
        {"password": CANARY},
        {"private_key": CANARY},
        {"headers": {"Authorization": f"Bearer {CANARY}"}},
        {"nested": [{"api_key": CANARY}]},
        {"url": f"amqp://user:{CANARY}@host/"},
        {"note": f"called with Bearer {CANARY}"},
        {"refresh_token": CANARY},
        {"error": ValueError(f"cannot reach redis://:{CANARY}@host/0")},
        {"body": CANARY.encode()},
    ],
    ids=lambda f: next(iter(f)),
)
def test_a_secret_in_any_field_is_blanked(fields: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("test")
    get_logger("t").warning("something happened", **fields)
    line = capsys.readouterr().out
    assert "something happened" in line
    assert CANARY not in line


def _refuse() -> None:
    raise OSError(f"postgresql://me:{CANARY}@db refused")


def test_a_secret_in_a_library_log_or_traceback_is_blanked(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("test")
    try:
        _refuse()
    except OSError:
        logging.getLogger("some.library").exception("cannot connect to amqp://u:%s@mq", CANARY)
    out = capsys.readouterr().out
    assert "cannot connect" in out
    assert CANARY not in out


def test_public_token_addresses_stay_readable() -> None:
    assert redact({"token_in": "0xabc"}) == {"token_in": "0xabc"}
