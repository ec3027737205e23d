"""The code node in the real sandbox."""

import asyncio
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from tradingflow.core.clock import SimulatedClock
from tradingflow.core.errors import Refused
from tradingflow.py_worker.kit import CodeResult, Incoming, NodeFailed
from tradingflow.py_worker.kit.testing import MemoryContext
from tradingflow.py_worker.nodes.code_node import CodeNode
from tradingflow.py_worker.sandbox import runner
from tradingflow.py_worker.sandbox.runner import Meter, Sandbox, SandboxPlan

NODE = CodeNode()


@pytest.fixture
def ctx(sandbox: Sandbox) -> MemoryContext:
    return MemoryContext(code=sandbox.for_owner("alice"), clock=SimulatedClock(datetime(2026, 3, 1, 12, tzinfo=UTC)))


async def signals(ctx: MemoryContext, code: str, inputs: dict[str, Any] | None = None, **config: Any) -> dict[str, Any]:
    return (await NODE.execute(ctx, {"python_code": code, **config}, inputs or {})).signals()


async def test_an_input_is_a_variable_by_target_and_by_source_handle(ctx: MemoryContext) -> None:
    ctx.incoming = [Incoming("binance_price_node_1", "price_data", "input_data", {"close": 2})]
    code = "output_data = [input_data['close'], price_data['close'], inputs['input_data'] == price_data]"
    assert (await signals(ctx, code, {"input_data": {"close": 2}}))["output_data"] == [2, 2, True]


async def test_every_name_set_at_the_top_level_is_a_handle(ctx: MemoryContext) -> None:
    code = "signal = 'buy'\nsize: float = 0.5\ndef f():\n    hidden = 1\noutput_data = 1"
    sent = await signals(ctx, code)
    assert sent == {"signal": "buy", "size": 0.5, "output_data": 1, "stdout_output": "", "stderr_output": ""}


async def test_named_outputs_are_all_that_is_sent_and_must_be_json(ctx: MemoryContext) -> None:
    assert "other" not in await signals(ctx, "picked = 1\nother = 2", outputs=["picked"])
    with pytest.raises(NodeFailed, match="picked is a"):
        await signals(ctx, "picked = b'bytes'", outputs=["picked"])


async def test_the_older_name_of_the_parameter_works(ctx: MemoryContext) -> None:
    assert NODE.validate_params({"code": "output_data = 1"}) == []


async def test_what_is_printed_comes_out_by_stream(ctx: MemoryContext) -> None:
    sent = await signals(ctx, "import sys\nprint('hello')\nprint('oops', file=sys.stderr)")
    assert (sent["stdout_output"], sent["stderr_output"]) == ("hello\n", "oops\n")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = 1\ny = x / 0", r"line 2, column 5: ZeroDivisionError"),
        ("x = 1\nif x\n", r"line 2, column 5: .*"),
        ("def f():\n    return nope\nf()", r"line 2, column 12: NameError: name 'nope'"),
    ],
)
async def test_an_error_names_the_users_line_and_column(ctx: MemoryContext, code: str, said: str) -> None:
    with pytest.raises(NodeFailed, match=said):
        await signals(ctx, code)


async def test_numbers_no_double_can_hold_travel_as_text(ctx: MemoryContext) -> None:
    code = "from decimal import Decimal\noutput_data = [2**70, Decimal('1.10'), float('nan'), 2**53]"
    assert (await signals(ctx, code))["output_data"] == [str(2**70), "1.10", None, 2**53]


async def test_the_clock_and_chance_are_those_of_the_cycle(ctx: MemoryContext) -> None:
    code = "import random, datetime as d\noutput_data = [d.datetime.now(d.timezone.utc).isoformat(), random.random()]"
    first, again = await signals(ctx, code), await signals(ctx, code)
    assert first == again
    assert first["output_data"][0] == "2026-03-01T12:00:00+00:00"
    ctx.cycle = 1
    assert (await signals(ctx, code))["output_data"][1] != first["output_data"][1]


