from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query

from tradingflow.account_manager.dependencies import Reads, TheParts
from tradingflow.account_manager.fields import ChainId, EvmAddressField, Moment
from tradingflow.account_manager.price import service
from tradingflow.account_manager.price.schemas import PriceBatchRequest, PricePointResponse, PriceResponse
from tradingflow.prices.points import AGREED
from tradingflow.web.auth import CurrentUser
from tradingflow.web.errors import error_responses

router = APIRouter(prefix="/price", tags=["prices"], responses=error_responses(401, 403, 429, 503))

DAY_S = 86_400
DEFAULT_RANGE = timedelta(days=1)


@router.get("/{chain_id}/{token}")
async def read_price(
    chain_id: ChainId,
    token: EvmAddressField,
    user: CurrentUser,
    parts: TheParts,
    max_age: Annotated[int, Query(ge=1, le=DAY_S, description="Seconds; an older price is refused")] = 60,
) -> PriceResponse:
    """What a token costs in the chain's quote token, as far as two sources agree on it."""
    return await service.read_price(parts, chain_id, token, max_age)


@router.post("/{chain_id}/batch")
async def read_prices(
    chain_id: ChainId, body: PriceBatchRequest, user: CurrentUser, parts: TheParts
) -> list[PriceResponse]:
    """Prices of several tokens, in the order asked."""
    return await service.read_prices(parts, chain_id, body.tokens, body.max_age_s)


@router.get("/{chain_id}/{token}/history")
async def read_price_history(
    chain_id: ChainId,
    token: EvmAddressField,
    user: CurrentUser,
    parts: TheParts,
    session: Reads,
    since: Annotated[Moment | None, Query(description="Inclusive; default: a day before `until`")] = None,
    until: Annotated[Moment | None, Query(description="Exclusive; default: now")] = None,
    step_s: Annotated[int, Query(ge=1, le=30 * DAY_S, description="One point a step, the last of it")] = 300,
    source: Annotated[
        str, Query(max_length=64, pattern=r"^[a-z0-9_.:/-]+$", description="`agreed`, or a market by name")
    ] = AGREED,
) -> list[PricePointResponse]:
    """Stored prices of the last 90 days, oldest first; at most 5,000 points."""
    parts.settings.chain(chain_id)
    end = until or parts.clock.now()
    return await service.read_history(session, chain_id, token, source, since or end - DEFAULT_RANGE, end, step_s)
