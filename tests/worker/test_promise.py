"""Requests that would come too late: refused when they come, dropped as soon as it is sure."""

from typing import Any

import pytest

from tests.worker.batcher_traffic import LARGE, MS, SMALL, add, batcher, request, start, teach
from trtserve.errors import Overloaded
from trtserve.ipc.message import Closed
from trtserve.model.spec import QueuePolicy
from trtserve.worker.batcher import Batcher
from trtserve.worker.no_room import NoRoom

SERVICE = 10 * MS


def busy(lanes: int = 1, **policy: object) -> Batcher:
    """Requests take 10 ms each; every lane runs one."""
    b = batcher(lanes, max_batch=1, **policy)
    teach(b, lambda _: SERVICE, (1,))
    add(b, 0, lanes)
    for _ in range(lanes):
        start(b, 0)
    return b


def accepted(b: Batcher, deadline: int, most: int = 100, **options: Any) -> int:
    """How many of those that come at once are taken."""
    for taken in range(most):
        try:
            add(b, 0, deadline=deadline, **options)
        except Overloaded:
            return taken
    return most


def closed(b: Batcher, now: int, **options: Any) -> Closed:
    """What front ends are told when there is no room for a request."""
    with pytest.raises(NoRoom) as refused:
        b.add(request(now, **options), now)
    return refused.value.closed


@pytest.mark.parametrize(("deadline_ms", "taken"), [(100, 6), (200, 13), (40, 2)])
def test_no_more_are_taken_than_come_in_time_with_a_margin(deadline_ms, taken):
    # The n-th waits for half a batch and n - 1 whole ones, and then takes 10 ms itself.
    assert accepted(busy(), deadline_ms * MS) == taken


def test_more_lanes_take_more():
    assert accepted(busy(2), 100 * MS) == 12


def test_the_pushback_is_the_wait():
    b = busy()
    accepted(b, 100 * MS)
    with pytest.raises(Overloaded, match="longer than this one's deadline") as refused:
        b.add(request(0, deadline=100 * MS), 0)
    assert refused.value.retry_after_ms == 65


def test_front_ends_hear_who_else_would_be_refused():
    b = busy()
    accepted(b, 100 * MS)
    told = closed(b, 0, deadline=100 * MS)
    # 65 ms of wait count half as much again, and it takes 10 ms itself.
    assert told == Closed(65 * MS // 8, 107_500_000)
    b.add(request(0, deadline=told.need_ns), 0)


def test_a_full_queue_is_closed_until_somebody_may_have_left():
    b = batcher(2, max_batch=1, max_queue_size=3)
    teach(b, lambda _: SERVICE, (1,))
    add(b, 0, 2)
    running = [start(b, 0), start(b, 0)]
    add(b, 0, 3)
    assert closed(b, 0) == Closed(0)  # what a request takes was not seen yet
    b.finished(running[0], SERVICE, SERVICE)
    start(b, SERVICE)
    add(b, SERVICE)
    assert closed(b, SERVICE) == Closed(SERVICE // 4)


def test_requests_without_a_deadline_are_all_taken():
    assert accepted(busy(), 0) == 100


def test_a_lone_request_is_tried_however_short_its_time():
    b = batcher(1, max_batch=1)
    teach(b, lambda _: SERVICE, (1,))
    (hasty,) = add(b, 0, deadline=MS)
    assert start(b, 0).requests == [hasty]


def test_what_was_never_measured_is_taken():
    b = batcher(1, max_batch=1)
    add(b, 0)
    start(b, 0)
    assert accepted(b, 2 * MS) == 100


def test_batches_that_grow_take_more():
    b = batcher(1, max_batch=32, max_delay_us=0)
    teach(b, lambda _: SERVICE)  # as long whatever the rows
    add(b, 0)
    start(b, 0)
    assert accepted(b, 40 * MS) == 49  # a batch and a half


def test_another_model_that_waits_takes_its_share_only():
    b = busy()
    b.add_variant(2, "other", 1, 1, QueuePolicy())
    teach(b, lambda _: SERVICE, (1,), bucket=LARGE, variant=2)
    add(b, 0, 50, variant=2, bucket=LARGE)
    # Half of the lane is left for this one, so its own wait counts twice.
    assert accepted(b, 100 * MS, bucket=SMALL) == 3


def test_with_priorities_nobody_knows_how_long_one_waits():
    assert accepted(busy(priority_levels=2), 30 * MS) == 100


def test_what_can_not_be_in_time_any_more_is_dropped_before_it_takes_a_lane():
    b = busy()
    first, second, last = add(b, 0), add(b, 0, deadline=70 * MS), add(b, 0)
    assert b.next_batch(59 * MS) is None
    assert b.take_dropped() == []
    b.finished(start_of(b), 61 * MS, SERVICE)
    batch = start(b, 61 * MS)
    assert batch.requests == first
    ((dropped, error),) = b.take_dropped()
    assert [dropped] == second
    assert "too little time" in str(error)
    b.finished(batch, 71 * MS, SERVICE)
    assert start(b, 71 * MS).requests == last


def start_of(b: Batcher):
    """The batch that runs."""
    ((batch, _),) = b._running.values()
    return batch
