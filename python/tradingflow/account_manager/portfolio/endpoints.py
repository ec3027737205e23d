from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query

from tradingflow.account_manager.dependencies import Reads, TheParts
from tradingflow.account_manager.fields import Moment
from tradingflow.account_manager.hot_route import HotRoute
from tradingflow.account_manager.json_text import encode
from tradingflow.account_manager.performance.schemas import PerformanceResponse
from tradingflow.account_manager.portfolio import service
from tradingflow.account_manager.portfolio.schemas import PortfolioResponse, ValuePoint
from tradingflow.account_manager.vault.repository import vaults_of
from tradingflow.web.auth import CurrentUser
from tradingflow.web.errors import error_responses

router = APIRouter(prefix="/portfolio", tags=["portfolio"], responses=error_responses(401, 403, 429, 503))
hot_router = APIRouter(
    route_class=HotRoute, prefix="/portfolio", tags=["portfolio"], responses=error_responses(401, 403, 429, 503)
)

DEFAULT_RANGE = timedelta(days=7)
DAY_S = 86_400


@hot_router.get("", response_model=PortfolioResponse)
async def read_portfolio(user: CurrentUser, parts: TheParts) -> bytes:
    """Balances and values of all the caller's vaults, at most a few seconds old: see `as_of`."""
    return encode(await service.value_all(parts, user.user_id))


@router.get("/performance")
async def read_portfolio_performance(user: CurrentUser, parts: TheParts, session: Reads) -> list[PerformanceResponse]:
    """Profit, return and drawdown of each of the caller's vaults, oldest first, with the profit of its flows."""
    vaults = await vaults_of(session, user.user_id)
    await session.close()  # the connection shall not wait for the reports
    return [await parts.reporter.of_vault(vault) for vault in vaults]


@router.get("/history")
async def read_portfolio_history(
    user: CurrentUser,
    parts: TheParts,
    session: Reads,
    since: Annotated[Moment | None, Query(description="Inclusive; default: seven days before `until`")] = None,
    until: Annotated[Moment | None, Query(description="Exclusive; default: now")] = None,
    step_s: Annotated[int, Query(ge=1, le=30 * DAY_S, description="One point a vault and step")] = 3600,
) -> list[ValuePoint]:
    """Values over time, the last one of each step, oldest first; at most 5,000 points."""
    end = until or parts.clock.now()
    return await service.history(session, user.user_id, since or end - DEFAULT_RANGE, end, step_s)
