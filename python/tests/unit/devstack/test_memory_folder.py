"""Where the servers of a test run lay their data."""

from pathlib import Path

import pytest

from devstack import private_servers
from devstack.private_servers import memory_folder


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(private_servers, "SHARED_MEMORY", tmp_path)
    return tmp_path


def test_it_is_taken_where_it_has_room(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_servers, "ROOM_BYTES", 1)
    assert memory_folder() == memory


def test_it_is_left_alone_where_it_has_too_little(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_servers, "ROOM_BYTES", 2**62)
    assert memory_folder() is None


def test_it_is_done_without_where_there_is_none(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_servers, "SHARED_MEMORY", memory / "none")
    assert memory_folder() is None
