from __future__ import annotations

from fastapi import APIRouter

from tradingflow.account_manager.dependencies import TheParts, Transaction
from tradingflow.account_manager.portfolio import service
from tradingflow.account_manager.portfolio.schemas import PortfolioResponse
from tradingflow.account_manager.vault import repository as vaults
from tradingflow.web.auth import CurrentUser
from tradingflow.web.errors import ERROR_RESPONSES

router = APIRouter(prefix="/portfolio", tags=["portfolio"], responses={s: ERROR_RESPONSES[s] for s in (401, 403, 503)})


@router.get("")
async def read_portfolio(user: CurrentUser, parts: TheParts, session: Transaction) -> PortfolioResponse:
    """Balances and values of all the caller's vaults."""
    return await service.value_all(session, parts, await vaults.vaults_of(session, user.user_id))
