"""A user's vaults: asking for one, and reading what the chain says of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.event import repository as events
from tradingflow.account_manager.pagination import Page, cut, decode_cursor, encode_cursor
from tradingflow.account_manager.parts import Parts
from tradingflow.account_manager.user import repository as users
from tradingflow.account_manager.vault import repository
from tradingflow.account_manager.vault.bounds import CALLS_AT_ONCE, MAX_ROUTERS, MAX_TOKENS
from tradingflow.account_manager.vault.schemas import (
    CreateVaultRequest,
    EstimateRequest,
    EstimateResponse,
    LossRule,
    OperationResponse,
    RouterRule,
    TokenRules,
    VaultResponse,
)
from tradingflow.account_manager.vault.transactions import TransactionBuilder
from tradingflow.chain.client import ChainClient
from tradingflow.chain.fees import current_fees
from tradingflow.core.access_token import Principal
from tradingflow.core.errors import Conflict, DependencyUnavailable, Forbidden, NotFound, Refused
from tradingflow.core.evm import ZERO_ADDRESS, keccak, to_bytes
from tradingflow.core.tasks import in_groups
from tradingflow.db.models import Vault, VaultDeployment

_SALT_DOMAIN = b"tradingflow.vault.v1"


def vault_salt(user_id: UUID, request_key: str) -> str:
    """One salt a (user, request key): a request repeated after any crash predicts the same vault."""
    return "0x" + keccak(_SALT_DOMAIN + user_id.bytes + request_key.encode()).hex()


@dataclass(frozen=True)
class Acceptance:
    """`is_new` is False when the same request was accepted before."""

    deployment: VaultDeployment
    is_new: bool
    gas_estimate: int | None


async def request_deployment(parts: Parts, principal: Principal, request: CreateVaultRequest) -> Acceptance:
    """Queue a deployment. Raises Forbidden for an owner that is not the caller's wallet, Conflict for a reused key.

    No connection of the database is held while the chain is asked.
    """
    client = parts.chain(request.chain_id)
    key = request.request_key or uuid4().hex
    async with parts.reads() as session:
        owner = await _own_wallet(session, principal, request.owner_address)
        known = await repository.deployment_by_key(session, principal.user_id, key)
    factory = _factory(client)
    if known is not None:
        return Acceptance(_same(known, request.chain_id, owner), False, None)
    await parts.limits.count(parts.limits.deploy, str(principal.user_id))
    salt = vault_salt(principal.user_id, key)
    predicted = await client.call("VaultFactory", factory, "predictVault", owner, to_bytes(salt))
    gas = await _estimate_deployment(client, factory, owner, salt)
    values = {
        "id": uuid4(),
        "user_id": principal.user_id,
        "request_key": key,
        "chain_id": request.chain_id,
        "owner_address": owner,
        "salt": salt,
        "predicted_address": str(predicted),
        "status": "queued",
    }
    async with parts.sessions.begin() as session:
        # Unlinked meanwhile, it may be another account's wallet by now, and the vault would be shown to this one.
        await users.lock_account(session, principal.user_id)
        await _own_wallet(session, principal, owner)
        deployment = await repository.add_deployment(session, values)
        is_new = deployment.id == values["id"]
    return Acceptance(_same(deployment, request.chain_id, owner), is_new, gas if is_new else None)


def _same(deployment: VaultDeployment, chain_id: int, owner: str) -> VaultDeployment:
    """Raises Conflict for a deployment that was asked for with other values."""
    if (deployment.chain_id, deployment.owner_address) != (chain_id, owner):
        raise Conflict("request_key_used", "this request_key belongs to a deployment with another chain or owner")
    return deployment


async def estimate(
    session: AsyncSession, parts: Parts, principal: Principal, request: EstimateRequest
) -> EstimateResponse:
    """Before anything is asked for. Raises Forbidden for an owner that is not the caller's wallet."""
    client = parts.chain(request.chain_id)
    owner = await _own_wallet(session, principal, request.owner_address)
    await session.close()  # the connection shall not wait for the chain
    salt = vault_salt(principal.user_id, uuid4().hex)
    gas, fees = await asyncio.gather(_estimate_deployment(client, _factory(client), owner, salt), current_fees(client))
    return EstimateResponse(gas=gas, max_fee_per_gas=fees.max_fee, max_cost=gas * fees.max_fee)


async def _own_wallet(session: AsyncSession, principal: Principal, address: str | None) -> str:
    owner = address or principal.wallet
    if owner not in await users.wallet_addresses(session, principal.user_id):
        raise Forbidden("not_your_wallet", "owner_address must be one of your own wallets")
    return owner


def _factory(client: ChainClient) -> str:
    if client.settings.vault_factory is None:
        raise Refused("no_factory", f"chain {client.chain_id} has no vault factory configured")
    return client.settings.vault_factory


async def _estimate_deployment(client: ChainClient, factory: str, owner: str, salt: str) -> int:
    data = client.contract("VaultFactory", factory).encode_abi("createVault", args=[owner, to_bytes(salt)])
    estimate: int = await client.guard(client.web3.eth.estimate_gas({"to": factory, "data": data}))
    return estimate


async def read_deployment(session: AsyncSession, user_id: UUID, deployment_id: UUID) -> VaultDeployment:
    deployment = await repository.deployment_of(session, user_id, deployment_id)
    if deployment is None:
        raise NotFound("vault task", deployment_id)
    return deployment


