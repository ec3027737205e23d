"""What something costs in memory."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

MB = 1_000_000


@contextmanager
def grows_by_at_most(limit: int) -> Iterator[None]:
    """Fails when at any time so many more bytes are held than at the beginning."""
    gc.collect()
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= limit
