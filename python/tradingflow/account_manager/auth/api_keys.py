"""API keys: credentials for programs, with less power than their owner."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.auth import repository
from tradingflow.account_manager.auth.hashing import hash_secret
from tradingflow.account_manager.auth.schemas import ApiKeyRequest, NewApiKeyResponse
from tradingflow.account_manager.parts import Parts
from tradingflow.account_manager.plan.repository import plan_of
from tradingflow.core.access_token import Principal
from tradingflow.core.errors import Conflict, NotFound, Unauthenticated
from tradingflow.db.models import ApiKey

API_KEY_PREFIX = "tf_key_"
KEY_BYTES = 32


async def principal_of(session: AsyncSession, key: str, now: datetime) -> Principal:
    """Whom a key speaks for, with the key in the session's place. Raises Unauthenticated."""
    row = await repository.use_api_key(session, hash_secret(key), now)
    if row is None:
        raise Unauthenticated("invalid_api_key", "the API key is unknown, revoked or expired")
    return Principal(row.user_id, row.wallet_address, row.id, frozenset(row.scopes))


async def create(
    session: AsyncSession, parts: Parts, principal: Principal, request: ApiKeyRequest
) -> NewApiKeyResponse:
    """Raises Conflict for a name in use or too many keys."""
    plan = await plan_of(session, principal.user_id, lock=True)
    if len(await repository.api_keys_of(session, principal.user_id)) >= plan.api_keys:
        raise Conflict("too_many_api_keys", f"the plan {plan.name} has {plan.api_keys} API keys; delete one first")
    key = API_KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
    now = parts.clock.now()
    row = ApiKey(
        id=uuid4(),
        user_id=principal.user_id,
        wallet_address=principal.wallet,
        name=request.name,
        hash=hash_secret(key),
        scopes=sorted(set(request.scopes)),
        created_at=now,
        expires_at=now + timedelta(days=request.expires_in_days),
    )
    session.add(row)
    try:
        await session.flush()
    except IntegrityError as error:
        raise Conflict("name_taken", f"you already have an API key named {request.name!r}") from error
    return NewApiKeyResponse.model_validate({**_fields(row), "key": key})


async def revoke(session: AsyncSession, parts: Parts, user_id: UUID, key_id: UUID) -> None:
    """The key, and the access tokens it was exchanged for, stop working at once. Raises NotFound."""
    mine = (ApiKey.user_id == user_id, ApiKey.id == key_id)
    if not await repository.revoke_api_keys(session, parts.clock.now(), *mine):
        raise NotFound("API key", key_id)
    await parts.revoked.announce(session, key_id)


def _fields(row: ApiKey) -> dict[str, object]:
    return {name: getattr(row, name) for name in ("id", "name", "scopes", "created_at", "expires_at", "last_used_at")}
