"""Unsigned transactions for the owner's own wallet. We never hold the key that could sign them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tradingflow.account_manager.vault.bounds import CALLS_AT_ONCE, MAX_TOKENS
from tradingflow.account_manager.vault.price_source import require_price_source
from tradingflow.account_manager.vault.schemas import (
    LossCapRequest,
    OperatorRequest,
    PolicyRequest,
    RouterRequest,
    TokenPolicyRequest,
    UnsignedTransaction,
    WithdrawRequest,
)
from tradingflow.chain.client import ChainClient
from tradingflow.chain.vault import VaultContract
from tradingflow.core.errors import InvalidInput
from tradingflow.core.evm import ZERO_ADDRESS
from tradingflow.core.tasks import in_groups

UNISWAP_V3_ROUTER = 1
GAS_MARGIN_PERCENT = 20
# A deposit cannot be estimated before its approval is mined. An OpenZeppelin token uses 75,000; room for odd ones.
DEPOSIT_GAS = 300_000


@dataclass(frozen=True)
class TransactionBuilder:
    """Builds for one vault and its owner."""

    client: ChainClient
    vault: str
    owner: str

    async def deposit(self, token: str, amount: int) -> list[UnsignedTransaction]:
        """Approve exactly `amount` (after taking back a smaller old approval, which some tokens insist on), deposit."""
        if amount == 0:
            raise InvalidInput("invalid_amount", "a deposit needs an amount above zero")
        if token == ZERO_ADDRESS:
            return [await self._call("depositNative", [], f"Deposit {amount} wei", value=amount)]
        allowance = await self.client.call("ERC20", token, "allowance", self.owner, self.vault)
        deposit_data = self._encode("Vault", self.vault, "deposit", [token, amount])
        steps = []
        if allowance < amount:
            if allowance:
                steps.append(await self._approve(token, 0, "Take back the old approval"))
            steps.append(await self._approve(token, amount, f"Approve {amount} base units of {token}"))
        gas = DEPOSIT_GAS if steps else await self._gas(self.vault, deposit_data, 0)
        description = f"Deposit {amount} base units of {token}"
        steps.append(self._transaction(self.vault, deposit_data, 0, gas, description))
        return steps

    async def withdraw(self, request: WithdrawRequest) -> list[UnsignedTransaction]:
        to = request.to or self.owner
        if request.amount is None:
            return [await self._call("withdrawAll", [request.token, to], f"Withdraw all of {request.token} to {to}")]
        what = f"Withdraw {request.amount} base units of {request.token} to {to}"
        return [await self._call("withdraw", [request.token, request.amount, to], what)]

    async def policy(
        self, request: PolicyRequest, default_operator: str | None, known_tokens: set[str]
    ) -> list[UnsignedTransaction]:
        """One multicall of everything the request names.

        `known_tokens` are those the vault may allow already. Raises InvalidInput for a request that names nothing, and
        for a loss cap by a contract that does not value every token the vault would then allow, or where those are
        too many to ask for.
        """
        measure = ""
        calls = [self._encode_operator(request.operator, default_operator)] if request.operator else []
        calls += [
            self._encode("Vault", self.vault, "setRouter", [router.router, router.kind])
            for router in self._routers(request)
        ]
        calls += [
            self._encode("Vault", self.vault, "setTokenPolicy", [t.token, t.allowed, t.per_trade_cap, t.per_day_cap])
            for t in request.tokens
        ]
        if request.cooldown_s is not None:
            calls.append(self._encode("Vault", self.vault, "setCooldown", [request.cooldown_s]))
        if request.loss_cap is not None:
            source = self._price_source(request.loss_cap)
            if source != ZERO_ADDRESS:
                await self._require_measurable(source, request.tokens, known_tokens)
                measure = f", losses measured by {source}"
            # The contract reads neither figure when the cap is lifted.
            terms = [source, request.loss_cap.cap or 0, request.loss_cap.window_s or 0]
            calls.append(self._encode("Vault", self.vault, "setLossCap", terms))
        if not calls:
            raise InvalidInput("empty_policy", "name an operator, routers, tokens, cooldown_s or loss_cap to set")
        return [await self._call("multicall", [calls], f"Set {len(calls)} rules of the vault's policy{measure}")]

    async def operator(self, request: OperatorRequest, default_operator: str | None) -> list[UnsignedTransaction]:
        args = self._operator_args(request, default_operator)
        return [await self._call("setOperator", args, f"Let {args[0]} trade until {request.expires_at.isoformat()}")]

    async def pause(self) -> list[UnsignedTransaction]:
        return [await self._call("pause", [], "Stop all trading; deposits and withdrawals go on")]

    async def unpause(self) -> list[UnsignedTransaction]:
        return [await self._call("unpause", [], "Let trading go on")]

    async def revoke_operator(self) -> list[UnsignedTransaction]:
        return [await self._call("revokeOperator", [], "End the operator's power at once")]

    def _price_source(self, cap: LossCapRequest) -> str:
        source = cap.price_source or self.client.settings.price_source
        if source is None:
            detail = f"chain {self.client.chain_id} has no price source of its own; name one in `price_source`"
            raise InvalidInput("no_price_source", detail)
        return source

    async def _require_measurable(
        self, source: str, changes: Sequence[TokenPolicyRequest], known_tokens: set[str]
    ) -> None:
        allowed = {change.token: change.allowed for change in changes}
        vault = VaultContract(self.client, self.vault)
        unchanged = sorted(known_tokens - allowed.keys())
        if len(unchanged) > MAX_TOKENS:
            raise InvalidInput(
                "too_many_tokens",
                f"the vault names {len(unchanged)} tokens besides those of the request; "
                f"a price source can be asked here whether it values {MAX_TOKENS} at most",
            )
        policies = await in_groups((vault.token_policy(token) for token in unchanged), CALLS_AT_ONCE)
        allowed |= {token: policy.allowed for token, policy in zip(unchanged, policies, strict=True)}
        await require_price_source(self.client, source, [token for token in allowed if allowed[token]])

    def _routers(self, request: PolicyRequest) -> tuple[RouterRequest, ...]:
        if request.routers is not None:
            return request.routers
        router = self.client.settings.swap_router
        if request.operator is None or router is None:
            return ()
        return (RouterRequest(router=router, kind=UNISWAP_V3_ROUTER),)

    def _encode_operator(self, request: OperatorRequest, default: str | None) -> str:
        return self._encode("Vault", self.vault, "setOperator", self._operator_args(request, default))

    @staticmethod
    def _operator_args(request: OperatorRequest, default: str | None) -> list[Any]:
        operator = request.operator or default
        if operator is None:
            raise InvalidInput("operator_unknown", "this chain has no operator yet; name one in `operator`")
        return [operator, _unix_seconds(request.expires_at)]

    async def _approve(self, token: str, amount: int, description: str) -> UnsignedTransaction:
        data = self._encode("ERC20", token, "approve", [self.vault, amount])
        return self._transaction(token, data, 0, await self._gas(token, data, 0), description)

    async def _call(self, function: str, args: list[Any], description: str, *, value: int = 0) -> UnsignedTransaction:
        data = self._encode("Vault", self.vault, function, args)
        return self._transaction(self.vault, data, value, await self._gas(self.vault, data, value), description)

    def _encode(self, abi: str, address: str, function: str, args: list[Any]) -> str:
        return str(self.client.contract(abi, address).encode_abi(function, args=args))

    async def _gas(self, to: str, data: str, value: int) -> int:
        """Estimated from the owner's address, so that what would revert is refused here already."""
        call = {"from": self.owner, "to": to, "data": data, "value": value}
        estimate: int = await self.client.guard(self.client.web3.eth.estimate_gas(call))  # type: ignore[arg-type]
        return estimate + estimate * GAS_MARGIN_PERCENT // 100

    def _transaction(self, to: str, data: str, value: int, gas: int, description: str) -> UnsignedTransaction:
        return UnsignedTransaction(
            to=to, data=data, value=value, chain_id=self.client.chain_id, gas=gas, description=description
        )


def _unix_seconds(moment: datetime) -> int:
    if moment.timestamp() < 0:
        raise InvalidInput("invalid_time", "expires_at lies before 1970")
    return int(moment.timestamp())
