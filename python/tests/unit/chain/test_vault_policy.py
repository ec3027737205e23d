"""The vault's rules in memory: each refuses with the words of the contract's own revert, in the contract's order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from eth_abi.abi import encode

from tradingflow.chain.abi import load_abi
from tradingflow.chain.reverts import explain_revert
from tradingflow.chain.swap_path import encode_path
from tradingflow.chain.vault_policy import (
    DAY_S,
    KIND_UNISWAP_V2,
    KIND_UNISWAP_V3,
    LossCap,
    Order,
    PolicyLedger,
    TokenRule,
    VaultPolicy,
    check_fill,
    check_order,
    loss_of,
    losses_in_window,
    provide,
    record,
    spent_today,
)
from tradingflow.core.errors import Refused
from tradingflow.core.evm import ZERO_ADDRESS, address_from_bytes, keccak

ETHER, DOLLAR, OTHER, ROUTER, V2_ROUTER, SOURCE = (address_from_bytes(bytes([0xA0 + n]) * 20) for n in range(6))
NOW = 1_800_000_000
TRADE = "0x" + "ab" * 32
POLICY = VaultPolicy(
    routers={ROUTER: KIND_UNISWAP_V3, V2_ROUTER: KIND_UNISWAP_V2},
    tokens={ETHER: TokenRule(100, 250), DOLLAR: TokenRule()},
    cooldown_s=60,
)
ORDER = Order(TRADE, ROUTER, encode_path([ETHER, DOLLAR], [3000]), 100, 1, NOW + 120)


def revert_of(name: str, *values: object) -> tuple[str, str]:
    """Code and detail of a real revert with this error of the contract."""
    (entry,) = (e for e in load_abi("Vault") if e["type"] == "error" and e["name"] == name)
    types = [i["type"] for i in entry["inputs"]]
    selector = keccak(f"{name}({','.join(types)})".encode())[:4]
    return explain_revert(selector + encode(types, values))


def refused(check: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(Refused) as caught:
        check()
    return caught.value.code, caught.value.detail


def ledger_after(*amounts: int, at: int = NOW) -> PolicyLedger:
    ledger = PolicyLedger()
    for number, amount in enumerate(amounts):
        record(POLICY, ledger, replace(ORDER, trade_id=f"0x{number:064x}", amount_in=amount), ETHER, 0, at)
    return ledger


REFUSALS: list[tuple[VaultPolicy, PolicyLedger, Order, tuple[str, str]]] = [
    (replace(POLICY, operator_expires_at=NOW), PolicyLedger(), ORDER, revert_of("OperatorExpired", NOW, NOW)),
    (replace(POLICY, paused=True), PolicyLedger(), ORDER, revert_of("TradingPaused")),
    (POLICY, PolicyLedger(used={TRADE}), ORDER, revert_of("TradeIdUsed", bytes.fromhex(TRADE[2:]))),
    (
        POLICY,
        PolicyLedger(),
        replace(ORDER, deadline=NOW + 121),
        revert_of("DeadlineOutOfRange", NOW + 121, NOW, NOW + 120),
    ),
    (
        POLICY,
        PolicyLedger(),
        replace(ORDER, deadline=NOW - 1),
        revert_of("DeadlineOutOfRange", NOW - 1, NOW, NOW + 120),
    ),
    (POLICY, PolicyLedger(), replace(ORDER, min_amount_out=0), revert_of("MinAmountOutZero")),
    (POLICY, PolicyLedger(), replace(ORDER, amount_in=0), revert_of("AmountZero")),
    (POLICY, PolicyLedger(), replace(ORDER, router=OTHER), revert_of("RouterNotAllowed", OTHER)),
    (POLICY, PolicyLedger(), replace(ORDER, path=b"\1" * 40), revert_of("PathInvalid", 40)),
    (POLICY, PolicyLedger(), replace(ORDER, router=V2_ROUTER), revert_of("PathInvalid", 43)),
    (
        POLICY,
        PolicyLedger(),
        replace(ORDER, path=encode_path([ETHER, OTHER, DOLLAR], [500, 500])),
        revert_of("TokenNotAllowed", OTHER),
    ),
    (
        POLICY,
        PolicyLedger(),
        replace(ORDER, path=encode_path([ETHER, DOLLAR, ETHER], [500, 500])),
        revert_of("PathCircular", ETHER),
    ),
    (POLICY, PolicyLedger(), replace(ORDER, amount_in=101), revert_of("PerTradeCapExceeded", ETHER, 101, 100)),
    (
        POLICY,
        ledger_after(100, 51, at=NOW - 60),
        ORDER,
        revert_of("PerDayCapExceeded", ETHER, 100, 151, 250),
    ),
    (POLICY, ledger_after(10, at=NOW - 59), ORDER, revert_of("CooldownActive", NOW + 1, NOW)),
]


@pytest.mark.parametrize(("policy", "ledger", "order", "revert"), REFUSALS, ids=lambda value: str(value)[:24])
def test_each_rule_refuses_in_the_words_of_the_contracts_revert(
    policy: VaultPolicy, ledger: PolicyLedger, order: Order, revert: tuple[str, str]
) -> None:
    assert refused(lambda: check_order(policy, ledger, order, NOW)) == revert


def test_an_order_inside_the_policy_passes_and_tells_its_tokens() -> None:
    assert check_order(POLICY, ledger_after(100, 50, at=NOW - 60), ORDER, NOW) == (ETHER, DOLLAR)


def test_rules_are_asked_in_the_contracts_order() -> None:
    """Break everything, then mend one rule after another: the next one speaks."""
    steps: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("operator_not_ours", {}, {}),
        ("operator_expired", {"has_operator": True}, {}),
        ("trading_paused", {"operator_expires_at": NOW + 1}, {}),
        ("trade_id_used", {"paused": False}, {}),
        ("deadline_out_of_range", {}, {"trade_id": "0x" + "cd" * 32}),
        ("min_amount_out_zero", {}, {"deadline": NOW}),
        ("amount_zero", {}, {"min_amount_out": 1}),
        ("router_not_allowed", {}, {"amount_in": 10**9}),
        ("path_invalid", {}, {"router": ROUTER}),
        ("token_not_allowed", {}, {"path": encode_path([ETHER, OTHER, ETHER], [1, 1])}),
        ("path_circular", {"tokens": {**POLICY.tokens, OTHER: TokenRule()}}, {}),
        ("per_trade_cap_exceeded", {}, {"path": ORDER.path}),
        ("per_day_cap_exceeded", {}, {"amount_in": 100}),
        ("cooldown_active", {}, {"amount_in": 1}),
    ]
    policy = replace(POLICY, has_operator=False, operator_expires_at=NOW, paused=True)
    order = Order(TRADE, OTHER, b"", 0, 0, 0)
    ledger = ledger_after(100, 149, at=NOW)
    ledger.used.add(TRADE)
    for code, mended_policy, mended_order in steps:
        policy, order = replace(policy, **mended_policy), replace(order, **mended_order)
        assert refused(lambda p=policy, o=order: check_order(p, ledger, o, NOW))[0] == code  # type: ignore[misc]


def test_the_cap_of_a_day_is_free_again_at_midnight_utc() -> None:
    midnight = (NOW // DAY_S + 1) * DAY_S
    ledger = ledger_after(100, 100, at=midnight - 1)
    assert (spent_today(ledger, ETHER, midnight - 1), spent_today(ledger, ETHER, midnight)) == (200, 0)


def test_a_fill_outside_the_order_is_refused() -> None:
    order = replace(ORDER, min_amount_out=5)
    assert refused(lambda: check_fill(order, DOLLAR, 101, 5)) == revert_of("AmountInExceeded", 101, 100)
    assert refused(lambda: check_fill(order, DOLLAR, 100, 4)) == revert_of("AmountOutTooLow", 4, 5)
    check_fill(order, DOLLAR, 100, 5)


def test_a_balance_too_low_is_refused_unless_native_currency_can_be_wrapped() -> None:
    held = {ETHER: 40, ZERO_ADDRESS: 60}
    assert refused(lambda: provide(POLICY, held, ETHER, 100)) == revert_of("BalanceTooLow", ETHER, 100, 40)
    wrapping = replace(POLICY, wrapped_native=ETHER)
    assert provide(wrapping, held, ETHER, 100) == 60
    assert refused(lambda: provide(wrapping, held, ETHER, 101)) == revert_of("BalanceTooLow", ETHER, 101, 40)


class OneEach:
    """One unit of value for each base unit of any token."""

    def value_of(self, token: str, amount: int) -> int:
        return amount


def test_losses_count_for_their_period_and_the_next_and_then_no_more() -> None:
    cap = LossCap(SOURCE, 10, 100)
    policy, ledger, start = replace(POLICY, loss_cap=cap), PolicyLedger(), NOW // 100 * 100

    def loss(received: int, at: int) -> int:
        return loss_of(policy, ledger, (ETHER, 100), (DOLLAR, received), at, OneEach())

    assert loss(101, start) == 0, "a gain is no loss"
    assert loss(95, start) == 6, "what left counts one unit more"
    record(policy, ledger, ORDER, ETHER, 6, start)
    assert refused(lambda: loss(96, start + 199)) == revert_of("LossCapExceeded", 5, 6, 10)
    assert losses_in_window(cap, ledger, start + 199) == 6
    assert losses_in_window(cap, ledger, start + 200) == 0
    assert loss(91, start + 200) == 10


def test_a_loss_cap_without_its_prices_refuses() -> None:
    policy = replace(POLICY, loss_cap=LossCap(SOURCE, 10, 100))
    code, _ = refused(lambda: loss_of(policy, PolicyLedger(), (ETHER, 1), (DOLLAR, 1), NOW, None))
    assert code == "price_source_missing"
