"""The edge of jobs that take many rows a step further each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.exc import DBAPIError

from tradingflow.core.errors import TradingFlowError
from tradingflow.core.logging import get_logger

log = get_logger(__name__)


@contextmanager
def only_said(what: str, **about: Any) -> Iterator[None]:
    """What fails inside is logged and the next run tries again: one row must not keep the others waiting."""
    try:
        yield
    except TradingFlowError as error:
        log.warning(what, code=error.code, detail=error.detail, **about)
    except DBAPIError as error:
        log.warning(what, error=error.orig, **about)
    except Exception:
        log.exception(what, **about)
