from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Response

from tradingflow.account_manager.contract import service
from tradingflow.account_manager.contract.schemas import ContractRequest, ContractResponse
from tradingflow.account_manager.dependencies import Reads, TheParts, Transaction
from tradingflow.web.auth import CurrentUser
from tradingflow.web.errors import error_responses

router = APIRouter(prefix="/contracts", tags=["contracts"], responses=error_responses(401, 403, 429))
_NOT_FOUND = error_responses(404)


@router.post("", status_code=201, responses=error_responses(404, 409, 503))
async def register_contract(
    body: ContractRequest, user: CurrentUser, parts: TheParts, session: Transaction
) -> ContractResponse:
    """Have a contract's events stored from a block on. They are then found at `/events`."""
    return await service.register(session, parts, user.user_id, body)


@router.get("")
async def list_contracts(user: CurrentUser, session: Reads) -> list[ContractResponse]:
    """The contracts you registered, and how far each is stored."""
    return await service.read_all(session, user.user_id)


@router.get("/{contract_id}", responses=_NOT_FOUND)
async def read_contract(contract_id: UUID, user: CurrentUser, session: Reads) -> ContractResponse:
    """One contract you registered, and how far it is stored."""
    return await service.read(session, user.user_id, contract_id)


@router.delete("/{contract_id}", status_code=204, responses=_NOT_FOUND)
async def remove_contract(contract_id: UUID, user: CurrentUser, session: Transaction) -> Response:
    """Take a contract off your list. What is stored stays: others may read it, too."""
    await service.remove(session, user.user_id, contract_id)
    return Response(status_code=204)
