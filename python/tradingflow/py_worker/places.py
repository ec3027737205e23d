"""Places for work that costs a worker much while a caller waits for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from tradingflow.core.errors import TooManyRequests

RETRY_AFTER_S = 10


class Places:
    """Whom this worker does one kind of work for now: once for each owner, for `most` owners at a time.

    A refusal has this `code`, and says what is being `done`.
    """

    def __init__(self, most: int, code: str, done: str) -> None:
        self._most = most
        self._code = code
        self._done = done
        self._owners: set[UUID] = set()

    @contextmanager
    def place(self, owner: UUID) -> Iterator[None]:
        """Raises TooManyRequests while the owner has another, or as many others as there may be have one."""
        if owner in self._owners or len(self._owners) >= self._most:
            whose = "for you" if owner in self._owners else "for others"
            raise TooManyRequests(self._code, f"{self._done} {whose}; ask again later", RETRY_AFTER_S)
        self._owners.add(owner)
        try:
            yield
        finally:
            self._owners.discard(owner)
