"""The approval node where nobody is asked: in a backtest the time-out's answer counts, at once."""

import pytest

from tradingflow.py_worker.kit.testing import MemoryContext, NobodyThere
from tradingflow.py_worker.nodes.approval_node import ApprovalNode

NODE = ApprovalNode()


@pytest.mark.parametrize(("action", "handle"), [("approve", "approved"), ("reject", "rejected")])
async def test_what_arrived_goes_on_at_the_handle_of_the_answer(action: str, handle: str) -> None:
    ctx = MemoryContext(approvals=NobodyThere())
    sent = await NODE.execute(ctx, {"question": "Sell?", "on_timeout": action}, {"data": {"eth": 1}})
    assert sent.signals() == {handle: {"eth": 1}}
    sent = await NODE.execute(ctx, {"question": "Sell?", "on_timeout": action}, {})
    assert sent.signals() == {handle: None}


@pytest.mark.parametrize(
    "config", [{}, {"question": ""}, {"question": "?", "timeout_s": 0}, {"question": "?", "timeout_s": 10**9},
               {"question": "?", "on_timeout": "maybe"}],
)  # fmt: skip
def test_a_question_without_words_or_end_is_refused(config: dict[str, object]) -> None:
    assert NODE.validate_params(config)
