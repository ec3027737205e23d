from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.user import repository
from tradingflow.account_manager.user.schemas import UserResponse, WalletResponse
from tradingflow.core.access_token import Principal
from tradingflow.core.errors import Unauthenticated


async def read_account(session: AsyncSession, principal: Principal) -> UserResponse:
    """Raises Unauthenticated when the account of a still valid token was deleted."""
    rows = await repository.user_with_wallets(session, principal.user_id)
    if not rows:
        raise Unauthenticated("account_gone", "the account of this access token no longer exists")
    return UserResponse(
        id=principal.user_id,
        wallet=principal.wallet,
        wallets=[WalletResponse.model_validate(wallet) for _, wallet in rows],
        created_at=rows[0][0].created_at,
    )
