"""A log file that several processes share and that never outgrows its bounds."""

from __future__ import annotations

import fcntl
import logging
import os
import sys
from pathlib import Path

MAX_BYTES = 20_000_000
KEPT_FILES = 5
MODE = 0o640


class SharedLogFile(logging.Handler):
    """Appends each record to `path`; a full file becomes `path.1`, that one `path.2`, up to `kept`.

    Replicas and Celery's children write to one file: every line is one append, and the process that finds the file
    full moves it aside under a lock. A record that cannot be written (full disk, no permission) is dropped here and
    said once on standard error: logging never stops a service.
    """

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES, kept: int = KEPT_FILES) -> None:
        super().__init__()
        self.path = path
        self._max_bytes = max_bytes
        self._kept = kept
        self._file: int | None = None
        self._is_failing = False

    def emit(self, record: logging.LogRecord) -> None:
        line = (self.format(record) + "\n").encode()
        try:
            os.write(self._with_room_for(len(line)), line)
        except OSError as error:
            self._say_once(error)
        else:
            self._is_failing = False

    def close(self) -> None:
        self._close_file()
        super().close()

    def _with_room_for(self, size: int) -> int:
        file = self._current()
        if self._is_full(file, size):
            file = self._rotate(size)
        return file

    def _current(self) -> int:
        """The open file, or the one that took its place when another process moved it aside."""
        if self._file is not None and not _is_same(self._file, self.path):
            self._close_file()
        if self._file is None:
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, MODE)
        return self._file

    def _is_full(self, file: int, size: int) -> bool:
        held = os.fstat(file).st_size
        return held > 0 and held + size > self._max_bytes

    def _rotate(self, size: int) -> int:
        lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self._is_full(self._current(), size):
                self._shift()
            return self._current()
        finally:
            os.close(lock)

    def _shift(self) -> None:
        for number in range(self._kept - 1, 0, -1):
            older = self._numbered(number)
            if older.exists():
                older.replace(self._numbered(number + 1))
        self.path.replace(self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _say_once(self, error: OSError) -> None:
        if not self._is_failing:
            self._is_failing = True
            print(f"cannot write {self.path}: {error.strerror}; the log goes on here", file=sys.stderr)  # noqa: T201


def _is_same(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def is_standard_output(path: Path) -> bool:
    """Whether standard output was sent to this very file when the process was started."""
    try:
        return _is_same(sys.stdout.fileno(), path)
    except (OSError, ValueError):
        return False
