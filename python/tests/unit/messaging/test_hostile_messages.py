"""What anybody could put into a queue is refused as one message, never as an error that stops the consumer."""

from __future__ import annotations

import msgspec
import pytest

from tradingflow.messaging.messages import decode_cycle_messages, decode_trade_request

FLOW = "00000000-0000-0000-0000-000000000000"
STARTED = '{"type":"cycle_started","flow_pk":"%s","cycle":%s}'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"garbage",
        b'{"type":"trade_requested","trade_id":"\xff\xfe"}',
        b'{"x":' * 50_000,
        b"[" * 450_000,
        (STARTED % (FLOW, 10**30)).encode(),
        (STARTED % (FLOW, 2**63)).encode(),
        (STARTED % (FLOW, -1)).encode(),
        (STARTED % ("not a uuid", 1)).encode(),
    ],
    ids=lambda body: repr(body[:40]),
)
def test_hostile_bytes_are_no_message_and_nothing_worse(body: bytes) -> None:
    for decode in (decode_cycle_messages, decode_trade_request):
        with pytest.raises(msgspec.MsgspecError):
            decode(body)


def test_the_last_cycle_a_column_can_hold_is_a_message() -> None:
    assert len(decode_cycle_messages((STARTED % (FLOW, 2**63 - 1)).encode())) == 1
