"""A vault in memory: balances and counters that change as the contract's would."""

from __future__ import annotations

from collections.abc import Mapping

from tradingflow.chain.vault_policy import (
    Order,
    PolicyLedger,
    PriceSource,
    VaultPolicy,
    check_fill,
    check_order,
    loss_of,
    provide,
    record,
)
from tradingflow.core.errors import Refused
from tradingflow.core.evm import ZERO_ADDRESS
from tradingflow.py_worker.simulation.venue import Fill, Venue


class SimulatedVault:
    """One vault. `balances` maps a token to base units, the zero address to the native currency."""

    def __init__(
        self,
        address: str,
        chain_id: int,
        policy: VaultPolicy,
        balances: Mapping[str, int],
        ledger: PolicyLedger | None = None,
    ) -> None:
        self.address = address
        self.chain_id = chain_id
        self.policy = policy
        self.balances = dict(balances)
        self.ledger = ledger or PolicyLedger()

    def balance(self, token: str) -> int:
        """Base units of one token."""
        return self.balances.get(token, 0)

    def execute(
        self,
        trade_id: str,
        path: bytes,
        router: str,
        amount_in: int,
        min_amount_out: int,
        deadline: int,
        now: int,
        venue: Venue,
        prices: PriceSource | None = None,
    ) -> Fill:
        """`executeSwap` at the Unix second `now`. Raises Refused as the contract reverts; then nothing has changed."""
        order = Order(trade_id, router, path, amount_in, min_amount_out, deadline)
        token_in, token_out = check_order(self.policy, self.ledger, order, now)
        wrapped = provide(self.policy, self.balances, token_in, amount_in)
        loss = 0

        def accept(fill: Fill) -> None:
            nonlocal loss
            _require_router_minimum(order, fill)
            check_fill(order, token_out, fill.amount_in, fill.amount_out)
            sold, bought = (token_in, fill.amount_in), (token_out, fill.amount_out)
            loss = loss_of(self.policy, self.ledger, sold, bought, now, prices)

        fill = venue.swap(path, amount_in, accept)
        record(self.policy, self.ledger, order, token_in, loss, now)
        if wrapped:
            self.balances[ZERO_ADDRESS] -= wrapped
        self.balances[token_in] = self.balance(token_in) + wrapped - fill.amount_in
        self.balances[token_out] = self.balance(token_out) + fill.amount_out
        return fill


def _require_router_minimum(order: Order, fill: Fill) -> None:
    """Routers ask for the minimum before the vault does, in their own words."""
    if fill.amount_out < order.min_amount_out:
        raise Refused("slippage_exceeded", "the contract reverted: Too little received")