async def own_vault(session: AsyncSession, user_id: UUID, chain_id: int, address: str) -> Vault:
    """Raises NotFound for a vault that is not there or somebody else's."""
    vault = await repository.vault_of(session, user_id, chain_id, address)
    if vault is None:
        raise NotFound("vault", address)
    return vault


async def vaults_of_wallet(session: AsyncSession, user_id: UUID, chain_id: int, wallet: str) -> list[Vault]:
    """Raises NotFound for a wallet that is not the caller's."""
    if wallet not in await users.wallet_addresses(session, user_id):
        raise NotFound("wallet", wallet)
    return await repository.vaults_of_owner(session, user_id, chain_id, wallet)


async def builder(
    session: AsyncSession, parts: Parts, user_id: UUID, chain_id: int, address: str
) -> TransactionBuilder:
    vault = await own_vault(session, user_id, chain_id, address)
    await session.close()  # the connection shall not wait for the chain
    return TransactionBuilder(parts.chain(chain_id), vault.address, vault.owner_address)


async def operator(session: AsyncSession, parts: Parts, chain_id: int) -> str:
    """Raises DependencyUnavailable until an executor has taken up its work on this chain."""
    parts.settings.chain(chain_id)
    address = await repository.operator_address(session, chain_id)
    if address is None:
        raise DependencyUnavailable(
            "operator_unknown",
            f"no executor has registered its operator on chain {chain_id} yet; start a Celery worker",
        )
    return address


async def read_vault(session: AsyncSession, parts: Parts, user_id: UUID, chain_id: int, address: str) -> VaultResponse:
    """Settings and policy at one block."""
    vault = await own_vault(session, user_id, chain_id, address)
    client = parts.chain(chain_id)
    tokens = await repository.owners_tokens(session, chain_id, address, vault.owner_address) - {ZERO_ADDRESS}
    routers = await repository.routers_in_events(session, chain_id, address)
    await session.close()  # nothing more is read: the connection shall not wait for the chain
    routers.update(router for router in (client.settings.swap_router, client.settings.v2_router) if router)
    return await _VaultReader(client, vault, await client.guard(client.web3.eth.block_number)).read(tokens, routers)


@dataclass(frozen=True)
class _VaultReader:
    client: ChainClient
    vault: Vault
    block: int

    async def read(self, tokens: set[str], routers: set[str]) -> VaultResponse:
        operator, expires_at, paused, cooldown, last_trade, losses = await asyncio.gather(
            *(
                self._ask(function)
                for function in ("operator", "operatorExpiresAt", "paused", "cooldown", "lastTradeAt", "lossPolicy")
            )
        )
        return VaultResponse(
            chain_id=self.vault.chain_id,
            address=self.vault.address,
            owner_address=self.vault.owner_address,
            factory=self.vault.factory,
            created_block=self.vault.created_block,
            block_number=self.block,
            operator=None if operator == ZERO_ADDRESS else operator,
            operator_expires_at=_moment(expires_at),
            paused=paused,
            cooldown_s=cooldown,
            last_trade_at=_moment(last_trade),
            tokens=await in_groups((self._token(token) for token in sorted(tokens)[:MAX_TOKENS]), CALLS_AT_ONCE),
            tokens_left_out=max(len(tokens) - MAX_TOKENS, 0),
            routers=await in_groups((self._router(router) for router in sorted(routers)[:MAX_ROUTERS]), CALLS_AT_ONCE),
            routers_left_out=max(len(routers) - MAX_ROUTERS, 0),
            loss_cap=_loss_rule(*losses),
        )

    async def _token(self, token: str) -> TokenRules:
        allowed, per_trade_cap, per_day_cap, spent_today = await self._ask("tokenPolicy", token)
        return TokenRules(
            token=token, allowed=allowed, per_trade_cap=per_trade_cap, per_day_cap=per_day_cap, spent_today=spent_today
        )

    async def _router(self, router: str) -> RouterRule:
        return RouterRule(router=router, kind=await self._ask("routerKind", router))

    async def _ask(self, function: str, *args: Any) -> Any:
        return await self.client.call("Vault", self.vault.address, function, *args, block=self.block)


def _loss_rule(price_source: str, cap: int, window_s: int, loss_in_window: int) -> LossRule | None:
    if price_source == ZERO_ADDRESS:
        return None
    return LossRule(price_source=price_source, cap=cap, window_s=window_s, loss_in_window=loss_in_window)


def _moment(unix_seconds: int) -> datetime | None:
    """None for 0 and for times beyond what a calendar knows (an operator set for ever)."""
    if unix_seconds == 0 or unix_seconds > datetime.max.replace(tzinfo=UTC).timestamp():
        return None
    return datetime.fromtimestamp(unix_seconds, UTC)


class OperationCursor(msgspec.Struct, frozen=True):
    block: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    log: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


async def operations(
    session: AsyncSession, user_id: UUID, chain_id: int, address: str, cursor: str | None, limit: int
) -> Page[OperationResponse]:
    """The vault's own events, newest first."""
    await own_vault(session, user_id, chain_id, address)
    key = decode_cursor(cursor, OperationCursor)
    query = events.EventQuery(chain_id=chain_id, contract=address, after=(key.block, key.log) if key else None)
    rows, more = cut(await events.find(session, user_id, query, limit + 1), limit)
    last = rows[-1] if more else None
    return Page(
        items=[OperationResponse.model_validate(row) for row in rows],
        next_cursor=encode_cursor(OperationCursor(last.block_number, last.log_index)) if last else None,
    )
