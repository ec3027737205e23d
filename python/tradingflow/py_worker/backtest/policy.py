"""The vault's policy of a backtest, in the contract's own terms."""

from __future__ import annotations

from collections.abc import Sequence

from tradingflow.chain.vault_policy import (
    KIND_UNISWAP_V2,
    KIND_UNISWAP_V3_ROUTER02,
    NO_CAP,
    LossCap,
    TokenRule,
    VaultPolicy,
)
from tradingflow.core.evm import ZERO_ADDRESS
from tradingflow.py_worker.backtest.markets import Market
from tradingflow.py_worker.backtest.spec import PolicySpec, TokenCaps
from tradingflow.py_worker.backtest.world import ROUTER, V2_ROUTER


def vault_policy(spec: PolicySpec, markets: Sequence[Market]) -> VaultPolicy:
    """What the spec leaves open is allowed."""
    tokens = {token.address: TokenCaps() for market in markets for token in (market.base, market.quote)}
    rules = {token: _rule(caps) for token, caps in (tokens if spec.tokens is None else spec.tokens).items()}
    cap = spec.loss_cap
    return VaultPolicy(
        routers={ROUTER: KIND_UNISWAP_V3_ROUTER02, V2_ROUTER: KIND_UNISWAP_V2},
        tokens=rules,
        paused=spec.paused,
        cooldown_s=spec.cooldown_s,
        loss_cap=None if cap is None else LossCap(ZERO_ADDRESS, cap.cap, cap.window_s),
    )


def _rule(caps: TokenCaps) -> TokenRule:
    return TokenRule(_cap(caps.per_trade_cap), _cap(caps.per_day_cap))


def _cap(amount: int | None) -> int:
    return NO_CAP if amount is None else amount
