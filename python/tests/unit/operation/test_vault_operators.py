"""Where vaults stand with the keys of this deployment, and what an operator is told of it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from tradingflow.chain.rpc import Call, RpcNode
from tradingflow.chain.rpc_pool import RpcPool
from tradingflow.chain.vault import Operator
from tradingflow.chain.vault_operators import VAULTS_AT_ONCE, read_operators
from tradingflow.core.evm import address_from_bytes
from tradingflow.operation.finding import Finding, State
from tradingflow.operation.vault_operators import EXPIRES_SOON, Registered, judge_vaults

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OURS, OUR_SECOND, THEIRS = (address_from_bytes(bytes([n]) * 20) for n in (1, 2, 3))
FOR_EVER = datetime.max.replace(tzinfo=UTC)
CHECK = "chain 1: vaults"
MOMENT = timedelta(seconds=1)


def vault(number: int) -> str:
    return address_from_bytes(number.to_bytes(20))


def findings(
    *operators: Operator | None, traded: bool = False, signers: tuple[str, ...] = (OURS,), total: int | None = None
) -> dict[str, Finding]:
    """What is found when vaults 0, 1, … name these operators."""
    named = {vault(number): operator for number, operator in enumerate(operators)}
    registered = Registered(NOW, len(named) if total is None else total, dict.fromkeys(named, traded), signers)
    return {finding.check.removeprefix(f"{CHECK}, "): finding for finding in judge_vaults(CHECK, registered, named)}


def test_a_vault_that_names_our_operator_for_long_is_no_trouble() -> None:
    found = findings(Operator(OURS, FOR_EVER))
    assert set(found) == {CHECK, f"operator {OURS}"}
    assert found[CHECK].state is State.OK
    assert "1 let us trade" in found[CHECK].found


@pytest.mark.parametrize(
    ("operator", "traded", "trouble"),
    [
        (Operator(THEIRS, FOR_EVER), False, "other operator"),
        (Operator(OURS, NOW), False, "operator expired"),
        (Operator(OURS, NOW + EXPIRES_SOON), False, "operator expires"),
        (Operator(OURS, NOW + EXPIRES_SOON + MOMENT), False, None),
        (Operator(None, NOW), True, "operator revoked"),
        (Operator(None, NOW), False, None),
        (None, True, "not there"),
    ],
)
def test_each_trouble_is_named_with_its_vault_and_its_cure(
    operator: Operator | None, traded: bool, trouble: str | None
) -> None:
    found = findings(operator, Operator(OURS, FOR_EVER), traded=traded)
    troubles = {check for check, finding in found.items() if finding.state is not State.OK}
    assert troubles == ({trouble} if trouble else set())
    if trouble:
        assert vault(0) in found[trouble].found
        assert vault(1) not in found[trouble].found
        assert found[trouble].fix


def test_who_may_trade_again_is_told_by_address() -> None:
    assert OURS in findings(Operator(THEIRS, FOR_EVER), Operator(OURS, FOR_EVER))["other operator"].fix


def test_a_deployment_whose_operator_no_vault_names_has_failed() -> None:
    found = findings(Operator(THEIRS, FOR_EVER), Operator(None, NOW))
    assert found[CHECK].state is State.FAIL
    assert "OPERATOR_PRIVATE_KEY" in found[CHECK].fix


def test_vaults_without_any_operator_of_ours_are_a_failure() -> None:
    assert findings(Operator(OURS, FOR_EVER), signers=())[CHECK].state is State.FAIL


def test_new_vaults_that_allowed_nobody_yet_are_in_order() -> None:
    found = findings(Operator(None, NOW))
    assert found[CHECK].state is State.OK
    assert "1 allowed nobody yet" in found[CHECK].found


def test_an_operator_that_no_vault_names_is_information() -> None:
    found = findings(Operator(OURS, FOR_EVER), signers=(OURS, OUR_SECOND))
    assert found[f"operator {OUR_SECOND}"].state is State.OK
    assert "named by 0" in found[f"operator {OUR_SECOND}"].found


def test_how_many_were_looked_at_is_told() -> None:
    assert "1 of 5000 looked at" in findings(Operator(OURS, FOR_EVER), total=5_000)[CHECK].found


def word(number: int) -> str:
    return f"0x{number:064x}"


class Node(RpcNode):
    """A node whose vaults all name operator 7, and which counts what it is sent."""

    def __init__(self, *, address: str = word(7), chain_id: str = "0x1") -> None:
        super().__init__("http://unused")
        self.sent: list[int] = []
        self._answers = (address, word(99))
        self._chain_id = chain_id

    async def call(self, *_: object) -> str:  # type: ignore[override]
        return self._chain_id

    async def batch(self, calls: Sequence[Call], answer: object) -> list[str]:  # type: ignore[override]
        self.sent.append(len(calls))
        return list(self._answers) * (len(calls) // 2)


def pool(node: Node) -> RpcPool:
    return RpcPool(1, [node], lambda *_: None)


async def test_a_thousand_vaults_take_a_handful_of_rounds() -> None:
    node = Node()
    vaults = [vault(number) for number in range(1_000)]
    named = await read_operators(pool(node), vaults)
    assert list(named) == vaults
    assert set(named.values()) == {Operator(vault(7), datetime.fromtimestamp(99, UTC))}
    assert node.sent == [2 * VAULTS_AT_ONCE] * 4


@pytest.mark.parametrize("answer", ["0x", "0x" + "f" * 64, "0x" + "0" * 63 + "g", "", "7"])
async def test_what_is_no_address_is_no_vaults_answer(answer: str) -> None:
    assert await read_operators(pool(Node(address=answer)), [vault(1)]) == {vault(1): None}
