"""Messages that must go out if, and only if, the transaction that wrote them committed."""

from __future__ import annotations

from sqlalchemy import Index
from sqlalchemy.orm import Mapped

from tradingflow.db.models.base import Base, BigPk, CreatedAt


class OutboxMessage(Base):
    """`lane` is the service that relays it; within a lane messages leave in id order. Deleted once confirmed."""

    __tablename__ = "outbox"
    __table_args__ = (Index("ix_outbox_lane_id", "lane", "id"),)

    id: Mapped[BigPk]
    lane: Mapped[str]
    exchange: Mapped[str]
    routing_key: Mapped[str]
    message_id: Mapped[str]
    body: Mapped[bytes]
    created_at: Mapped[CreatedAt]
