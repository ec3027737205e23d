"""Alertmanager itself takes our configuration, and tells whom it is told to."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web
from typer.testing import CliRunner

from devstack.ports import LOOPBACK, free_port
from devstack.service import ServiceProcess
from tests.integration.smtp_server import smtp_server
from tests.waiting import eventually
from tradingflow.cli import app
from tradingflow.core.config import AlertSettings
from tradingflow.core.errors import InvalidInput
from tradingflow.operation import alert_routes
from tradingflow.operation.alert_routes import alertmanager_config

ALERTMANAGER = shutil.which("prometheus-alertmanager") or "alertmanager"
FIRING = [
    {"labels": {"alertname": "Watchdog", "severity": "none"}, "annotations": {"summary": "Alerts work"}},
    {"labels": {"alertname": "StuckTrade", "severity": "page"}, "annotations": {"summary": "a <b> & _c_ open"}},
]


class Told:
    """Takes what is posted to any path, and answers as Telegram would."""

    def __init__(self) -> None:
        self.posted: dict[str, Any] = {}
        self.count: Counter[str] = Counter()
        self.base = ""

    async def take(self, request: web.Request) -> web.Response:
        self.posted[request.path] = await request.json()
        self.count[request.path] += 1
        message = {"message_id": 1, "date": 1, "chat": {"id": -42, "type": "group"}}
        return web.json_response({"ok": True, "result": message})


@pytest.fixture
async def told() -> AsyncIterator[Told]:
    told = Told()
    served = web.Application()
    served.router.add_post("/{path:.*}", told.take)
    runner = web.AppRunner(served)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, 0).start()
    told.base = f"http://{LOOPBACK}:{runner.addresses[0][1]}"
    yield told
    await runner.cleanup()


@contextmanager
def alertmanager(config: dict[str, Any], folder: Path) -> Iterator[str]:
    """Its URL."""
    file = folder / "alertmanager.yml"
    file.write_text(json.dumps(config))
    port = free_port()
    url = f"http://{LOOPBACK}:{port}"
    options = ["--cluster.listen-address=", f"--storage.path={folder}", f"--web.listen-address={LOOPBACK}:{port}"]
    server = ServiceProcess(
        "alertmanager",
        [ALERTMANAGER, f"--config.file={file}", *options],
        directory=folder / "log",
        cwd=folder,
        env={},
        ready_url=f"{url}/-/ready",
    )
    server.start()
    try:
        yield url
    finally:
        server.stop()


def settings(**values: Any) -> AlertSettings:
    return AlertSettings(_env_file=None, **values)  # type: ignore[call-arg]


async def test_an_alert_is_told_by_every_way_and_the_heartbeat_beside(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_routes, "GROUP_WAIT", "0s")
    async with smtp_server() as mails:
        config = alertmanager_config(
            settings(
                alert_webhook_url=f"{told.base}/hook",
                alert_heartbeat_url=f"{told.base}/heartbeat",
                alert_telegram_chat=-42,
                telegram_bot_token="123:secret",
                telegram_url=told.base,
                alert_email_to="night@example.com",
                smtp_host=LOOPBACK,
                smtp_port=mails.port,
                smtp_security="none",
            )
        )
        with alertmanager(config, tmp_path) as url:
            (await asyncio.to_thread(httpx.post, f"{url}/api/v2/alerts", json=FIRING)).raise_for_status()
            assert await asyncio.to_thread(eventually, lambda: len(told.posted) == 3 and bool(mails.mails))
    alerts = {path: [a["labels"]["alertname"] for a in told.posted[path]["alerts"]] for path in ("/hook", "/heartbeat")}
    assert alerts == {"/hook": ["StuckTrade"], "/heartbeat": ["Watchdog"]}
    message = told.posted["/bot123:secret/sendMessage"]
    assert str(message["chat_id"]) == "-42"
    assert "a <b> & _c_ open" in message["text"]
    assert mails.recipients == ["RCPT TO:<night@example.com>"]
    assert "StuckTrade" in mails.mails[0]["subject"]


def test_the_heartbeat_is_told_again_before_the_next_round() -> None:
    """What was told a moment less than `repeat_interval` ago is left out: of every second round, were both equal."""
    (heartbeat, _) = alertmanager_config(settings())["route"]["routes"]
    assert (heartbeat["group_interval"], heartbeat["repeat_interval"]) == ("1m", "30s")


async def test_the_heartbeat_is_silent_while_somebody_cannot_be_told(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_routes, "HEARTBEAT_EVERY", "1s")
    monkeypatch.setattr(alert_routes, "HEARTBEAT_AGAIN", "500ms")
    monkeypatch.setattr(alert_routes, "GROUP_WAIT", "0s")
    config = alertmanager_config(
        settings(alert_webhook_url=f"{told.base}/hook", alert_heartbeat_url=f"{told.base}/heartbeat")
    )
    with alertmanager(config, tmp_path) as url:
        (await asyncio.to_thread(httpx.post, f"{url}/api/v2/alerts", json=FIRING)).raise_for_status()
        assert await asyncio.to_thread(eventually, lambda: told.count["/heartbeat"] >= 2)
        untold = [{"labels": {"alertname": "AlertsUntold", "severity": "page", "integration": "email"}}]
        (await asyncio.to_thread(httpx.post, f"{url}/api/v2/alerts", json=untold)).raise_for_status()
        alerts = await asyncio.to_thread(httpx.get, f"{url}/api/v2/alerts")
        state = {alert["labels"]["alertname"]: alert["status"]["inhibitedBy"] for alert in alerts.json()}
    assert state["Watchdog"]
    assert not state["StuckTrade"]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"alert_email_to": "a@example.com, b@example.com", "smtp_host": "mail", "smtp_user": "u", "smtp_password": "p"},
        {"alert_email_to": "a@example.com", "smtp_host": "mail", "smtp_security": "tls", "smtp_port": 465},
    ],
)
def test_alertmanager_takes_what_is_written(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # no `.env` near
    for name, value in values.items():
        monkeypatch.setenv(name.upper(), str(value))
    file = tmp_path / "alertmanager.yml"
    said = CliRunner().invoke(app, ["alert-routes", str(file)], catch_exceptions=False)
    assert said.exit_code == 0
    assert ("by mail" if values else "by nothing: set ALERT_WEBHOOK_URL") in said.output
    done = subprocess.run(["amtool", "check-config", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("values", "lacks"),
    [
        ({"alert_telegram_chat": 42}, "needs TELEGRAM_BOT_TOKEN"),
        ({"alert_email_to": "a@example.com"}, "needs SMTP_HOST"),
        ({"alert_email_to": "a@example.com", "smtp_host": "mail", "smtp_security": "tls"}, "on port 465 only"),
        ({"alert_email_to": "a@example.com", "smtp_host": "mail", "smtp_port": 465}, "on port 465 only"),
    ],
)
def test_a_way_that_lacks_what_it_needs_says_what(values: dict[str, Any], lacks: str) -> None:
    with pytest.raises(InvalidInput, match=lacks):
        alertmanager_config(settings(**values))
