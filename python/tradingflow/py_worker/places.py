"""Places for what costs a worker much as long as a caller is served."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from tradingflow.core.errors import TooManyRequests

RETRY_AFTER_S = 10


class Places:
    """Whom this worker does one kind of work for now: `each` times at once for one owner, `most` times in all.

    A refusal has this `code`, and says what is being `done`.
    """

    def __init__(self, most: int, code: str, done: str, *, each: int = 1) -> None:
        self._most = most
        self._each = each
        self._code = code
        self._done = done
        self._owners: Counter[UUID] = Counter()

    @property
    def taken(self) -> int:
        return self._owners.total()

    @contextmanager
    def place(self, owner: UUID) -> Iterator[None]:
        """Raises TooManyRequests while the owner has as many as one may have, or all together as many as may be."""
        is_full_for_owner = self._owners[owner] >= self._each
        if is_full_for_owner or self.taken >= self._most:
            whose = "for you" if is_full_for_owner else "for others"
            raise TooManyRequests(self._code, f"{self._done} {whose}; ask again later", RETRY_AFTER_S)
        self._owners[owner] += 1
        try:
            yield
        finally:
            self._owners -= Counter((owner,))
