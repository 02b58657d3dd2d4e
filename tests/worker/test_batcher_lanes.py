"""The pool of lanes: how many of them a version may be on, lanes taken out, the backlog."""

import pytest

from tests.worker.batcher_traffic import (
    LARGE,
    MS,
    SMALL,
    add,
    batcher,
    light,
    request,
    start,
    teach,
)
from trtserve.errors import Overloaded, ProtocolError
from trtserve.model.spec import QueuePolicy
from trtserve.worker.batcher import Batcher
from trtserve.worker.request import Batch

NOW = QueuePolicy(max_delay_us=0)


def limited(lanes: int = 3, limit: int | None = 1) -> Batcher:
    """Variant 1 is of a model with a limit, variants 2 of the same version, 3 of another model."""
    b = Batcher(lanes, 1000)
    b.add_variant(1, "limited", 1, 4, NOW, limit)
    b.add_variant(2, "limited", 1, 4, NOW, limit)
    b.add_variant(3, "other", 1, 4, NOW)
    return b


# --- a version's limit -----------------------------------------------------------------------


def test_a_version_is_on_as_many_lanes_as_it_may():
    b = limited(limit=2)
    for bucket in (((1,),), ((2,),), ((3,),)):
        add(b, 0, bucket=bucket)
    first, second = start(b, 0), start(b, 0)
    assert b.next_batch(0) is None
    assert b.wakeup(0) is None  # nothing to do until one finishes
    b.finished(first, 7, 7)
    assert b.wakeup(7) == 7
    assert start(b, 7).bucket == ((3,),)
    b.finished(second, 9, 9)
    assert b.wakeup(9) is None


def test_all_variants_of_a_version_share_its_limit_and_other_versions_do_not():
    b = limited()
    b.add_variant(4, "limited", 2, 4, NOW, 1)
    add(b, 0, variant=1)
    add(b, 0, variant=2)
    running = start(b, 0)
    assert running.variant == 1
    assert b.next_batch(0) is None
    add(b, 1, variant=4)
    assert start(b, 1).variant == 4
    b.finished(running, 2, None)  # a failure frees the lane too
    assert start(b, 2).variant == 2


def test_what_is_kept_back_lets_others_pass_and_its_own_gather():
    b = limited()
    (alone,) = add(b, 0)
    running = start(b, 0)
    assert running.requests == [alone]
    kept = add(b, 1, 3)
    others = add(b, 2, 2, variant=3)
    assert start(b, 2).requests == others[:1]
    assert start(b, 2).requests == others[1:]
    b.finished(running, 3, MS)
    assert start(b, 3).requests == kept[:1]  # one by one, until its latency is known


def test_requests_that_come_for_a_version_with_all_its_lanes_wake_nobody():
    b = limited()
    add(b, 0)
    start(b, 0)
    (waiting,) = add(b, 1)
    assert b.wakeup(1) is None
    assert b.next_batch(1) is None
    b.learn(1, SMALL, 1, MS)
    assert b.wakeup(2) is None
    add(b, 3)
    b.cancel(waiting)
    assert b.wakeup(3) is None
    assert b.next_batch(3) is None


def test_a_deadline_passes_while_its_version_has_all_its_lanes():
    b = limited()
    add(b, 0)
    start(b, 0)
    (hasty,) = add(b, 0, deadline=10 * MS)
    assert b.next_batch(0) is None
    assert b.wakeup(0) == 10 * MS
    assert b.next_batch(10 * MS) is None
    assert [dropped for dropped, _ in b.take_dropped()] == [hasty]


def test_a_variant_that_is_removed_gives_its_versions_lanes_back():
    b = limited()
    add(b, 0, variant=1)
    running = start(b, 0)
    add(b, 0, variant=2)
    assert b.next_batch(0) is None
    b.remove_variant(1)
    assert b.next_batch(1) is None
    b.finished(running, 2, 2)
    assert start(b, 2).variant == 2


def test_a_limit_above_the_lanes_is_none():
    b = limited(lanes=2, limit=5)
    for bucket in (((1,),), ((2,),), ((3,),)):
        add(b, 0, bucket=bucket)
    start(b, 0)
    start(b, 0)
    assert b.next_batch(0) is None


def test_the_pushback_of_a_full_queue_counts_on_the_lanes_that_the_version_may_have():
    b = Batcher(4, 2)
    b.add_variant(1, "limited", 1, 1, NOW, 1)
    add(b, 0)
    b.finished(start(b, 0), 40 * MS, 40 * MS)
    add(b, 0, 2)
    with pytest.raises(Overloaded) as refused:
        b.add(request(0), 0)
    assert refused.value.retry_after_ms == 2 * 40


# --- lanes out of the pool -------------------------------------------------------------------


def test_a_reserved_lane_takes_no_batch_until_it_is_returned():
    b = batcher(lanes=2, max_delay_us=0)
    b.reserve_lane()
    for bucket in (((1,),), ((2,),)):
        add(b, 0, bucket=bucket)
    start(b, 0)
    assert b.next_batch(0) is None
    assert b.wakeup(0) is None
    assert (b.statistics().lanes, b.lanes) == (2, 1)
    b.return_lane()
    assert b.wakeup(5) == 5
    start(b, 5)
    assert (b.statistics().lanes, b.lanes) == (2, 2)


