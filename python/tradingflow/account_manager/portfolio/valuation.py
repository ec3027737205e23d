"""What vaults hold and what that is worth, read from the chain at one block."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from uuid import UUID

from tradingflow.account_manager.portfolio import repository
from tradingflow.account_manager.portfolio.schemas import Position, VaultPortfolio
from tradingflow.account_manager.token.registry import TokenRegistry
from tradingflow.account_manager.vault import repository as vaults
from tradingflow.account_manager.vault.bounds import CALLS_AT_ONCE, MAX_TOKENS
from tradingflow.chain.client import ChainClient
from tradingflow.chain.erc20 import balance_if_told
from tradingflow.core.evm import ZERO_ADDRESS
from tradingflow.core.money import PRECISION, to_human
from tradingflow.core.tasks import Shared, in_groups
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import Token, Vault
from tradingflow.prices.book import PriceBook
from tradingflow.prices.pools import TokenPrice

NATIVE_DECIMALS = 18


@dataclass(frozen=True)
class VaultValuer:
    """Values vaults at the latest block of their chain.

    No database connection is held while the chain is asked: one that hangs would soon hold them all.
    """

    chains: Mapping[int, ChainClient]
    prices: PriceBook
    tokens: TokenRegistry
    sessions: SessionFactory
    _under_way: Shared[UUID, VaultPortfolio] = field(default_factory=Shared)

    async def value_and_keep(self, vault: Vault, now: datetime) -> VaultPortfolio:
        """Value the vault and keep that for its history. Who asks while it is under way is given the same valuation."""
        return await self._under_way.result(vault.id, lambda: self._value_and_keep(vault, now))

    async def _value_and_keep(self, vault: Vault, now: datetime) -> VaultPortfolio:
        valued = await self.value(vault)
        async with self.sessions.begin() as session:
            await repository.keep(session, vault.id, valued, now)
        return valued

    async def value(self, vault: Vault) -> VaultPortfolio:
        """Balances and prices at one block; tokens not met before enter the registry. Raises DependencyUnavailable."""
        client, prices = self.chains[vault.chain_id], self.prices.pools[vault.chain_id]
        block = await client.guard(client.web3.eth.get_block("latest"))
        number = int(block["number"])
        registry, too_many = await self._registry(vault, await prices.tokens())
        addresses = sorted(registry)
        balances = await in_groups(
            (balance_if_told(client, token, vault.address, number) for token in addresses), CALLS_AT_ONCE
        )
        quoted = await in_groups((prices.price(token, number) for token in addresses), CALLS_AT_ONCE)
        positions = [
            _position(registry[token], balance, price)
            for token, balance, price in zip(addresses, balances, quoted, strict=True)
        ]
        if (native := await self._native_position(vault, number)) is not None:
            positions.append(native)
        value, reason = (None, too_many) if too_many else _sum(positions)
        quote = client.settings.quote_token
        return VaultPortfolio(
            chain_id=vault.chain_id,
            vault=vault.address,
            block_number=number,
            as_of=datetime.fromtimestamp(block["timestamp"], UTC),
            quote_token=quote,
            quote_symbol=registry[quote].symbol if quote else None,
            positions=positions,
            value=value,
            reason=reason,
        )

    async def _registry(self, vault: Vault, priced: Iterable[str]) -> tuple[dict[str, Token], str | None]:
        """Those with prices and the owner's tokens, and why that is not all; new ones are read from the chain."""
        async with self.sessions() as session:
            named = await vaults.owners_tokens(session, vault.chain_id, vault.address, vault.owner_address)
        others = sorted(named.difference(priced, {ZERO_ADDRESS}))
        wanted = {*priced, *others[:MAX_TOKENS]} - {ZERO_ADDRESS}
        registry = await self.tokens.ensure(self.sessions, vault.chain_id, wanted)
        if len(others) <= MAX_TOKENS:
            return registry, None
        return registry, f"too_many_tokens: the vault names {len(others)}, of which {MAX_TOKENS} are looked at"

    async def _native_position(self, vault: Vault, block: int) -> Position | None:
        """Native currency, priced as its wrapped token; None when the vault holds none."""
        client = self.chains[vault.chain_id]
        address = client.web3.to_checksum_address(vault.address)
        balance = await client.guard(client.web3.eth.get_balance(address, block))
        if balance == 0:
            return None
        wrapped = str(await client.call("Vault", vault.address, "wrappedNative", block=block))
        if wrapped == ZERO_ADDRESS:
            price = TokenPrice(None, "no_wrapped_native")
        else:
            price = await self.prices.pools[vault.chain_id].price(wrapped, block)
        native = Token(chain_id=vault.chain_id, address=ZERO_ADDRESS, symbol="native", decimals=NATIVE_DECIMALS)
        return _position(native, balance, price)


def _position(token: Token, balance: int | None, price: TokenPrice) -> Position:
    amount = None if balance is None or token.decimals is None else to_human(balance, token.decimals)
    reason = price.reason
    if balance is None:
        reason = "balance_unreadable"
    elif amount is None:
        reason = "decimals_unknown"
    return Position(
        token=token.address,
        symbol=token.symbol,
        decimals=token.decimals,
        balance=balance or 0,
        amount=amount,
        price=price.price,
        value=None if amount is None or price.price is None else _multiply(amount, price.price),
        reason=reason,
    )


def exact_sum(values: Iterable[Decimal]) -> Decimal:
    with localcontext() as context:
        context.prec = PRECISION
        return sum(values, Decimal(0))


def _multiply(amount: Decimal, price: Decimal) -> Decimal:
    with localcontext() as context:
        context.prec = PRECISION
        return amount * price


def _sum(positions: Iterable[Position]) -> tuple[Decimal | None, str | None]:
    held = [p for p in positions if p.balance or p.reason == "balance_unreadable"]
    unknown = next((p for p in held if p.value is None), None)
    if unknown is not None:
        return None, f"{unknown.reason}: {unknown.token}"
    return exact_sum(p.value for p in held if p.value is not None), None
