from __future__ import annotations

from typing import Any, Literal
from uuid import UUID, uuid4

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.contract import repository
from tradingflow.account_manager.contract.abi import entries_of, events_of, kind_of
from tradingflow.account_manager.contract.repository import ContractRow
from tradingflow.account_manager.contract.schemas import ContractRequest, ContractResponse
from tradingflow.account_manager.parts import Parts
from tradingflow.account_manager.plan.repository import plan_of
from tradingflow.chain.decoder import EventSpec, event_from_abi
from tradingflow.chain.registry import built_in_events
from tradingflow.core.errors import Conflict, InvalidInput, InvariantBroken, NotFound
from tradingflow.db.cursors import next_block
from tradingflow.db.models import MonitoredContract, UserContract


async def register(session: AsyncSession, parts: Parts, user_id: UUID, request: ContractRequest) -> ContractResponse:
    """Have a contract monitored. Raises InvalidInput, NotFound for another user's vault, Conflict past the plan."""
    chain = parts.chain(request.chain_id)
    if await repository.is_foreign_vault(session, user_id, request.chain_id, request.address):
        raise NotFound("contract", request.address)
    abi = _abi_of(request)
    if not await chain.code_at(request.address):
        raise InvalidInput("no_contract", f"there is no contract at {request.address} on chain {request.chain_id}")
    plan = await plan_of(session, user_id, lock=True)
    if await repository.count(session, user_id) >= plan.contracts:
        raise Conflict("too_many_contracts", f"the plan {plan.name} has {plan.contracts} contracts; remove one first")
    first = await _first_block(session, parts, request, plan.history_blocks)
    kind = request.kind or kind_of(abi)
    if request.kind is None:
        await repository.keep_abi(session, kind, user_id, abi)
    await repository.monitor(session, request.chain_id, request.address, kind, first)
    row = UserContract(
        id=uuid4(),
        user_id=user_id,
        chain_id=request.chain_id,
        address=request.address,
        kind=kind,
        name=request.name,
        created_at=parts.clock.now(),
    )
    try:
        await repository.add(session, row)
    except IntegrityError as error:
        raise Conflict("already_registered", "you have registered this contract already; remove it first") from error
    return await read(session, user_id, row.id)


def _abi_of(request: ContractRequest) -> list[dict[str, Any]]:
    """The entries to keep; none for a built-in kind."""
    if (request.abi is None) == (request.kind is None):
        raise InvalidInput("abi_or_kind", "give exactly one of `abi` and `kind`")
    return [] if request.abi is None else entries_of(events_of(request.abi))


async def _first_block(session: AsyncSession, parts: Parts, request: ContractRequest, history_blocks: int) -> int:
    head = await next_block(session, request.chain_id)
    if head is None:
        head = parts.settings.chain(request.chain_id).start_block
    first = head if request.from_block is None else request.from_block
    if not head - history_blocks <= first:
        raise InvalidInput(
            "history_too_long", f"from_block must be at least {head - history_blocks}: your plan's history"
        )
    if first > head:
        raise InvalidInput("block_ahead", f"from_block lies ahead of the chain; the highest allowed is {head}")
    return first


async def read(session: AsyncSession, user_id: UUID, contract_id: UUID) -> ContractResponse:
    row = await repository.find(session, user_id, contract_id)
    if row is None:
        raise NotFound("contract", contract_id)
    return await _response(session, row)


async def read_all(session: AsyncSession, user_id: UUID) -> list[ContractResponse]:
    return [await _response(session, row) for row in await repository.contracts_of(session, user_id)]


async def remove(session: AsyncSession, user_id: UUID, contract_id: UUID) -> None:
    if not await repository.remove(session, user_id, contract_id):
        raise NotFound("contract", contract_id)


async def events_of_kind(session: AsyncSession, kind: str) -> tuple[EventSpec, ...]:
    """The events a kind declares, built in or a user's."""
    if (built_in := built_in_events().get(kind)) is not None:
        return built_in
    entries = await repository.abi_of(session, kind)
    if entries is None:
        raise InvariantBroken("abi_missing", f"the ABI {kind} is in use and not stored")
    return tuple(event_from_abi(entry) for entry in entries)


async def _response(session: AsyncSession, row: ContractRow) -> ContractResponse:
    mine, monitored = row
    return ContractResponse(
        id=mine.id,
        chain_id=mine.chain_id,
        address=mine.address,
        name=mine.name,
        kind=mine.kind,
        stored_kind=monitored.kind if monitored else mine.kind,
        events=[event.signature for event in await events_of_kind(session, mine.kind)],
        status=_status(monitored),
        from_block=monitored.from_block if monitored else None,
        live_from=monitored.live_from if monitored else None,
        history_next=monitored.history_next if monitored else None,
        created_at=mine.created_at,
    )


def _status(contract: MonitoredContract | None) -> Literal["queued", "backfilling", "live"]:
    if contract is None or contract.live_from is None:
        return "queued"
    if contract.history_next is not None and contract.history_next < contract.live_from:
        return "backfilling"
    return "live"
