"""The token registry: metadata as read from the chain, never guessed."""

from __future__ import annotations

from sqlalchemy import Integer, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from tradingflow.db.models.base import Base, CreatedAt, UuidPk
from tradingflow.db.types import EvmAddress


class Token(Base):
    """`decimals` is NULL when the contract does not say: amounts of it then have no human form and no value.

    `spam_reason` says why the token is taken for spam; NULL for one that is not. `read_at` is when the chain was asked.
    """

    __tablename__ = "tokens"
    __table_args__ = (UniqueConstraint("chain_id", "address"),)

    id: Mapped[UuidPk]
    chain_id: Mapped[int]
    address: Mapped[str] = mapped_column(EvmAddress)
    symbol: Mapped[str | None]
    name: Mapped[str | None]
    decimals: Mapped[int | None] = mapped_column(Integer)
    spam_reason: Mapped[str | None]
    read_at: Mapped[CreatedAt]
    created_at: Mapped[CreatedAt]

    @property
    def is_spam(self) -> bool:
        return self.spam_reason is not None
