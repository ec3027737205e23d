from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from tradingflow.account_manager.dependencies import TheParts
from tradingflow.account_manager.fields import ChainId, EvmAddressField
from tradingflow.account_manager.price import service
from tradingflow.account_manager.price.schemas import PriceBatchRequest, PriceResponse
from tradingflow.web.auth import CurrentUser
from tradingflow.web.errors import error_responses

router = APIRouter(prefix="/price", tags=["prices"], responses=error_responses(401, 403, 429, 503))


@router.get("/{chain_id}/{token}")
async def read_price(
    chain_id: ChainId,
    token: EvmAddressField,
    user: CurrentUser,
    parts: TheParts,
    max_age: Annotated[int, Query(ge=1, le=86_400, description="Seconds; an older price is refused")] = 60,
) -> PriceResponse:
    """What a token costs in the chain's quote token, as far as two sources agree on it."""
    return await service.read_price(parts, chain_id, token, max_age)


@router.post("/{chain_id}/batch")
async def read_prices(
    chain_id: ChainId, body: PriceBatchRequest, user: CurrentUser, parts: TheParts
) -> list[PriceResponse]:
    """Prices of several tokens, in the order asked."""
    return [await service.read_price(parts, chain_id, token, body.max_age_s) for token in body.tokens]
