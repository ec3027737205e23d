"""Engine and session factories. Each `server.py` makes one engine and hands it down; nothing connects on import."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from tradingflow.core.config import PlatformSettings

SessionFactory = async_sessionmaker[AsyncSession]


# A server process keeps every plan it ever made for its connection: 1.4 MB at first, 4.5 after two minutes of load, 5.3
# after ten, and so on. A new one every few minutes costs nothing that shows and keeps PostgreSQL's memory flat.
RECYCLE_AFTER_S = 180

# The server lets go of a machine that lost its power after a minute, not after the two hours of Linux: until then its
# sessions hold their locks, and the job one of them stood for is done by nobody.
KEEPALIVES = {"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3"}


def make_engine(
    settings: PlatformSettings, *, application: str, pool_size: int = 10, max_overflow: int | None = None
) -> AsyncEngine:
    """An engine whose connections name `application` in pg_stat_activity and never wait for a lock forever.

    At most `max_overflow` more than `pool_size` are opened for a moment; None: as many again.
    """
    return create_async_engine(
        settings.database_dsn,
        pool_size=pool_size,
        max_overflow=pool_size if max_overflow is None else max_overflow,
        pool_pre_ping=True,
        # The last one given back is taken first: a connection's server process keeps what it planned (up to 5 MB), and
        # only as many of them become warm as work at once.
        pool_use_lifo=True,
        pool_recycle=RECYCLE_AFTER_S,
        hide_parameters=True,  # an error's text goes to the log; what a user sent does not
        connect_args={
            "server_settings": {
                "application_name": application,
                "timezone": "UTC",
                "lock_timeout": "10s",
                "idle_in_transaction_session_timeout": "60s",
                **KEEPALIVES,
            }
        },
    )


def make_session_factory(engine: AsyncEngine) -> SessionFactory:
    """Sessions keep their objects readable after commit; the commit itself is at the edge."""
    return async_sessionmaker(engine, expire_on_commit=False)
