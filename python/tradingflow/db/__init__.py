"""PostgreSQL: the engine, the models (one metadata for Alembic), and the outbox."""
