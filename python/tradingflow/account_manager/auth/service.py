"""Signing in, staying signed in, signing out."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.auth import repository, siwe
from tradingflow.account_manager.auth.hashing import hash_secret
from tradingflow.account_manager.auth.nonces import NonceStore
from tradingflow.account_manager.auth.schemas import NonceResponse, TokenResponse
from tradingflow.account_manager.auth.signatures import SignatureVerifier
from tradingflow.account_manager.parts import Parts
from tradingflow.core.access_token import Principal
from tradingflow.core.errors import NotFound, Unauthenticated
from tradingflow.core.evm import to_bytes
from tradingflow.db.models import AuthSession

REFRESH_PREFIX = "tf_refresh_"
REFRESH_BYTES = 32


class AuthService:
    """One request's view of sign-in; `session` is the request's transaction."""

    def __init__(self, parts: Parts, session: AsyncSession) -> None:
        self._parts = parts
        self._settings = parts.settings
        self._session = session
        self._nonces = NonceStore(parts.redis, parts.settings.siwe_nonce_ttl_s)
        self._audience = siwe.Audience(parts.settings.siwe_domain, parts.settings.siwe_uri)

    async def issue_nonce(self, address: str, chain_id: int, statement: str = siwe.STATEMENT) -> NonceResponse:
        """A nonce that only proves what `statement` says. Raises InvalidInput for a chain we do not serve.

        Whoever asks is to be counted before: anybody may name any wallet, and shall not use up what its owner may do.
        """
        self._settings.chain(chain_id)
        now = self._parts.clock.now()
        nonce = await self._nonces.issue(siwe.Proof(address, chain_id, _purpose(statement)))
        return NonceResponse(
            nonce=nonce,
            message=siwe.compose(self._audience, address, chain_id, nonce, now, statement),
            expires_at=now + timedelta(seconds=self._settings.siwe_nonce_ttl_s),
        )

    async def prove_wallet(self, text: str, signature: str, statement: str | None = None) -> str:
        """The wallet that signed this message for us, now, for the first time. Raises Unauthenticated.

        With `statement` the message must say exactly that: who signs to sign in does not sign to link a wallet.
        The nonce is taken before the signature is looked at: a message is tried once, whatever comes of it.
        """
        message = siwe.parse(text)
        siwe.check(message, self._audience, self._parts.clock.now())
        self._settings.chain(message.chain_id)
        if statement is not None and message.statement != statement:
            raise Unauthenticated("wrong_statement", f"the message must state: {statement}")
        await self._nonces.take(message.nonce, siwe.Proof(message.address, message.chain_id, _purpose(statement)))
        verifier = SignatureVerifier(self._parts.chains)
        await verifier.verify(message.address, message.chain_id, text, to_bytes(signature))
        return message.address

    async def login(self, text: str, signature: str, client: str | None) -> TokenResponse:
        wallet = await self.prove_wallet(text, signature)
        user_id = await repository.ensure_user(self._session, wallet)
        now = self._parts.clock.now()
        row = AuthSession(
            id=uuid4(),
            user_id=user_id,
            wallet_address=wallet,
            client=client,
            last_used_at=now,
            expires_at=self._session_end(now),
        )
        await repository.add_session(self._session, row)
        return await self._tokens(Principal(user_id, wallet, row.id))

    async def refresh(self, refresh_token: str) -> TokenResponse:
        """Swap a refresh token for a new pair. One that was used before revokes its whole session."""
        token_hash = hash_secret(refresh_token)
        now = self._parts.clock.now()
        session_id = await repository.use_refresh_token(self._session, token_hash, now)
        if session_id is None:
            await self._revoke_family(token_hash)
            raise Unauthenticated("invalid_refresh_token", "the refresh token is not valid; sign in again")
        row = await repository.extend_session(self._session, session_id, now, self._session_end(now))
        if row is None:
            raise Unauthenticated("session_over", "the session has ended; sign in again")
        return await self._tokens(Principal(row.user_id, row.wallet_address, row.id))

    async def logout(self, principal: Principal) -> None:
        await self._end(principal.session_id, principal.user_id)

    async def end_session(self, user_id: UUID, session_id: UUID) -> None:
        """Raises NotFound when the user has no such living session."""
        if not await self._end(session_id, user_id):
            raise NotFound("session", session_id)

    async def _end(self, session_id: UUID, user_id: UUID | None) -> bool:
        ended = await repository.revoke_session(self._session, session_id, user_id, self._parts.clock.now())
        if ended:
            await self._parts.revoked.announce(self._session, session_id)
        return ended

    async def _revoke_family(self, token_hash: bytes) -> None:
        session_id = await repository.session_of_refresh_token(self._session, token_hash)
        if session_id is not None and await self._end(session_id, None):
            # The caller is refused by an exception, which would roll this back.
            await self._session.commit()

    async def _tokens(self, principal: Principal) -> TokenResponse:
        refresh_token = REFRESH_PREFIX + secrets.token_urlsafe(REFRESH_BYTES)
        await repository.add_refresh_token(self._session, hash_secret(refresh_token), principal.session_id)
        return TokenResponse(
            access_token=self._parts.signer.sign(principal),
            refresh_token=refresh_token,
            expires_in=self._parts.signer.ttl_s,
            user_id=principal.user_id,
        )

    def _session_end(self, now: datetime) -> datetime:
        return now + timedelta(seconds=self._settings.refresh_token_ttl_s)


def _purpose(statement: str | None) -> str:
    """Signing in may be stated in any words; every other purpose has its own, and its own nonces."""
    return "login" if statement is None or statement == siwe.STATEMENT else hash_secret(statement).hex()
