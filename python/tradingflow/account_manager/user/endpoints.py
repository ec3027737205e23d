from __future__ import annotations

from fastapi import APIRouter

from tradingflow.account_manager.dependencies import Reads
from tradingflow.account_manager.user import service
from tradingflow.account_manager.user.schemas import UserResponse
from tradingflow.web.auth import CurrentUser
from tradingflow.web.errors import ERROR_RESPONSES

router = APIRouter(prefix="/users", tags=["account"], responses={401: ERROR_RESPONSES[401]})


@router.get("/me")
async def read_me(user: CurrentUser, session: Reads) -> UserResponse:
    """The account of the caller and its wallets."""
    return await service.read_account(session, user)
