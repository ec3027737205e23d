"""The account: what it is, what it prefers, its secrets, its copy and its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.json_text import address_text, encode
from tradingflow.account_manager.parts import Parts
from tradingflow.account_manager.plan.repository import plan_of
from tradingflow.account_manager.trade.history import TradeFilter, all_trades
from tradingflow.account_manager.user import repository
from tradingflow.account_manager.user.preferences import SCHEMA_VERSION, Preferences, PreferencesPatch, merge, upgrade
from tradingflow.account_manager.user.schemas import CredentialRequest
from tradingflow.account_manager.vault import repository as vaults
from tradingflow.core.access_token import Principal
from tradingflow.core.errors import Conflict, InvalidInput, NotFound, Unauthenticated
from tradingflow.db.models import ApiKey, AuthSession, Base, Credential, Flow, NotificationChannel, UserContract
from tradingflow.db.reads import ReadPool


async def read_account(reads: ReadPool, principal: Principal) -> dict[str, Any]:
    """As UserResponse describes it. Raises Unauthenticated when the account of a still valid token was deleted."""
    rows = await repository.user_with_wallets(reads, principal.user_id)
    if not rows:
        raise Unauthenticated("account_gone", "the account of this access token no longer exists")
    return {
        "id": str(principal.user_id),
        "wallet": principal.wallet,
        "wallets": [{"address": address_text(address), "created_at": linked_at} for _, address, linked_at in rows],
        "created_at": rows[0][0],
    }


async def read_preferences(session: AsyncSession, user_id: UUID) -> Preferences:
    row = await repository.preferences(session, user_id)
    return Preferences.model_validate(upgrade(row.schema_version, row.values) if row else {})


async def change_preferences(session: AsyncSession, user_id: UUID, patch: PreferencesPatch) -> Preferences:
    await _lock_account(session, user_id)
    row = await repository.preferences(session, user_id)
    values = merge(upgrade(row.schema_version, row.values) if row else {}, patch)
    await repository.save_preferences(session, user_id, SCHEMA_VERSION, values)
    return Preferences.model_validate(values)


async def keep_credential(session: AsyncSession, parts: Parts, user_id: UUID, request: CredentialRequest) -> Credential:
    """Seal a secret under its name; an existing one of that name is replaced."""
    plan = await plan_of(session, user_id, lock=True)
    row = await repository.credential(session, user_id, request.name)
    if row is None:
        if len(await repository.credentials(session, user_id)) >= plan.credentials:
            raise Conflict("too_many_credentials", f"the plan {plan.name} has {plan.credentials} credentials")
        row = Credential(id=uuid4(), user_id=user_id, name=request.name, created_at=parts.clock.now())
        session.add(row)
    sealed = parts.sealer.seal(request.secret.get_secret_value().encode(), row.id, user_id)
    row.key_id, row.sealed, row.updated_at = sealed.key_id, sealed.data, parts.clock.now()
    await session.flush()
    return row


async def delete_credential(session: AsyncSession, user_id: UUID, credential_id: UUID) -> None:
    if not await repository.delete_credential(session, user_id, credential_id):
        raise NotFound("credential", credential_id)


async def delete_account(session: AsyncSession, parts: Parts, principal: Principal, confirm: str) -> None:
    """Delete the account and all its rows. Its vaults stay on the chain, in the hands of their owner."""
    if confirm != principal.wallet:
        raise InvalidInput("not_confirmed", "`confirm` must be the address of the signed-in wallet")
    await _lock_account(session, principal.user_id)
    if (work := await repository.running_work(session, principal.user_id)) is not None:
        raise Conflict("account_busy", f"{work}; stop them, then delete the account")
    for holder in await repository.credential_holders(session, principal.user_id):
        await parts.revoked.announce(session, holder)
    await repository.delete_user(session, principal.user_id)


async def export_account(session: AsyncSession, reads: ReadPool, principal: Principal) -> dict[str, Any]:
    """Everything kept about the account but its flows and trades, secrets left out."""
    user_id = principal.user_id
    account = await read_account(reads, principal)
    preferences = await read_preferences(session, user_id)
    return {
        "account": account,
        "preferences": preferences.model_dump(mode="json"),
        **await _kept_about(session, user_id),
        "credentials": [
            {"name": c.name, "created_at": c.created_at} for c in await repository.credentials(session, user_id)
        ],
        "vaults": [
            {"chain_id": v.chain_id, "address": v.address, "owner_address": v.owner_address, "created_at": v.created_at}
            for v in await vaults.vaults_of(session, user_id)
        ],
    }


async def with_history(
    parts: Parts, user_id: UUID, exported: dict[str, Any], flows: Sequence[tuple[Flow, int]]
) -> AsyncIterator[bytes]:
    """The export as JSON. A page of trades or one graph at a time is read, when the client takes it: all together may
    be gigabytes."""
    yield encode(exported)[:-1] + b',"trades":['
    separator = b""
    async for trades in all_trades(parts.hot, user_id, TradeFilter()):
        if trades:
            yield separator + encode(trades)[1:-1]
            separator = b","
    yield b'],"flows":['
    separator = b""
    for flow, version in flows:
        async with parts.reads() as session:
            graph = await repository.graph_text(session, flow.id, version)
        if graph is not None:
            about = {"flow_id": flow.flow_id, "status": flow.status, "mode": flow.mode, "version": version}
            yield b"".join((separator, encode(about)[:-1], b',"flow_json":', graph.encode(), b"}"))
            separator = b","
    yield b"]}"


async def _kept_about(session: AsyncSession, user_id: UUID) -> dict[str, Any]:
    """Sign-ins, keys, contracts and channels: every row, with what a person can make use of."""
    kept: tuple[tuple[str, type[Base], tuple[str, ...]], ...] = (
        ("sessions", AuthSession, ("wallet_address", "client", "created_at", "last_used_at", "revoked_at")),
        ("api_keys", ApiKey, ("name", "scopes", "created_at", "expires_at", "last_used_at", "revoked_at")),
        ("contracts", UserContract, ("chain_id", "address", "name", "kind", "created_at")),
        ("channels", NotificationChannel, ("kind", "target", "description", "topics", "status", "created_at")),
    )
    return {
        name: [
            {field: getattr(row, field) for field in fields}
            for row in await repository.rows_of(session, table, user_id)
        ]
        for name, table, fields in kept
    }


async def _lock_account(session: AsyncSession, user_id: UUID) -> None:
    if not await repository.lock_account(session, user_id):
        raise Unauthenticated("account_gone", "the account of this access token no longer exists")
