"""Whom alerts are told: Alertmanager's configuration, made of the ALERT_* settings."""

from __future__ import annotations

from typing import Any

from tradingflow.core.config import AlertSettings
from tradingflow.core.errors import InvalidInput

# Alerts of one outage come within two rounds of Prometheus, and are told together.
GROUP_WAIT = "30s"
GROUP_INTERVAL = "5m"
# Until it is mended: a page is told again soon, a ticket once a day.
PAGE_AGAIN = "1h"
TICKET_AGAIN = "24h"
# Watchdog fires always; who is told it and hears nothing for longer knows that alerts reach nobody.
HEARTBEAT_EVERY = "1m"
# Below it: what was told a moment less than this ago is left out of a round.
HEARTBEAT_AGAIN = "30s"
# Alertmanager speaks TLS from the first byte on this port only.
IMPLICIT_TLS_PORT = 465


def alertmanager_config(settings: AlertSettings) -> dict[str, Any]:
    """As JSON it is Alertmanager's YAML. Raises InvalidInput for a way to tell that lacks what it needs."""
    operator = {"name": "operator", **_webhook(settings), **_telegram(settings), **_email(settings)}
    return {
        "route": {
            "receiver": "operator",
            "group_by": ["alertname"],
            "group_wait": GROUP_WAIT,
            "group_interval": GROUP_INTERVAL,
            "repeat_interval": PAGE_AGAIN,
            "routes": [
                {
                    "matchers": ['alertname="Watchdog"'],
                    "receiver": "heartbeat",
                    "group_wait": "0s",
                    "group_interval": HEARTBEAT_EVERY,
                    "repeat_interval": HEARTBEAT_AGAIN,
                },
                {"matchers": ['severity="ticket"'], "receiver": "operator", "repeat_interval": TICKET_AGAIN},
            ],
        },
        # Who cannot be told that telling fails is told by the silence of the heartbeat.
        "inhibit_rules": [
            {"source_matchers": ['alertname="AlertsUntold"'], "target_matchers": ['alertname="Watchdog"']},
        ],
        "receivers": [operator, {"name": "heartbeat", **_heartbeat(settings)}],
    }


def ways(settings: AlertSettings) -> list[str]:
    """How an operator is told, in words; empty when alerts are only to be looked at."""
    told = {
        "webhook": settings.alert_webhook_url,
        "Telegram": settings.alert_telegram_chat,
        "mail": settings.alert_email_to,
    }
    return [name for name, setting in told.items() if setting]


def _webhook(settings: AlertSettings) -> dict[str, Any]:
    if settings.alert_webhook_url is None:
        return {}
    return {"webhook_configs": [{"url": settings.alert_webhook_url.get_secret_value()}]}


def _heartbeat(settings: AlertSettings) -> dict[str, Any]:
    if settings.alert_heartbeat_url is None:
        return {}
    return {"webhook_configs": [{"url": settings.alert_heartbeat_url.get_secret_value(), "send_resolved": False}]}


def _telegram(settings: AlertSettings) -> dict[str, Any]:
    if settings.alert_telegram_chat is None:
        return {}
    if settings.telegram_bot_token is None:
        raise InvalidInput("telegram_bot_token_missing", "ALERT_TELEGRAM_CHAT needs TELEGRAM_BOT_TOKEN")
    bot = {
        "bot_token": settings.telegram_bot_token.get_secret_value(),
        "chat_id": settings.alert_telegram_chat,
        "api_url": settings.telegram_url,
        "parse_mode": "",  # what alerts say is no markup
    }
    return {"telegram_configs": [bot]}


def _email(settings: AlertSettings) -> dict[str, Any]:
    if settings.alert_email_to is None:
        return {}
    if settings.smtp_host is None:
        raise InvalidInput("smtp_host_missing", "ALERT_EMAIL_TO needs SMTP_HOST")
    if (settings.smtp_security == "tls") != (settings.smtp_port == IMPLICIT_TLS_PORT):
        what = f"Alertmanager knows SMTP_SECURITY=tls on port {IMPLICIT_TLS_PORT} only, and nothing else there"
        raise InvalidInput("smtp_security_unknown", f"{what}; alerts by mail need starttls or none on another port")
    mail: dict[str, Any] = {
        "to": settings.alert_email_to,
        "from": settings.smtp_from,
        "smarthost": f"{settings.smtp_host}:{settings.smtp_port}",
        "require_tls": settings.smtp_security == "starttls",
        "send_resolved": True,
    }
    if settings.smtp_user and settings.smtp_password:
        mail |= {"auth_username": settings.smtp_user, "auth_password": settings.smtp_password.get_secret_value()}
    return {"email_configs": [mail]}
