"""The keys observers bind to."""

from __future__ import annotations

import hashlib

from tradingflow.messaging.topology import signal_routing_key

LAST_CYCLE = 2**63 - 1


def test_a_key_that_fits_has_every_name_as_it_is() -> None:
    key = signal_routing_key("my_flow", 1, 2, ("a" * 60, "größe"), ("b" * 60, "in"))
    assert key == f"flow.my_flow.component.1.cycle.2.from.{'a' * 60}.handle.größe.to.{'b' * 60}.handle.in"


def test_a_key_that_does_not_fit_has_its_long_names_shortened_and_its_flow_as_it_is() -> None:
    flow, long = "f" * 100, "n" * 100
    short = "~" + hashlib.sha256(long.encode()).hexdigest()[:16]
    key = signal_routing_key(flow, 1, 2, (long, "out"), ("b" * 20, long))
    assert key == f"flow.{flow}.component.1.cycle.2.from.{short}.handle.out.to.{'b' * 20}.handle.{short}"


def test_the_longest_names_make_a_key_amqp_takes() -> None:
    for name in ("n" * 20, "n" * 100, "ö" * 100):
        assert len(signal_routing_key("f" * 100, 199, LAST_CYCLE, (name, name), (name, name)).encode()) <= 255