async def test_indicators_and_statistics_are_there(ctx: MemoryContext) -> None:
    code = (
        "import indicators, statistics\noutput_data = [indicators.SMA(closes, timeperiod=2), statistics.mean(closes)]"
    )
    assert (await signals(ctx, code, {"closes": [1, 2, 3]}))["output_data"] == [[None, 1.5, 2.5], 2.0]


async def test_a_wrong_call_of_an_indicator_is_an_error_of_the_code(ctx: MemoryContext) -> None:
    code = "import indicators\ntry:\n    indicators.SMA('x')\nexcept ValueError as error:\n    output_data = str(error)"
    assert "a series is a list of numbers" in (await signals(ctx, code))["output_data"]


async def test_state_of_one_run_is_not_seen_by_the_next(ctx: MemoryContext) -> None:
    await signals(ctx, "left_behind = 1")
    with pytest.raises(NodeFailed, match="NameError"):
        await signals(ctx, "output_data = left_behind")


async def test_where_the_wall_cannot_be_built_code_is_refused_and_the_reason_said() -> None:
    sandbox = Sandbox(SandboxPlan(user_id=0, processes=1))
    await sandbox.start()
    try:
        with pytest.raises(Refused, match="own_user"):
            await signals(MemoryContext(code=sandbox.for_owner("alice")), "output_data = 1")
    finally:
        await sandbox.close()


async def test_an_operator_may_accept_a_missing_part_only_by_its_name() -> None:
    accepted = SandboxPlan(user_id=0, processes=1, accept_missing=frozenset({"own_user"}))
    sandbox = Sandbox(accepted)
    await sandbox.start()
    try:
        assert (await signals(MemoryContext(code=sandbox.for_owner("a")), "output_data = 1"))["output_data"] == 1
    finally:
        await sandbox.close()


async def test_who_computes_much_is_moved_to_the_slow_lane_and_the_neighbour_is_not(sandbox: Sandbox) -> None:
    hog, neighbour = (MemoryContext(code=sandbox.for_owner(name)) for name in ("mallory", "alice"))
    now = asyncio.get_running_loop().time
    for _ in range(20):  # a busy machine gives a run less processor time than it takes to overdraw the account
        with pytest.raises(NodeFailed, match="TimeoutError"):
            await signals(hog, "while True: pass", timeout_s=1.5)
        if sandbox.lane_of("mallory", now()) == "slow":
            break
    await signals(neighbour, "output_data = 1")
    assert (sandbox.lane_of("mallory", now()), sandbox.lane_of("alice", now())) == ("slow", "quick")
    assert (await signals(hog, "output_data = 2"))["output_data"] == 2


async def test_a_cancelled_run_keeps_its_turn_until_it_ends_and_is_charged(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, finish = asyncio.get_running_loop(), threading.Event()
    lanes = asyncio.Queue[str]()

    def compute(_pool: Any, _plan: Any, _job: Any, meter: Meter) -> CodeResult:
        lane = threading.current_thread().name.rpartition("_")[0]
        loop.call_soon_threadsafe(lanes.put_nowait, lane)
        finish.wait()
        meter.cpu_s = 30.0
        return CodeResult({}, "", "")

    monkeypatch.setattr(runner, "run_job", compute)
    hog = MemoryContext(code=sandbox.for_owner("mallory"))
    tasks = [asyncio.create_task(signals(hog, "while True: pass")) for _ in range(2)]
    try:
        assert [await lanes.get() for _ in tasks] == ["sandbox-quick"] * 2
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)
        third = asyncio.create_task(signals(hog, "while True: pass"))
        for _ in range(10):
            await asyncio.sleep(0)
        assert lanes.empty()
    finally:
        finish.set()
    await third
    assert await lanes.get() == "sandbox-slow"


@pytest.mark.parametrize("call", ["statistics.mean(['x' * 10**7])", "indicators.SMA(['x' * 10**7], timeperiod=2)"])
async def test_a_text_that_is_no_number_is_refused_without_being_repeated(ctx: MemoryContext, call: str) -> None:
    with pytest.raises(NodeFailed, match="numbers") as failed:
        await signals(ctx, f"import statistics, indicators\n{call}")
    assert len(failed.value.detail) < 300
