"""How wide a range of blocks is asked for."""

from tradingflow.monitor.backfill import LOGS_PER_RANGE, WIDEST_RANGE_BLOCKS, RangeSizer


def asked_at_limit(sizer: RangeSizer, limit: int, rounds: int) -> int:
    """Ask a node of empty blocks that refuses more than `limit` at once; returns how often it refused."""
    refusals = 0
    for _ in range(rounds):
        if sizer.blocks > limit:
            sizer.refused(sizer.blocks)
            refusals += 1
        else:
            sizer.came(sizer.blocks, 0)
    return refusals


def test_a_range_holds_about_as_many_logs_as_an_answer_should() -> None:
    sizer = RangeSizer()
    for _ in range(20):
        sizer.came(sizer.blocks, sizer.blocks * 10)
    assert sizer.blocks == LOGS_PER_RANGE // 10


def test_a_limit_is_learned_and_seldom_tried() -> None:
    sizer = RangeSizer()
    assert asked_at_limit(sizer, limit=1000, rounds=200) < 10
    assert 500 <= sizer.blocks <= 1020


def test_one_refusal_is_not_for_ever() -> None:
    sizer = RangeSizer()
    sizer.refused(20)
    assert sizer.blocks == 10
    asked_at_limit(sizer, limit=WIDEST_RANGE_BLOCKS, rounds=600)
    assert sizer.blocks == WIDEST_RANGE_BLOCKS
