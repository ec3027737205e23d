"""What Celery tells Prometheus: how tasks end, how long beat was silent, and a port that stands in nobody's way."""

import os
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from wsgiref.simple_server import WSGIServer

import pytest
from celery import signals
from prometheus_client import REGISTRY, CollectorRegistry

import tradingflow.account_manager.celery_metrics as module
from devstack.ports import LOOPBACK, free_port
from tradingflow.account_manager.celery_metrics import count_from_zero, measure_beat, serve_metrics
from tradingflow.account_manager.celery_pool import MeasuredPool
from tradingflow.account_manager.schedule import TICKS

TASK = "trade.sweep"


def count(outcome: str, task: str = TASK) -> float | None:
    return REGISTRY.get_sample_value("celery_tasks_total", {"task": task, "outcome": outcome})


@pytest.fixture(autouse=True)
def no_counts() -> None:
    module.TASKS.clear()
    module.DURATION.clear()


class Handed(MeasuredPool):
    """A pool with one task, and how Celery's own callbacks are told of its end."""

    def __init__(self) -> None:
        super().__init__(1)
        self.heard: list[tuple[str, object]] = []
        self.apply_async(
            print,
            (TASK, "id"),
            callback=lambda end: self.heard.append(("callback", end)),
            error_callback=lambda end: self.heard.append(("error_callback", end)),
        )

    def on_apply(self, *_: object, **options: object) -> None:
        self._handed = options

    def end(self, callback: str, end: object) -> None:
        self._handed[callback](end)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("callback", "end", "outcome"),
    [
        ("callback", (0, "None", 0.2), "succeeded"),
        ("callback", (1, "ExceptionInfo", 0.2), "failed"),
        ("callback", (1, "ExceptionInfo", None), "failed"),
        ("error_callback", "WorkerLostError", "lost"),
    ],
)
def test_each_end_is_counted_once_and_told_to_celery(callback: str, end: object, outcome: str) -> None:
    handed = Handed()
    handed.end(callback, end)
    assert {kind: count(kind) for kind in ("succeeded", "failed", "lost") if count(kind)} == {outcome: 1.0}
    assert handed.heard == [(callback, end)]


def test_celery_hears_of_an_end_that_cannot_be_counted() -> None:
    handed = Handed()
    with pytest.raises(TypeError):
        handed.end("callback", (0, "None", "no number"))
    assert handed.heard == [("callback", (0, "None", "no number"))]


def test_how_long_a_task_ran_is_measured_where_it_is_known() -> None:
    handed = Handed()
    handed.end("callback", (0, "None", 0.2))
    handed.end("error_callback", "WorkerLostError")
    labels = {"task": TASK}
    assert REGISTRY.get_sample_value("celery_task_duration_seconds_sum", labels) == 0.2
    assert REGISTRY.get_sample_value("celery_task_duration_seconds_count", labels) == 1.0


def test_a_worker_that_never_ran_a_task_says_so_with_zeros() -> None:
    count_from_zero()
    assert {task: count("succeeded", task) for task in TICKS} == dict.fromkeys(TICKS, 0.0)


def test_beat_is_silent_until_rabbitmq_took_something() -> None:
    now_s = 100.0
    registry = CollectorRegistry()
    measure_beat(registry, lambda: now_s)
    now_s = 140.0
    assert registry.get_sample_value("celery_beat_idle_seconds") == 40.0
    signals.after_task_publish.send(sender=TASK)
    assert registry.get_sample_value("celery_beat_idle_seconds") == 0.0


@pytest.fixture
def served() -> Iterator[WSGIServer]:
    server = serve_metrics(LOOPBACK, free_port())
    assert server is not None
    yield server
    server.shutdown()
    server.server_close()


def test_metrics_are_served(served: WSGIServer) -> None:
    count_from_zero()
    connection = HTTPConnection(LOOPBACK, served.server_port, timeout=5)
    connection.request("GET", "/metrics")
    assert b"celery_tasks_total" in connection.getresponse().read()
    connection.close()


def test_a_process_of_the_pool_does_not_keep_the_port(served: WSGIServer) -> None:
    child = os.fork()
    if not child:
        os._exit(served.socket.fileno() != -1)
    assert os.waitpid(child, 0)[1] == 0
    assert served.socket.fileno() != -1


def test_a_port_that_is_taken_stops_nobody() -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        assert serve_metrics(LOOPBACK, taken.getsockname()[1]) is None


def test_port_0_serves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(module, "start_http_server")
    assert serve_metrics(LOOPBACK, 0) is None
