"""Routes of paper trading: its vaults and its trades, which are never listed with the live ones."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from tradingflow.chain.vault_policy import PolicyLedger, VaultPolicy
from tradingflow.chain.vault_settings import VaultSnapshot
from tradingflow.core.errors import InvalidInput, Refused
from tradingflow.core.evm import parse_address
from tradingflow.db.models import Flow, PaperTrade, PaperVault
from tradingflow.py_worker.flows.cursor import decode_cursor, encode_cursor
from tradingflow.py_worker.flows.schemas import ID_PATTERN, MAX_BIGINT, Cursor, Limit, Page
from tradingflow.py_worker.paper import vaults
from tradingflow.py_worker.paper.terms import MAX_TOKENS, BaseUnits, EvmAddress, PolicyTerms
from tradingflow.py_worker.paper.vaults import PaperVaults, VaultKey
from tradingflow.py_worker.parts import TheParts, Transaction
from tradingflow.web.auth import CurrentUser
from tradingflow.web.errors import error_responses

router = APIRouter(prefix="/paper", tags=["paper trading"], responses=error_responses(401, 422))

ChainIdPath = Annotated[int, Path(ge=1, le=MAX_BIGINT, examples=[1])]
AddressPath = Annotated[str, Path(pattern=r"^0x[0-9a-fA-F]{40}$", examples=["0x" + "aa" * 20])]


class PaperVaultRequest(BaseModel):
    """What the vault holds and allows. Left out: the real vault of that address is copied, which must be yours."""

    model_config = ConfigDict(extra="forbid")

    balances: dict[EvmAddress, BaseUnits] | None = Field(
        None, max_length=MAX_TOKENS, description="Base units by token; the zero address is the native currency"
    )
    policy: PolicyTerms | None = None


class PaperVaultView(BaseModel):
    chain_id: int
    address: str
    balances: dict[str, str]
    policy: PolicyTerms
    created_at: datetime
    updated_at: datetime


class PaperTradeView(BaseModel):
    """`spent` is below `amount_in` where the pools could not take all of it. Amounts are base units.

    `is_shadow`: made beside the live trade of this id, to compare the two.
    """

    trade_id: str
    flow_id: str
    version: int
    cycle: int
    node_id: str
    is_shadow: bool
    chain_id: int
    vault: str
    token_in: str
    token_out: str
    amount_in: BaseUnits
    min_amount_out: BaseUnits | None
    spent: BaseUnits | None
    amount_out: BaseUnits | None
    slippage_bps: int
    status: str
    failure_code: str | None
    failure_detail: str | None
    block_number: int
    created_at: datetime


@router.put("/vaults/{chain_id}/{address}", responses=error_responses(409, 503))
async def put_paper_vault(
    chain_id: ChainIdPath, address: AddressPath, request: PaperVaultRequest, user: CurrentUser, parts: TheParts
) -> PaperVaultView:
    """Open a vault on paper, or put an open one back to these terms with nothing traded yet."""
    key = VaultKey(user.user_id, chain_id, parse_address(address))
    store = PaperVaults(parts.sessions, parts.chains)
    terms = await _terms(store, key, request)
    async with parts.sessions.begin() as session:
        await vaults.put(session, key, *terms, replace=True)
        return _vault_view(await vaults.get(session, key))


async def _terms(
    store: PaperVaults, key: VaultKey, request: PaperVaultRequest
) -> tuple[VaultPolicy, PolicyLedger, dict[str, int]]:
    """What was given, and of the real vault what was not."""
    policy = request.policy.to_policy() if request.policy else None
    if policy is not None and request.balances is not None:
        return policy, PolicyLedger(), dict(request.balances)
    copied = await _copied(store, key)
    balances = dict(copied.balances) if request.balances is None else dict(request.balances)
    return (copied.policy, copied.ledger, balances) if policy is None else (policy, PolicyLedger(), balances)


async def _copied(store: PaperVaults, key: VaultKey) -> VaultSnapshot:
    try:
        return await store.snapshot(key)
    except Refused as refusal:
        raise InvalidInput(
            "nothing_to_copy", f"{refusal.detail}: give both `balances` and `policy`, or name a vault of yours"
        ) from refusal


@router.get("/vaults")
async def list_paper_vaults(
    user: CurrentUser, session: Transaction, limit: Limit = 100, cursor: Cursor = None
) -> Page[PaperVaultView]:
    """Your vaults on paper, by id."""
    statement = select(PaperVault).where(PaperVault.user_id == user.user_id).order_by(PaperVault.id).limit(limit + 1)
    if (after := decode_cursor(cursor, str)) is not None:
        statement = statement.where(PaperVault.id > _uuid(after))
    rows = (await session.scalars(statement)).all()
    items = [_vault_view(row) for row in rows[:limit]]
    return Page(items=items, next_cursor=encode_cursor(str(rows[limit - 1].id)) if len(rows) > limit else None)


@router.get("/vaults/{chain_id}/{address}", responses=error_responses(404))
async def get_paper_vault(
    chain_id: ChainIdPath, address: AddressPath, user: CurrentUser, session: Transaction
) -> PaperVaultView:
    """One of your vaults on paper."""
    return _vault_view(await vaults.get(session, VaultKey(user.user_id, chain_id, parse_address(address))))


@router.delete("/vaults/{chain_id}/{address}", status_code=204, responses=error_responses(404))
async def delete_paper_vault(
    chain_id: ChainIdPath, address: AddressPath, user: CurrentUser, session: Transaction
) -> None:
    """Forget a vault on paper; its trades stay listed. A paper flow that names it opens it anew."""
    await session.delete(await vaults.get(session, VaultKey(user.user_id, chain_id, parse_address(address))))


@router.get("/trades")
async def list_paper_trades(
    user: CurrentUser,
    session: Transaction,
    flow_id: Annotated[str | None, Query(pattern=ID_PATTERN)] = None,
    is_shadow: Annotated[
        bool | None, Query(description="Only trades made beside live ones, or only the others")
    ] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[PaperTradeView]:
    """Your trades on paper, newest first."""
    statement = (
        select(PaperTrade, Flow.flow_id)
        .join(Flow, Flow.id == PaperTrade.flow_pk)
        .where(PaperTrade.user_id == user.user_id)
        .order_by(PaperTrade.number.desc())
        .limit(limit + 1)
    )
    if flow_id is not None:
        statement = statement.where(Flow.flow_id == flow_id)
    if is_shadow is not None:
        statement = statement.where(PaperTrade.is_shadow == is_shadow)
    if (before := decode_cursor(cursor, int)) is not None:
        statement = statement.where(PaperTrade.number < before)
    rows = (await session.execute(statement)).all()
    items = [_trade_view(trade, name) for trade, name in rows[:limit]]
    return Page(items=items, next_cursor=encode_cursor(rows[limit - 1][0].number) if len(rows) > limit else None)


def _vault_view(row: PaperVault) -> PaperVaultView:
    policy = PolicyTerms.model_validate(row.policy)
    return PaperVaultView(
        chain_id=row.chain_id,
        address=row.address,
        balances=row.balances,
        policy=policy,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _trade_view(row: PaperTrade, flow_id: str) -> PaperTradeView:
    known = {name: getattr(row, name, None) for name in PaperTradeView.model_fields}
    told: dict[str, Any] = {**known, "flow_id": flow_id, "vault": row.vault_address}
    return PaperTradeView.model_construct(None, **told)


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise InvalidInput("invalid_cursor", "the cursor is not one this list handed out") from error
