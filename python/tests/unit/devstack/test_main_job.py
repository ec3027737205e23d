"""What the main job's verdict rests on: a failed check is a failed run, whatever else went well."""

import io
import json
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from devstack.main_job import api
from devstack.main_job.api import Api, ApiRefused
from devstack.main_job.steps import CheckFailed, Steps, require
from devstack.main_job.summary import Summary
from devstack.main_job.waiting import wait_for


def _steps() -> Steps:
    return Steps(Console(file=io.StringIO()))


def test_a_step_whose_check_fails_is_kept_as_failed() -> None:
    steps = _steps()
    with steps.step("fine"):
        pass
    with pytest.raises(CheckFailed, match="two is not three"), steps.step("broken"):
        require([], "two is not three")
    assert [(step.name, step.ok) for step in steps.done] == [("fine", True), ("broken", False)]
    assert not steps.all_ok


def test_no_steps_at_all_are_no_success() -> None:
    assert not _steps().all_ok


def test_waiting_ends_with_what_was_waited_for() -> None:
    with pytest.raises(CheckFailed, match="the moon"):
        wait_for(lambda: None, "the moon", timeout_s=0)


def test_the_summary_is_written_with_the_promised_names(tmp_path: Path) -> None:
    file = tmp_path / "local" / "summary.json"
    Summary().write(file)
    written = json.loads(file.read_text())
    assert {"steps", "cycles_completed", "trades", "events_stored", "vault_address", "urls"} <= written.keys()


def _api(answers: list[httpx.Response | Exception], monkeypatch: pytest.MonkeyPatch) -> Api:
    """An Api whose service gives these answers, one a request."""

    def answer(_: httpx.Request) -> httpx.Response:
        following = answers.pop(0)
        if isinstance(following, Exception):
            raise following
        return following

    client = Api("http://service")
    monkeypatch.setattr(
        client, "_client", httpx.Client(base_url="http://service", transport=httpx.MockTransport(answer))
    )
    monkeypatch.setattr("devstack.main_job.waiting.POLL_INTERVAL_S", 0)
    return client


def test_a_service_that_is_away_for_a_moment_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[httpx.Response | Exception] = [
        httpx.ConnectError("refused"),
        httpx.Response(503, json={}),
        httpx.Response(200, json={"a": 1}),
    ]
    assert _api(answers, monkeypatch).get("/x") == {"a": 1}


def test_a_service_that_stays_away_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "AWAY_TIMEOUT_S", 0)
    with pytest.raises(CheckFailed, match="an answer of"):
        _api([httpx.ConnectError("refused")], monkeypatch).get("/x")


def test_a_refusal_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = httpx.Response(422, json={"error": "bad_word", "detail": "only good words"})
    with pytest.raises(ApiRefused, match="only good words"):
        _api([refused], monkeypatch).post("/x")


def test_an_expired_token_is_renewed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    client = _api([httpx.Response(401, json={}), httpx.Response(200, json={})], monkeypatch)
    client.authorize("old", lambda: "new")
    client.get("/x")
    assert client._client.headers["authorization"] == "Bearer new"


def test_every_page_of_a_list_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [{"items": [1, 2], "next_cursor": "c"}, {"items": [3], "next_cursor": None}]
    assert list(_api([httpx.Response(200, json=page) for page in pages], monkeypatch).pages("/x")) == [1, 2, 3]
