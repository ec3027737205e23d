"""The guide to webhooks: its example verifies what we sign and nothing else, and its lists are those of the code."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args
from uuid import uuid4

import pytest

from tradingflow.account_manager.notification import signing
from tradingflow.account_manager.notification.delivery import MAX_RETRY_AFTER_S, PAUSES_S
from tradingflow.account_manager.notification.senders import TIMEOUT_S
from tradingflow.account_manager.notification.topics import CONTRACT_EVENT, CONTRACT_EVENT_REVERTED, TEST, Topic
from tradingflow.account_manager.server import create_app
from tradingflow.core.config import AccountManagerSettings
from tradingflow.py_worker.nodes.webhook_sender_node import sign

GUIDE = (Path(__file__).resolve().parents[4] / "docs/guides/webhooks.md").read_text(encoding="utf-8")
BODY = '{"type": "trade.completed", "data": {"symbol": "é"}}'.encode()
SECRET = signing.new_secret()
UNITS = {"s": 1, "min": 60, "h": 3600}


@pytest.fixture
def verify() -> Callable[..., None]:
    """The function of the guide, as somebody would paste it."""
    (example,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    found: Callable[..., None] = names["verify"]
    return found


def headers(moment: datetime | None = None) -> dict[str, str]:
    return signing.signed_headers(SECRET, uuid4(), moment or datetime.now(UTC), BODY)


def test_what_we_sign_is_verified(verify: Callable[..., None]) -> None:
    verify(signing.shown(SECRET), headers(), BODY)


def test_what_a_webhook_node_signs_is_verified(verify: Callable[..., None]) -> None:
    secret, now = signing.shown(SECRET), str(int(datetime.now(UTC).timestamp()))
    told = {"webhook-id": "msg_1", "webhook-timestamp": now, "webhook-signature": sign(secret, "msg_1", now, BODY)}
    verify(secret, told, BODY)


def test_one_of_several_signatures_is_enough(verify: Callable[..., None]) -> None:
    told = headers()
    told["webhook-signature"] = f"v1,AAAA {told['webhook-signature']}"
    verify(signing.shown(SECRET), told, BODY)


@pytest.mark.parametrize(
    "changed", [{"webhook-id": "another"}, {"webhook-signature": "v1,AAAA"}, {"webhook-signature": ""}]
)
def test_a_changed_header_is_refused(verify: Callable[..., None], changed: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="not signed"):
        verify(signing.shown(SECRET), headers() | changed, BODY)


def test_a_changed_time_is_refused(verify: Callable[..., None]) -> None:
    told = headers()
    told["webhook-timestamp"] = str(int(told["webhook-timestamp"]) + 1)
    with pytest.raises(ValueError, match="not signed"):
        verify(signing.shown(SECRET), told, BODY)


def test_a_changed_body_another_secret_and_an_old_post_are_refused(verify: Callable[..., None]) -> None:
    with pytest.raises(ValueError, match="not signed"):
        verify(signing.shown(SECRET), headers(), BODY + b" ")
    with pytest.raises(ValueError, match="not signed"):
        verify(signing.shown(signing.new_secret()), headers(), BODY)
    with pytest.raises(ValueError, match="too long ago"):
        verify(signing.shown(SECRET), headers(datetime.now(UTC) - timedelta(minutes=6)), BODY)


def test_the_topics_are_all_there() -> None:
    assert re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \| ", GUIDE, re.MULTILINE) == list(get_args(Topic))
    assert all(f"`{topic}`" in GUIDE for topic in (TEST, CONTRACT_EVENT, CONTRACT_EVENT_REVERTED))


def test_the_pauses_and_limits_are_those_of_the_code() -> None:
    (told,) = re.findall(r"```text\n(.*?)\n```", GUIDE, re.DOTALL)
    pauses = [int(number) * UNITS[unit] for number, unit in (pause.split() for pause in told.split(", "))]
    assert tuple(pauses) == PAUSES_S
    assert (len(PAUSES_S) + 1, round(sum(PAUSES_S) / 3600)) == (9, 28)
    assert (MAX_RETRY_AFTER_S, TIMEOUT_S) == (86_400, 5)


def test_every_request_it_names_is_a_route() -> None:
    paths = create_app(AccountManagerSettings()).openapi()["paths"]
    named = re.findall(r"^\| `([A-Z]+) (/[^`?]*)`", GUIDE, re.MULTILINE)
    assert len(named) == 7
    for method, path in named:
        assert method.lower() in paths[path], path
