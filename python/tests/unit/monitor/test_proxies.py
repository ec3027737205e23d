"""Which implementation a log of a proxy came from."""

from tradingflow.core.evm import parse_address
from tradingflow.monitor.proxies import BEFORE_ALL_LOGS, UPGRADED, Implementation, Proxies, upgrade

PROXY, ONE, TWO = (parse_address("0x" + digit * 40) for digit in "123")


def test_a_log_comes_from_the_last_implementation_before_it() -> None:
    steps = [Implementation(PROXY, 10, 3, TWO), Implementation(PROXY, 5, BEFORE_ALL_LOGS, ONE)]
    proxies = Proxies(steps, {ONE: "one"}.get)
    assert proxies.implementation(PROXY, 4, 9) is None
    assert proxies.implementation(PROXY, 5, 0) == ONE
    assert proxies.implementation(PROXY, 10, 3) == ONE, "Upgraded itself is logged by the code before"
    assert proxies.implementation(PROXY, 10, 4) == TWO
    assert proxies.kind(PROXY, 5, 0) == "one"
    assert proxies.kind(PROXY, 11, 0) is None, "nobody gave the ABI of this one"


def test_only_an_upgraded_of_eip_1967_is_an_upgrade() -> None:
    padded = bytes(12) + b"\x22" * 20
    assert upgrade(PROXY, 1, 2, [UPGRADED, padded]) == Implementation(PROXY, 1, 2, ONE)
    assert upgrade(PROXY, 1, 2, [UPGRADED]) is None
    assert upgrade(PROXY, 1, 2, [UPGRADED, b"\xff" * 32]) is None
    assert upgrade(PROXY, 1, 2, [b"\0" * 32, padded]) is None
