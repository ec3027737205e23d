"""How many flows are told of an event in one transaction."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tradingflow.py_worker.trigger_events import MOST_BYTES, MOST_FLOWS, portions


@pytest.mark.parametrize(
    ("payload_bytes", "flows", "expected"),
    [
        (100, 0, []),
        (100, MOST_FLOWS + 1, [MOST_FLOWS, 1]),
        (MOST_BYTES // 2, 5, [2, 2, 1]),
        (2 * MOST_BYTES, 2, [1, 1]),
    ],
)
def test_large_events_are_recorded_for_few_flows_at_a_time(payload_bytes: int, flows: int, expected: list[int]) -> None:
    everybody = [uuid4() for _ in range(flows)]
    parts = list(portions(everybody, payload_bytes))
    assert [len(part) for part in parts] == expected
    assert [flow for part in parts for flow in part] == everybody
