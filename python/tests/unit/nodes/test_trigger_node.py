from tradingflow.py_worker.kit import Trigger
from tradingflow.py_worker.kit.testing import MemoryContext
from tradingflow.py_worker.nodes.trigger_node import TriggerNode


async def test_what_started_the_cycle_is_given_with_its_kind() -> None:
    ctx = MemoryContext(trigger=Trigger("webhook", {"signal": "buy"}))
    assert (await TriggerNode().execute(ctx, {}, {})).signals() == {"payload": {"signal": "buy"}, "kind": "webhook"}
    assert (await TriggerNode().execute(MemoryContext(), {}, {})).signals() == {"payload": None, "kind": "manual"}
