"""Alerts, dashboard and pages speak of metrics that exist, and every alert has its page."""

import json
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import prometheus_client
import yaml

from tests.unit.deployment.deployment_files import REPOSITORY, SERVICES_FILE, compose_file
from tradingflow.account_manager.celery_metrics import measure_beat
from tradingflow.core.config import AlertSettings
from tradingflow.messaging.queues import QueueDepth
from tradingflow.monitor import metrics as monitor_metrics  # noqa: F401 - registers what it measures
from tradingflow.operation.exporter import disk_samples, queue_samples, vital_samples
from tradingflow.operation.judgements import LEAST_FREE_BYTES
from tradingflow.operation.vitals import Backlog, ChainProgress, Vitals
from tradingflow.web import app as web_app  # noqa: F401 - registers what it measures

FOLDER = REPOSITORY / "python/observability"
METRIC = re.compile(r"\b(?:tradingflow|monitor|http|celery)_[a-z_]+\b")
SERIES_SUFFIX = re.compile(r"_(total|bucket|count|sum|created)$")


def rules() -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
    return loaded


def published() -> set[str]:
    """The names of every metric of ours, without the suffixes of their series."""
    nothing = Backlog(0, 0)
    vitals = Vitals(
        database_time=datetime.now(UTC),
        connections=0,
        max_connections=0,
        is_read_only=False,
        outbox={"lane": nothing},
        unsettled_trades=nothing,
        late_schedules=nothing,
        open_cycles=nothing,
        dead_letters=0,
        chains=(ChainProgress(1, 0, None, 0),),
    )
    queues = queue_samples({"q": QueueDepth("q", 0, 0)})
    exported = {sample[0] for sample in (*vital_samples(vitals), *queues, *disk_samples(FOLDER))}
    beat = prometheus_client.CollectorRegistry()
    measure_beat(beat)
    registered = (*prometheus_client.REGISTRY.collect(), *beat.collect())
    return exported | {metric.name for metric in registered}


def used() -> Iterator[tuple[str, str]]:
    """(where, metric) of every expression."""
    for rule in rules():
        yield from ((rule["alert"], name) for name in METRIC.findall(rule["expr"]))
    dashboard = json.loads((FOLDER / "grafana/dashboards/tradingflow.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield from ((panel["title"], name) for name in METRIC.findall(target["expr"]))


def test_alerts_and_panels_use_metrics_that_exist() -> None:
    known = published()
    missing = {
        (where, name) for where, name in used() if SERIES_SUFFIX.sub("", name) not in known and name not in known
    }
    assert missing == set()


def test_every_alert_has_a_page_that_says_what_to_do_and_a_case() -> None:
    pages = re.findall(r"^## (\w+)$", (REPOSITORY / "docs/operator/incidents.md").read_text(), re.MULTILINE)
    cases = (FOLDER / "alerts_test.yml").read_text()
    for rule in rules():
        assert rule["alert"] in pages
        assert f'alertname="{rule["alert"]}"' in cases


def test_the_rules_fire_when_they_should_and_only_then() -> None:
    done = subprocess.run(
        ["promtool", "test", "rules", "alerts_test.yml"], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_doctor_and_the_alert_want_the_same_room() -> None:
    (rule,) = (rule for rule in rules() if rule["alert"] == "DiskFills")
    assert float(rule["expr"].rpartition("<")[2]) == LEAST_FREE_BYTES


def test_what_tells_alerts_gets_exactly_its_settings() -> None:
    watchers = compose_file("docker-compose-observability.yml")["services"]
    assert set(watchers["alert-routes"]["environment"]) == {field.upper() for field in AlertSettings.model_fields}
    # Compose makes anew what changed: a token in `.env` must not leave Alertmanager with the old one.
    assert watchers["alertmanager"]["environment"] == watchers["alert-routes"]["environment"]
    told = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["alerting"]["alertmanagers"]
    assert told == [{"static_configs": [{"targets": ["alertmanager:9093"]}]}]


def test_prometheus_takes_its_configuration() -> None:
    done = subprocess.run(
        ["promtool", "check", "config", "prometheus.yml"], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_service_is_scraped_where_it_listens() -> None:
    scraped = {
        str(job["job_name"]): str(job.get("dns_sd_configs", [{}])[0].get("port") or target_port(job))
        for job in yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    }
    services = compose_file(SERVICES_FILE)["services"].items()
    ports = {
        name: service.get("environment", {}).get(f"{name.replace('-', '_').upper()}_PORT") for name, service in services
    }
    ours = {name: port for name, port in scraped.items() if name not in {"exporter", "alertmanager"}}
    assert ours == {n: p for n, p in ports.items() if p}


def target_port(job: dict[str, Any]) -> str:
    target: str = job["static_configs"][0]["targets"][0]
    name, _, port = target.partition(":")
    assert name == job["job_name"]
    return port


def test_watching_is_optional_and_on_loopback() -> None:
    for service in compose_file("docker-compose-observability.yml")["services"].values():
        assert service["profiles"] == ["observability"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
