"""What vaults were worth, and what tokens cost, at moments in the past."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, Numeric
from sqlalchemy.orm import Mapped, mapped_column

from tradingflow.db.models.base import Base
from tradingflow.db.types import EvmAddress, Hash32


class VaultValuation(Base):
    """One look at a vault at the end of a block. `value` is NULL, with a `reason`, when it could not be known.

    `positions` is the JSON of the portfolio's positions; `value` is in whole quote tokens.
    """

    __tablename__ = "vault_valuations"

    vault_id: Mapped[UUID] = mapped_column(ForeignKey("vaults.id", ondelete="CASCADE"), primary_key=True)
    taken_at: Mapped[datetime] = mapped_column(primary_key=True)
    block_number: Mapped[int]
    quote_token: Mapped[str | None] = mapped_column(EvmAddress)
    quote_symbol: Mapped[str | None]
    positions: Mapped[list[Any]]
    value: Mapped[Decimal | None] = mapped_column(Numeric)
    reason: Mapped[str | None]


class PricePoint(Base):
    """What one source said a token cost, in whole units of the quote token, at a moment.

    The source `agreed` keeps what all of them agree on; its `price` is NULL, with the `reason`, when they do not.
    """

    __tablename__ = "price_points"
    __table_args__ = (Index("ix_price_points_newest", "chain_id", "token", "taken_at"),)

    chain_id: Mapped[int] = mapped_column(primary_key=True)
    token: Mapped[str] = mapped_column(EvmAddress, primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    taken_at: Mapped[datetime] = mapped_column(primary_key=True)
    price: Mapped[Decimal | None] = mapped_column(Numeric)
    reason: Mapped[str | None]


class BlockPrice(Base):
    """What a token cost at the end of a block, in whole quote tokens. A fact of that block: a reorg leaves it unused.

    `price` is NULL, with the `reason`, when the chain's pools did not tell. The zero address is the native currency.
    """

    __tablename__ = "block_prices"

    chain_id: Mapped[int] = mapped_column(primary_key=True)
    block_hash: Mapped[str] = mapped_column(Hash32, primary_key=True)
    token: Mapped[str] = mapped_column(EvmAddress, primary_key=True)
    price: Mapped[Decimal | None] = mapped_column(Numeric)
    reason: Mapped[str | None]
