"""Which failures of PostgreSQL pass by themselves, told by SQLSTATE (PostgreSQL manual, appendix A)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
from sqlalchemy import exc

from tradingflow.core.errors import DependencyUnavailable

# Connection exception, insufficient resources, operator intervention (shutdown, starting up), system error.
_PASSING_CLASSES = frozenset({"08", "53", "57", "58"})
# A stand-by or a full disk's guard; and three ways to lose a race that the same request, sent again, may win.
_READ_ONLY = "25006"
_LOST_RACE = frozenset({"40001", "40P01", "55P03"})


def passing_failure(error: BaseException) -> DependencyUnavailable | None:
    """What a caller is told of a failure that is PostgreSQL's and worth another try; None for any other error."""
    if isinstance(error, exc.TimeoutError):
        return DependencyUnavailable("database_busy", "every connection to PostgreSQL is in use; try again")
    state = _sqlstate(error)
    if state == _READ_ONLY:
        return DependencyUnavailable("database_read_only", "PostgreSQL takes no writes now; try again later")
    if state in _LOST_RACE:
        return DependencyUnavailable("database_busy", "somebody else changed the same at the same time; try again")
    if (state or "")[:2] in _PASSING_CLASSES or _is_lost_connection(error):
        return DependencyUnavailable("database_unavailable", "PostgreSQL does not answer; try again")
    return None


@contextmanager
def passing_told() -> Iterator[None]:
    """Raises DependencyUnavailable in place of a failure that passes; any other is raised as it is."""
    try:
        yield
    except (exc.SQLAlchemyError, OSError) as error:
        if (passing := passing_failure(error)) is not None:
            raise passing from error
        raise


def _sqlstate(error: BaseException) -> str | None:
    """Of asyncpg's error, or of the one SQLAlchemy wrapped."""
    for each in (error, getattr(error, "orig", None), error.__cause__):
        if state := getattr(each, "sqlstate", None):
            return str(state)
    return None


def _is_lost_connection(error: BaseException) -> bool:
    if isinstance(error, exc.DBAPIError):
        # The driver says InterfaceError also of a statement it will never send, such as one of too many parameters.
        return error.connection_invalidated
    # The driver's own errors while it connects come through SQLAlchemy as they are.
    return isinstance(error, (asyncpg.InterfaceError, ConnectionError, TimeoutError, socket.gaierror))
