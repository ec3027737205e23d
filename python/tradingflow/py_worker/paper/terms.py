"""What a paper vault is made of, as JSON: on the API, and in its row."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from tradingflow.chain.vault_policy import (
    LONGEST_LOSS_WINDOW_S,
    NO_CAP,
    OPERATOR_FOR_EVER,
    SHORTEST_LOSS_WINDOW_S,
    LossCap,
    PolicyLedger,
    TokenRule,
    VaultPolicy,
)
from tradingflow.core.errors import InvalidInput
from tradingflow.core.evm import parse_address
from tradingflow.core.money import parse_base_units

MAX_TOKENS = 200


def _speaking(parse: Any) -> Any:
    def validate(value: Any) -> Any:
        try:
            return parse(value)
        except InvalidInput as error:
            raise ValueError(error.detail) from error

    return validate


def _text_only(value: Any) -> Any:
    if isinstance(value, int | float):
        raise ValueError("an amount is a whole number of base units, sent as a string of digits")  # noqa: TRY004
    return value


EvmAddress = Annotated[str, Field(max_length=42), AfterValidator(_speaking(parse_address))]
BaseUnits = Annotated[
    int,
    BeforeValidator(_speaking(parse_base_units)),
    BeforeValidator(_text_only),
    PlainSerializer(str, return_type=str),
    Field(json_schema_extra={"type": "string", "pattern": "^[0-9]{1,78}$"}),
]


class TokenTerms(BaseModel):
    """Caps on selling an allowed token, in base units."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    per_trade_cap: BaseUnits = NO_CAP
    per_day_cap: BaseUnits = NO_CAP


class LossTerms(BaseModel):
    """What trades may lose in any window, by the price source at this address, in its unit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    price_source: EvmAddress
    cap: BaseUnits
    window_s: int = Field(ge=SHORTEST_LOSS_WINDOW_S, le=LONGEST_LOSS_WINDOW_S)


class PolicyTerms(BaseModel):
    """A vault's policy. Kinds of router: 1 Uniswap V3, 2 Uniswap V2 style, 3 Uniswap SwapRouter02."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    routers: dict[EvmAddress, Literal[1, 2, 3]] = Field(max_length=MAX_TOKENS)
    tokens: dict[EvmAddress, TokenTerms] = Field(max_length=MAX_TOKENS)
    has_operator: bool = True
    operator_expires_at: int = Field(OPERATOR_FOR_EVER, ge=0, le=OPERATOR_FOR_EVER, description="Unix seconds")
    paused: bool = False
    cooldown_s: int = Field(0, ge=0, lt=2**24)
    loss_cap: LossTerms | None = None
    wrapped_native: EvmAddress | None = None

    def to_policy(self) -> VaultPolicy:
        return VaultPolicy(
            routers=dict(self.routers),
            tokens={token: TokenRule(terms.per_trade_cap, terms.per_day_cap) for token, terms in self.tokens.items()},
            has_operator=self.has_operator,
            operator_expires_at=self.operator_expires_at,
            paused=self.paused,
            cooldown_s=self.cooldown_s,
            loss_cap=LossCap(**dict(self.loss_cap)) if self.loss_cap else None,
            wrapped_native=self.wrapped_native,
        )

    @classmethod
    def of(cls, policy: VaultPolicy) -> PolicyTerms:
        cap = policy.loss_cap
        return cls.model_construct(
            routers=dict(policy.routers),
            tokens={
                token: TokenTerms.model_construct(per_trade_cap=rule.per_trade_cap, per_day_cap=rule.per_day_cap)
                for token, rule in policy.tokens.items()
            },
            has_operator=policy.has_operator,
            operator_expires_at=policy.operator_expires_at,
            paused=policy.paused,
            cooldown_s=policy.cooldown_s,
            loss_cap=None
            if cap is None
            else LossTerms.model_construct(price_source=cap.price_source, cap=cap.cap, window_s=cap.window_s),
            wrapped_native=policy.wrapped_native,
        )


def ledger_json(ledger: PolicyLedger) -> dict[str, Any]:
    """The counters as JSON; used trade ids are kept as paper trades instead."""
    return {
        "spent": {token: [day, str(amount)] for token, (day, amount) in ledger.spent.items()},
        "last_trade_at": ledger.last_trade_at,
        "loss_period": ledger.loss_period,
        "loss_this_period": str(ledger.loss_this_period),
        "loss_last_period": str(ledger.loss_last_period),
    }


def ledger_from(told: dict[str, Any]) -> PolicyLedger:
    return PolicyLedger(
        spent={token: (int(day), int(amount)) for token, (day, amount) in told["spent"].items()},
        last_trade_at=int(told["last_trade_at"]),
        loss_period=int(told["loss_period"]),
        loss_this_period=int(told["loss_this_period"]),
        loss_last_period=int(told["loss_last_period"]),
    )


def balances_json(balances: dict[str, int]) -> dict[str, str]:
    return {token: str(amount) for token, amount in balances.items()}


def balances_from(told: dict[str, Any]) -> dict[str, int]:
    return {token: int(amount) for token, amount in told.items()}
