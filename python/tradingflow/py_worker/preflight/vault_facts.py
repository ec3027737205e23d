"""What a vault and its chain say now of a trade that is not made yet."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from tradingflow.chain.client import ChainClient
from tradingflow.chain.erc20 import Erc20Contract
from tradingflow.chain.fees import current_fees
from tradingflow.chain.swap_path import decode_path
from tradingflow.chain.transactions import newest_block
from tradingflow.chain.uniswap import UniswapReader
from tradingflow.chain.vault import Swap, VaultContract
from tradingflow.chain.vault_policy import KIND_UNISWAP_V2
from tradingflow.core.errors import Refused
from tradingflow.core.evm import parse_address
from tradingflow.core.ids import onchain_flow_id, trade_id
from tradingflow.core.money import minus_bps
from tradingflow.py_worker.kit import SwapIntent
from tradingflow.py_worker.preflight.judgement import Allowance, Finding

DEADLINE = timedelta(seconds=90)
# Refusals that the next block may lift: nothing certain follows from them.
PASSING = frozenset({"cooldown_active", "balance_too_low", "per_day_cap_exceeded", "loss_cap_exceeded"})


@dataclass(frozen=True)
class Quoted:
    """A trade quoted and simulated on one block; `findings` say why what is None could not be had."""

    amount_out: int | None
    gas: int | None
    findings: tuple[Finding, ...]


class VaultFacts:
    """Reads one vault. Each method raises DependencyUnavailable when the chain does not answer."""

    def __init__(self, client: ChainClient, vault: str) -> None:
        self._client = client
        self._vault = VaultContract(client, vault)
        self._reader = UniswapReader(client)

    async def cooldown_s(self) -> int:
        return await self._vault.cooldown_s()

    async def has_loss_cap(self) -> bool:
        return await self._vault.has_loss_cap()

    async def operator(self) -> str | None:
        return (await self._vault.operator()).address

    async def gas_price(self) -> int:
        """The most a unit of gas would cost now, in wei."""
        return (await current_fees(self._client)).max_fee

    async def gas_money(self, operator: str) -> int:
        """The operator's native balance in wei."""
        client = self._client
        return int(await client.guard(client.web3.eth.get_balance(client.web3.to_checksum_address(operator))))

    async def allowance(self, token: str) -> Allowance:
        policy, balance, wrapped = await asyncio.gather(
            self._vault.token_policy(token),
            Erc20Contract(self._client, token).balance_of(self._vault.address),
            self._vault.wrapped_native(),
        )
        if token == wrapped:
            balance += await self.gas_money(self._vault.address)  # wrapped inside the trade
        return Allowance(policy.allowed, policy.per_trade_cap, policy.per_day_cap, policy.spent_today, balance)

    async def permissions(self, operators: frozenset[str], now: datetime) -> list[Finding]:
        """Whether one of our operators may trade here at all."""
        operator, paused = await asyncio.gather(self._vault.operator(), self._vault.is_paused())
        found = []
        if operator.address not in operators:
            ours = ", ".join(sorted(operators)) or "none is registered"
            detail = f"the vault's operator is {operator.address or 'nobody'}; ours: {ours}"
            found.append(Finding("operator_not_ours", detail, blocks=True))
        elif operator.expires_at <= now:
            found.append(
                Finding("operator_expired", f"the operator's time ended at {operator.expires_at}", blocks=True)
            )
        elif operator.expires_at < now + timedelta(days=1):
            found.append(
                Finding("operator_expires", f"the operator's time ends at {operator.expires_at}", blocks=False)
            )
        if paused:
            found.append(Finding("trading_paused", "the owner has paused the vault", blocks=True))
        return found

    async def route(self, router: str | None, intent: SwapIntent) -> list[Finding]:
        """Whether the vault allows the router, for this kind of path, and every token in between."""
        if router is None:
            return [Finding("no_router", f"chain {intent.chain_id} has no swap router configured", blocks=True)]
        path = decode_path(intent.path)
        between = path.tokens[1:]
        policies = asyncio.gather(*(self._vault.token_policy(token) for token in between))
        kind, allowed = await asyncio.gather(self._vault.router_kind(router), policies)
        found = []
        if not kind:
            found.append(Finding("router_not_allowed", f"the vault does not allow {router}", blocks=True))
        elif (kind == KIND_UNISWAP_V2) != path.is_v2:
            route, taken = ("V2", "V3") if path.is_v2 else ("V3", "V2")
            detail = f"the route is {route}, and the vault allows {router} for {taken} routes; name another `router`"
            found.append(Finding("router_kind_mismatch", detail, blocks=True))
        refused = [token for token, policy in zip(between, allowed, strict=True) if not policy.allowed]
        return found + [Finding("token_not_allowed", f"the vault does not allow {t}", blocks=True) for t in refused]

    async def elsewhere(self, router: str | None, intent: SwapIntent, pool: str | None) -> list[Finding]:
        """Whether the router swaps in another pool than the one the node names and decides by."""
        if router is None or pool is None:
            return []
        try:
            found = await self._reader.pool_of(router, decode_path(intent.path))
        except Refused:
            return []  # a router without such a pool is told by the quote
        if found == parse_address(pool):
            return []
        detail = f"{router} would swap in {found}, not in {pool}: name the router of that pool's exchange (`router`)"
        return [Finding("pool_of_another_exchange", detail, blocks=True)]

    async def simulate(self, flow_pk: UUID, node_id: str, router: str, intent: SwapIntent, operator: str) -> Quoted:
        """The trade as the executor would send it now, under a trade id no trade will ever have.

        Both on the same block: a price that moves meanwhile says nothing about the trade.
        """
        block = await newest_block(self._client)
        try:
            amount_out = await self._reader.quote(intent.path, intent.amount_in, block.number, router=router)
        except Refused as refusal:
            return Quoted(None, None, (Finding(refusal.code, refusal.detail, blocks=True),))
        deadline = block.time + DEADLINE
        swap = Swap(
            trade_id=trade_id(flow_pk, 0, 0, f"preflight:{node_id}"),
            flow_id=onchain_flow_id(flow_pk),
            router=router,
            path=intent.path,
            amount_in=intent.amount_in,
            min_amount_out=minus_bps(amount_out, intent.slippage_bps),
            deadline=int(deadline.timestamp()),
        )
        try:
            gas = await self._vault.estimate_swap(swap, operator, block=block.number)
        except Refused as refusal:
            passing = refusal.code in PASSING
            return Quoted(amount_out, None, (Finding(refusal.code, refusal.detail, not passing),))
        return Quoted(amount_out, gas, ())
