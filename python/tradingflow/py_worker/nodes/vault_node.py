"""What a vault holds, and what that is worth."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from tradingflow.core.errors import Refused
from tradingflow.core.money import to_human
from tradingflow.py_worker.kit import Amount, Json, Node, NodeContext, NodeInputs, NodeOutputs, NodeParams
from tradingflow.py_worker.kit.fields import Address, ChainId
from tradingflow.py_worker.kit.markets import PoolPrice


class Params(NodeParams):
    chain_id: ChainId
    vault: Address = Field(description="The vault to look into")
    tokens: tuple[Address, ...] = Field(
        default=(), max_length=50, description="Tokens to look at; default: those of the pools"
    )
    pools: tuple[Address, ...] = Field(
        default=(), max_length=50, description="Pools that price them; default: the pools this chain is configured with"
    )


class Inputs(NodeInputs):
    trigger: Json = Field(default=None, description="Anything; the vault is read when it arrives")


class Holding(BaseModel):
    model_config = ConfigDict(frozen=True)

    token: str
    decimals: int
    amount: Amount
    balance: Decimal
    price: Decimal | None
    value: Decimal | None


class VaultState(BaseModel):
    """`value` sums what could be priced, in whole `quote_token`; `unpriced` names what could not."""

    model_config = ConfigDict(frozen=True)

    chain_id: int
    address: str
    quote_token: str
    holdings: list[Holding]
    value: Decimal
    unpriced: list[str]


class Outputs(NodeOutputs):
    vault: VaultState = Field(description="Balances in base units and whole tokens, and their value")


class VaultNode(Node[Params, Inputs, Outputs]):
    type = "vault_node"
    title = "Vault"
    description = "Reads the balances of a vault and values them by pool prices."
    category = "trading"
    example: ClassVar[dict[str, Any]] = {"chain_id": 1, "vault": "0x00000000000000000000000000000000000000aa"}

    async def run(self, ctx: NodeContext, params: Params, inputs: Inputs) -> Outputs:
        quote = ctx.markets.quote_token(params.chain_id)
        if quote is None:
            raise Refused("no_quote_token", f"chain {params.chain_id} has no quote token to express values in")
        prices = await _prices(ctx, params, quote)
        tokens = params.tokens or tuple(prices)
        balances = await ctx.markets.balances(params.chain_id, params.vault, tokens)
        holdings = [await _holding(ctx, params.chain_id, token, balances[token], prices.get(token)) for token in tokens]
        return Outputs(vault=_state(params, quote, holdings))


def _state(params: Params, quote: str, holdings: list[Holding]) -> VaultState:
    return VaultState(
        chain_id=params.chain_id,
        address=params.vault,
        quote_token=quote,
        holdings=holdings,
        value=sum((holding.value for holding in holdings if holding.value is not None), Decimal(0)),
        unpriced=[holding.token for holding in holdings if holding.value is None and holding.amount],
    )


async def _prices(ctx: NodeContext, params: Params, quote: str) -> dict[str, Decimal]:
    """Token to its price in `quote`, from the pools that hold both; the quote token itself is worth one."""
    prices = {quote: Decimal(1)}
    for pool in params.pools or ctx.markets.pools(params.chain_id):
        found: PoolPrice = await ctx.markets.pool_price(params.chain_id, pool)
        if quote == found.quote_token.address:
            prices.setdefault(found.base_token.address, found.price)
    return prices


async def _holding(ctx: NodeContext, chain_id: int, token: str, amount: int, price: Decimal | None) -> Holding:
    decimals = (await ctx.markets.token(chain_id, token)).decimals
    balance = to_human(amount, decimals)
    value = None if price is None else balance * price
    return Holding(token=token, decimals=decimals, amount=amount, balance=balance, price=price, value=value)
