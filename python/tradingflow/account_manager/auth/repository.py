"""Accounts by wallet, sessions, refresh tokens."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.db.models import ApiKey, AuthSession, RefreshToken, User, Wallet


async def user_of_wallet(session: AsyncSession, address: str) -> UUID | None:
    user_id: UUID | None = await session.scalar(select(Wallet.user_id).where(Wallet.address == address))
    return user_id


async def ensure_user(session: AsyncSession, address: str) -> UUID:
    """The account this wallet belongs to, made on its first sign-in."""
    if user_id := await user_of_wallet(session, address):
        return user_id
    await lock_wallet(session, address)
    if user_id := await user_of_wallet(session, address):
        return user_id
    new_id = uuid4()
    await session.execute(insert(User).values(id=new_id))
    await session.execute(insert(Wallet).values(id=uuid4(), user_id=new_id, address=address))
    return new_id


async def lock_wallet(session: AsyncSession, address: str) -> None:
    """Until the commit, others who would link this wallet to an account wait."""
    await session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": f"wallet:{address}"})


async def add_session(session: AsyncSession, row: AuthSession) -> None:
    session.add(row)
    await session.flush()


async def add_refresh_token(session: AsyncSession, token_hash: bytes, session_id: UUID) -> None:
    await session.execute(insert(RefreshToken).values(hash=token_hash, session_id=session_id))


async def use_refresh_token(session: AsyncSession, token_hash: bytes, now: datetime) -> UUID | None:
    """Mark it used and return its session; None when it is unknown or was used before. Atomic."""
    statement = (
        update(RefreshToken)
        .where(RefreshToken.hash == token_hash, RefreshToken.used_at.is_(None))
        .values(used_at=now)
        .returning(RefreshToken.session_id)
    )
    session_id: UUID | None = await session.scalar(statement)
    return session_id


async def session_of_refresh_token(session: AsyncSession, token_hash: bytes) -> UUID | None:
    statement = select(RefreshToken.session_id).where(RefreshToken.hash == token_hash)
    session_id: UUID | None = await session.scalar(statement)
    return session_id


async def extend_session(
    session: AsyncSession, session_id: UUID, now: datetime, expires_at: datetime
) -> AuthSession | None:
    """Push the session's end out; None when it is over already."""
    statement = (
        update(AuthSession)
        .where(AuthSession.id == session_id, AuthSession.revoked_at.is_(None), AuthSession.expires_at > now)
        .values(last_used_at=now, expires_at=expires_at)
        .returning(AuthSession)
    )
    row: AuthSession | None = await session.scalar(statement)
    return row


async def revoke_session(session: AsyncSession, session_id: UUID, user_id: UUID | None, now: datetime) -> bool:
    """End a session for good (of this user, when given); False when there was none to end."""
    statement = update(AuthSession).where(AuthSession.id == session_id, AuthSession.revoked_at.is_(None))
    if user_id is not None:
        statement = statement.where(AuthSession.user_id == user_id)
    ended = await session.scalar(statement.values(revoked_at=now).returning(AuthSession.id))
    return ended is not None


async def sessions_of(session: AsyncSession, user_id: UUID, now: datetime) -> list[AuthSession]:
    """The living ones, the last used first."""
    statement = (
        select(AuthSession)
        .where(AuthSession.user_id == user_id, AuthSession.revoked_at.is_(None), AuthSession.expires_at > now)
        .order_by(AuthSession.last_used_at.desc())
    )
    return list(await session.scalars(statement))


async def revoke_sessions_of_wallet(session: AsyncSession, user_id: UUID, address: str, now: datetime) -> list[UUID]:
    statement = (
        update(AuthSession)
        .where(AuthSession.user_id == user_id, AuthSession.wallet_address == address, AuthSession.revoked_at.is_(None))
        .values(revoked_at=now)
        .returning(AuthSession.id)
    )
    return list(await session.scalars(statement))


async def use_api_key(session: AsyncSession, key_hash: bytes, now: datetime) -> ApiKey | None:
    """The living key, with its use noted; None for unknown, revoked and expired ones."""
    statement = (
        update(ApiKey)
        .where(ApiKey.hash == key_hash, ApiKey.expires_at > now, ApiKey.revoked_at.is_(None))
        .values(last_used_at=now)
        .returning(ApiKey)
    )
    key: ApiKey | None = await session.scalar(statement)
    return key


async def api_keys_of(session: AsyncSession, user_id: UUID) -> list[ApiKey]:
    statement = select(ApiKey).where(ApiKey.user_id == user_id, ApiKey.revoked_at.is_(None))
    return list(await session.scalars(statement.order_by(ApiKey.created_at)))


async def revoke_api_keys(session: AsyncSession, now: datetime, *conditions: ColumnElement[bool]) -> list[UUID]:
    """The ids of those that lived until now."""
    statement = update(ApiKey).where(ApiKey.revoked_at.is_(None), *conditions).values(revoked_at=now)
    return list(await session.scalars(statement.returning(ApiKey.id)))
