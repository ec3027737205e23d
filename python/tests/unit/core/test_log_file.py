"""The log file: bounded, shared between processes, and never the reason that a service stops."""

import fcntl
import json
import logging
import multiprocessing
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tradingflow.core.log_file import SharedLogFile
from tradingflow.core.logging import configure_logging, get_logger

CANARY = "canary-51c0de"


@pytest.fixture(autouse=True)
def restored_root() -> Iterator[None]:
    root = logging.getLogger()
    kept = root.handlers[:]
    yield
    for handler in root.handlers:
        if handler not in kept:
            handler.close()
    root.handlers[:] = kept


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("test", logging.INFO, __file__, 1, text, None, None)


def lines(folder: Path) -> list[str]:
    return [line for file in folder.glob("service.log*") for line in file.read_text().splitlines()]


def test_each_line_is_json_in_the_file_of_the_service_and_on_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("monitor", directory=str(tmp_path))
    get_logger("t").info("head followed", block=7)
    written = json.loads((tmp_path / "monitor.log").read_text())
    assert written == json.loads(capsys.readouterr().out)
    assert (written["service"], written["event"], written["block"]) == ("monitor", "head followed", 7)


def test_a_secret_never_reaches_the_file(tmp_path: Path) -> None:
    configure_logging("monitor", directory=str(tmp_path))
    get_logger("t").warning("failed", password=CANARY, url=f"amqp://me:{CANARY}@mq/")
    logging.getLogger("a.library").error("cannot reach redis://:%s@host", CANARY)
    text = (tmp_path / "monitor.log").read_text()
    assert text.count("\n") == 2
    assert CANARY not in text


def test_a_full_file_is_moved_aside_and_the_oldest_dropped(tmp_path: Path) -> None:
    handler = SharedLogFile(tmp_path / "service.log", max_bytes=100, kept=2)
    for number in range(30):
        handler.emit(record(f"line {number:03} {'x' * 30}"))
    handler.close()
    assert sorted(file.name for file in tmp_path.glob("service.log*")) == [
        "service.log",
        "service.log.1",
        "service.log.2",
        "service.log.lock",
    ]
    assert all(file.stat().st_size <= 100 for file in tmp_path.glob("service.log*"))
    assert "line 029" in (tmp_path / "service.log").read_text()


def test_a_file_is_moved_aside_under_a_lock_that_keeps_other_processes_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shift = SharedLogFile._shift

    def shift_while_another_tries(handler: SharedLogFile) -> None:
        with (tmp_path / "service.log.lock").open() as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shift(handler)

    monkeypatch.setattr(SharedLogFile, "_shift", shift_while_another_tries)
    handler = SharedLogFile(tmp_path / "service.log", max_bytes=10)
    handler.emit(record("one line"))
    handler.emit(record("another line"))
    handler.close()
    assert (tmp_path / "service.log.1").read_text() == "one line\n"


def write_many(folder: Path, writer: int, count: int) -> None:
    handler = SharedLogFile(folder / "service.log", max_bytes=2_000, kept=1_000)
    for number in range(count):
        handler.emit(record(f"{writer}/{number}"))
    handler.close()


def test_processes_that_share_a_file_lose_and_mix_no_line_while_it_is_rotated(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=write_many, args=(tmp_path, writer, 1_000)) for writer in range(4)]
    for process in writers:
        process.start()
    for process in writers:
        process.join()
    assert {process.exitcode for process in writers} == {0}
    expected = sorted(f"{writer}/{number}" for writer in range(4) for number in range(1_000))
    assert sorted(lines(tmp_path)) == expected


def test_a_file_moved_by_somebody_else_is_opened_anew(tmp_path: Path) -> None:
    handler = SharedLogFile(tmp_path / "service.log")
    handler.emit(record("before"))
    (tmp_path / "service.log").rename(tmp_path / "elsewhere")
    handler.emit(record("after"))
    handler.close()
    assert (tmp_path / "service.log").read_text() == "after\n"


def test_a_file_that_cannot_be_written_is_said_once_and_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("monitor", directory=str(tmp_path / "missing"))
    get_logger("t").info("first")
    get_logger("t").info("second")
    said = capsys.readouterr()
    assert said.out.count("\n") == 2
    assert said.err.count("the log goes on here") == 1


def test_a_full_disk_stops_nothing() -> None:
    handler = SharedLogFile(Path("/dev/full"))
    handler.emit(record("lost here, still on standard output"))
    handler.close()


def test_a_line_is_not_written_twice_when_standard_output_is_the_file_already(tmp_path: Path) -> None:
    program = (
        "from tradingflow.core.logging import configure_logging, get_logger\n"
        f"configure_logging('monitor', directory={str(tmp_path)!r})\n"
        "get_logger('t').info('once')\n"
    )
    with (tmp_path / "monitor.log").open("ab") as log:
        subprocess.run([sys.executable, "-c", program], stdout=log, check=True)
    assert (tmp_path / "monitor.log").read_text().count("once") == 1
