"""How one notice leaves us: a signed POST, a Telegram message, a mail."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from typing import Any

import msgspec

from tradingflow.account_manager.notification.messages import Text
from tradingflow.account_manager.notification.signing import signed_headers
from tradingflow.core.config import ExecutorSettings
from tradingflow.core.errors import DependencyUnavailable, Refused, TradingFlowError
from tradingflow.db.models import NotificationDelivery
from tradingflow.outbound.client import GuardedHttp, HttpResponse

TIMEOUT_S = 5.0
# What a receiver says is kept so far, to find out what it did not like.
MAX_ANSWER_BYTES = 64_000
MAX_SHOWN_CHARS = 500
MAX_TELEGRAM_CHARS = 4_096


@dataclass(frozen=True)
class Answer:
    """What came of one try. `retry_after_s` is what the receiver asked for; `gone` that it wants nothing more."""

    ok: bool
    shown: dict[str, Any]
    retry_after_s: float | None = None
    gone: bool = False


class WebhookSender:
    def __init__(self, http: GuardedHttp) -> None:
        self._http = http

    async def send(self, url: str, secret: bytes, delivery: NotificationDelivery, moment: datetime) -> Answer:
        """A redirect is not followed: the signature is for the address the user gave."""
        body = msgspec.json.encode(
            {"type": delivery.topic, "timestamp": delivery.created_at.isoformat(), "data": delivery.payload}
        )
        headers = {"content-type": "application/json", **signed_headers(secret, delivery.id, moment, body)}
        try:
            response = await self._http.request(
                "POST",
                url,
                headers=headers,
                content=body,
                timeout_s=TIMEOUT_S,
                max_body_bytes=MAX_ANSWER_BYTES,
                follow_redirects=False,
            )
        except TradingFlowError as error:
            return failed(error)
        return _answer(response)


def failed(error: TradingFlowError) -> Answer:
    return Answer(ok=False, shown=error.as_body())


def _answer(response: HttpResponse) -> Answer:
    ok = 200 <= response.status < 300
    shown: dict[str, Any] = {"status": response.status}
    if not ok:
        text = response.body[:MAX_SHOWN_CHARS].decode("utf-8", "replace")
        shown["body"] = "".join(c for c in text if c.isprintable())
    return Answer(ok, shown, _retry_after_s(response), gone=response.status == 410)


def _retry_after_s(response: HttpResponse) -> float | None:
    value = response.headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() and len(value) <= 6 else None


class TelegramSender:
    """The operator's bot (Bot API, sendMessage)."""

    def __init__(self, http: GuardedHttp, settings: ExecutorSettings) -> None:
        self._http = http
        self._url = settings.telegram_url
        self._token = settings.telegram_bot_token

    async def send(self, chat_id: str, text: Text) -> Answer:
        if self._token is None:
            return failed(Refused("telegram_not_set_up", "the operator has set up no Telegram bot"))
        content = {"chat_id": chat_id, "text": f"{text.title}\n{text.body}"[:MAX_TELEGRAM_CHARS]}
        try:
            response = await self._http.request(
                "POST",
                f"{self._url}/bot{self._token.get_secret_value()}/sendMessage",
                headers={"content-type": "application/json"},
                content=msgspec.json.encode(content),
                timeout_s=TIMEOUT_S,
                max_body_bytes=MAX_ANSWER_BYTES,
                follow_redirects=False,
            )
        except TradingFlowError as error:
            return failed(error)
        return _answer(response)


class EmailSender:
    """The operator's mail server."""

    def __init__(self, settings: ExecutorSettings) -> None:
        self._settings = settings

    async def send(self, address: str, text: Text) -> Answer:
        if self._settings.smtp_host is None:
            return failed(Refused("email_not_set_up", "the operator has set up no mail server"))
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = self._settings.smtp_from, address, text.title
        message.set_content(text.body)
        try:
            await asyncio.to_thread(self._hand_over, self._settings.smtp_host, message)
        except (smtplib.SMTPException, OSError) as error:  # their texts may hold the password we sent
            return failed(DependencyUnavailable("smtp_failed", f"the mail server failed: {type(error).__name__}"))
        return Answer(ok=True, shown={"accepted": True})

    def _hand_over(self, host: str, message: EmailMessage) -> None:
        settings = self._settings
        with self._connect(host) as server:
            if settings.smtp_security == "starttls":
                server.starttls(context=ssl.create_default_context())
            if settings.smtp_user and settings.smtp_password:
                server.login(settings.smtp_user, settings.smtp_password.get_secret_value())
            server.send_message(message)

    def _connect(self, host: str) -> smtplib.SMTP:
        port = self._settings.smtp_port
        if self._settings.smtp_security == "tls":
            return smtplib.SMTP_SSL(host, port, timeout=TIMEOUT_S, context=ssl.create_default_context())
        return smtplib.SMTP(host, port, timeout=TIMEOUT_S)