def test_a_lane_can_be_reserved_while_all_are_busy():
    b = batcher(lanes=2, max_delay_us=0)
    for bucket in (((1,),), ((2,),), ((3,),)):
        add(b, 0, bucket=bucket)
    first, second = start(b, 0), start(b, 0)
    b.reserve_lane()
    b.finished(first, 1, None)
    assert b.next_batch(1) is None
    b.finished(second, 2, None)
    assert start(b, 2).bucket == ((3,),)


def test_with_no_lane_left_requests_wait_or_expire():
    b = Batcher(1, 2)
    b.add_variant(1, "model", 1, 1, NOW)
    add(b, 0)
    b.finished(start(b, 0), 40 * MS, 40 * MS)
    b.reserve_lane()
    (first,) = add(b, 0)
    (hasty,) = add(b, 0, deadline=100 * MS)
    with pytest.raises(Overloaded) as refused:
        b.add(request(0), 0)
    assert refused.value.retry_after_ms == 2 * 40
    assert b.next_batch(0) is None
    assert b.wakeup(0) == 60 * MS  # it takes 40
    assert b.next_batch(60 * MS) is None
    assert [dropped for dropped, _ in b.take_dropped()] == [hasty]
    b.return_lane()
    assert start(b, 61 * MS).requests == [first]


def test_the_pool_is_never_overdrawn():
    b = batcher(lanes=1)
    with pytest.raises(ProtocolError, match="none is reserved"):
        b.return_lane()
    b.reserve_lane()
    with pytest.raises(ProtocolError, match="none is left"):
        b.reserve_lane()


# --- the backlog -----------------------------------------------------------------------------


def test_what_was_never_measured_counts_as_nothing():
    b = batcher()
    add(b, 0, 3)
    assert b.backlog_ns() == 0
    start(b, 0)
    assert b.backlog_ns() == 0


def test_it_is_what_waits_in_full_batches_and_what_runs():
    b = batcher(lanes=1, max_batch=32)
    teach(b, light)
    teach(b, lambda rows: 3 * light(rows), bucket=LARGE)
    add(b, 0, 40)
    row = light(32) // 32
    assert b.backlog_ns() == 40 * row
    add(b, 0, 2, bucket=LARGE, rows=4)
    large = 3 * light(32) // 32
    assert b.backlog_ns() == 40 * row + 8 * large
    batch = start(b, 0)
    assert (batch.bucket, batch.rows) == (SMALL, 32)
    assert b.backlog_ns() == light(32) + 8 * row + 8 * large
    b.finished(batch, light(32), None)
    assert b.backlog_ns() == 8 * row + 8 * large


def test_it_follows_what_is_learned():
    b = batcher(max_batch=1)
    add(b, 0, 5)
    batch = start(b, 0)
    assert b.backlog_ns() == 0
    b.finished(batch, 7 * MS, 7 * MS)
    assert b.backlog_ns() == 4 * 7 * MS
    b.run_alone(1)
    assert b.backlog_ns() == 4 * 7 * MS
    b.learn(1, SMALL, 1, 3 * MS)
    assert b.backlog_ns() == 4 * 3 * MS


def test_requests_that_leave_without_running_take_their_share_along():
    b = batcher(lanes=1, max_batch=1)
    teach(b, lambda rows: 2 * MS * rows, (1,))
    first, _, _ = add(b, 0, 3, owner="here")
    add(b, 0, 2, owner="gone")
    add(b, 0, 1, deadline=20 * MS, owner="here")
    assert b.backlog_ns() == 6 * 2 * MS
    b.drop_owner("gone")
    b.cancel(first)
    assert b.backlog_ns() == 3 * 2 * MS
    start(b, 20 * MS)
    assert b.backlog_ns() == 2 * 2 * MS  # one expired, one runs, one waits
    b.remove_variant(1)
    assert b.backlog_ns() == 2 * MS


# --- lanes that add little -------------------------------------------------------------------


def crowded() -> tuple[Batcher, int]:
    """A batcher of three lanes that has learned that they share one device; and its time."""
    b = Batcher(3, 1000)
    b.add_variant(1, "shared", 1, 4, NOW)
    for rows in (1, 2, 4):
        for _ in range(3):
            b.learn(1, SMALL, rows, rows * MS)
    now = 0
    for _ in range(200):
        running = []
        while (batch := add_full(b, now)) is not None:
            running.append(batch)
        now += len(running) * 4 * MS
        for batch in running:
            b.finished(batch, now, len(running) * 4 * MS)
    while (batch := b.next_batch(now)) is not None:
        now += 4 * MS
        b.finished(batch, now, 4 * MS)
    return b, now


def add_full(b: Batcher, now: int) -> Batch | None:
    """Four requests, and the batch that starts with them."""
    for _ in range(4):
        add(b, now, bucket=SMALL)
    return b.next_batch(now)


def test_lanes_that_add_little_are_kept_for_full_batches():
    b, now = crowded()
    for _ in range(2):
        assert add_full(b, now) is not None
    add(b, now, bucket=SMALL)
    assert b.next_batch(now) is None  # it had better grow
    for _ in range(3):
        add(b, now, bucket=SMALL)
    full = b.next_batch(now)
    assert full is not None
    assert full.rows == 4


def test_a_lone_request_does_not_wait_long_behind_long_batches():
    b, now = crowded()
    for _ in range(2):
        assert add_full(b, now) is not None
    add(b, now, bucket=SMALL)
    assert b.next_batch(now) is None
    overdue = b.wakeup(now)
    assert overdue is not None
    assert now < overdue <= now + 20 * MS  # about what it will run for itself
    assert b.next_batch(overdue - 1) is None
    assert start(b, overdue).rows == 1
