"""Tables of rows that users keep between flows: what dataset nodes read and write."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from tradingflow.db.models.base import Base, CreatedAt, UpdatedAt, UuidPk


class Dataset(Base):
    """One table of one user. `rows` and `bytes` are kept in step with its rows, so that quotas need no counting.

    `next_position` numbers the next row; numbers are never used again.
    """

    __tablename__ = "datasets"
    __table_args__ = (UniqueConstraint("user_id", "name"),)

    id: Mapped[UuidPk]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str]
    rows: Mapped[int] = mapped_column(default=0)
    bytes: Mapped[int] = mapped_column(default=0)
    next_position: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]


class DatasetRow(Base):
    """`bytes` is the size of `value` as JSON text."""

    __tablename__ = "dataset_rows"

    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[dict[str, Any]]
    bytes: Mapped[int]


class DatasetWrite(Base):
    """The primary key is what makes a write happen once: a node that runs again after a crash changes nothing."""

    __tablename__ = "dataset_writes"

    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True)
    write_key: Mapped[str] = mapped_column(primary_key=True)
    rows_after: Mapped[int]
    written_at: Mapped[datetime]
