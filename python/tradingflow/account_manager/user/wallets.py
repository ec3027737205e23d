"""Several wallets, one account: linking and unlinking, each agreed to by a signature that says so."""

from __future__ import annotations

from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.auth import repository as auth
from tradingflow.account_manager.auth.schemas import NonceResponse
from tradingflow.account_manager.auth.service import AuthService
from tradingflow.account_manager.parts import Parts
from tradingflow.account_manager.plan.repository import plan_of
from tradingflow.account_manager.user import repository
from tradingflow.account_manager.user.schemas import LinkRequest, UnlinkNonceRequest, UnlinkRequest, WalletNonceRequest
from tradingflow.core.access_token import Principal
from tradingflow.core.errors import Conflict, NotFound, Unauthenticated
from tradingflow.db.models import ApiKey, Wallet


class WalletService:
    def __init__(self, parts: Parts, session: AsyncSession, principal: Principal) -> None:
        self._parts = parts
        self._session = session
        self._principal = principal
        self._auth = AuthService(parts, session)

    async def link_nonce(self, request: WalletNonceRequest) -> NonceResponse:
        return await self._issue_nonce(request, self._link_statement())

    async def unlink_nonce(self, request: UnlinkNonceRequest) -> NonceResponse:
        return await self._issue_nonce(request, self._unlink_statement(request.unlink))

    async def _issue_nonce(self, request: WalletNonceRequest, statement: str) -> NonceResponse:
        """Each allows one check of a signature, so an account's are counted as attempts to sign in are."""
        await self._parts.limits.count(self._parts.limits.sign_in, str(self._principal.user_id))
        return await self._auth.issue_nonce(request.address, request.chain_id, statement)

    async def link(self, request: LinkRequest) -> Wallet:
        """Raises Conflict for a wallet that has an account already."""
        address = await self._auth.prove_wallet(request.message, request.signature, self._link_statement())
        plan = await plan_of(self._session, self._principal.user_id, lock=True)
        await auth.lock_wallet(self._session, address)
        if await auth.user_of_wallet(self._session, address) is not None:
            raise Conflict("wallet_taken", "this wallet already belongs to an account; delete that account first")
        if len(await repository.wallet_addresses(self._session, self._principal.user_id)) >= plan.wallets:
            raise Conflict("too_many_wallets", f"the plan {plan.name} has {plan.wallets} wallets")
        wallet = Wallet(
            id=uuid4(), user_id=self._principal.user_id, address=address, created_at=self._parts.clock.now()
        )
        await repository.add_wallet(self._session, wallet)
        return wallet

    async def unlink(self, request: UnlinkRequest) -> None:
        """Agreed to by any wallet of the account. Its sessions and API keys end with it."""
        # First of all: contract wallets are asked on their chains, for which no lock and no connection shall wait.
        statement = self._unlink_statement(request.address)
        signer = await self._auth.prove_wallet(request.message, request.signature, statement)
        await self._lock_account()
        own = await repository.wallet_addresses(self._session, self._principal.user_id)
        if request.address not in own:
            raise NotFound("wallet", request.address)
        if signer not in own:
            raise Unauthenticated("not_your_wallet", "the message must be signed by a wallet of this account")
        if len(own) == 1:
            raise Conflict("last_wallet", "the last wallet cannot be unlinked; delete the account instead")
        if await repository.owns_vaults(self._session, self._principal.user_id, request.address):
            raise Conflict(
                "wallet_owns_vaults", "a wallet that owns vaults, or whose vault is being created, cannot be unlinked"
            )
        await repository.remove_wallet(self._session, self._principal.user_id, request.address)
        await self._end_credentials_of(request.address)

    async def _end_credentials_of(self, address: str) -> None:
        now, user_id = self._parts.clock.now(), self._principal.user_id
        ended = await auth.revoke_sessions_of_wallet(self._session, user_id, address, now)
        mine = (ApiKey.user_id == user_id, ApiKey.wallet_address == address)
        for holder in [*ended, *await auth.revoke_api_keys(self._session, now, *mine)]:
            await self._parts.revoked.announce(self._session, holder)

    async def _lock_account(self) -> None:
        if not await repository.lock_account(self._session, self._principal.user_id):
            raise Unauthenticated("account_gone", "the account of this access token no longer exists")

    def _link_statement(self) -> str:
        return f"Link this wallet to the TradingFlow account {self._principal.user_id}."

    def _unlink_statement(self, address: str) -> str:
        return f"Unlink the wallet {address} from the TradingFlow account {self._principal.user_id}."
