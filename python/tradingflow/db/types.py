"""Column types that speak our words: checksummed addresses, 0x hashes, integer amounts."""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import LargeBinary, Numeric
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from tradingflow.core.evm import address_from_bytes, to_bytes


class EvmAddress(TypeDecorator[str]):
    """20 bytes in PostgreSQL, the EIP-55 string in Python."""

    impl = LargeBinary(20)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:
        return None if value is None else to_bytes(value)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:
        return None if value is None else address_from_bytes(value)


class Hash32(TypeDecorator[str]):
    """32 bytes in PostgreSQL, lower-case 0x hex in Python: transaction and block hashes, trade ids."""

    impl = LargeBinary(32)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:
        return None if value is None else to_bytes(value)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:
        return None if value is None else "0x" + value.hex()


class BaseUnits(TypeDecorator[int]):
    """NUMERIC(78,0) in PostgreSQL (a whole uint256), int in Python."""

    impl = Numeric(78, 0)
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value)

    def process_result_value(self, value: Decimal | None, dialect: Dialect) -> int | None:
        return None if value is None else int(value)
