"""How requests leave the batcher without running: refused, expired, cancelled, removed."""

import gc

import pytest

from tests.worker.batcher_traffic import LARGE, MS, SMALL, add, batcher, request, start
from trtserve.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    Unavailable,
)
from trtserve.model.spec import QueuePolicy
from trtserve.worker.batcher import Batcher
from trtserve.worker.bucket_queue import SLACK
from trtserve.worker.request import Request


@pytest.mark.parametrize("rows", [0, 9])
def test_rows_that_never_fit_are_refused(rows: int):
    b = batcher(max_batch=8)
    with pytest.raises(InvalidRequest, match=f"{rows} rows; model 'model' version 1 takes 1 to 8"):
        b.add(request(0, rows=rows), 0)
    assert b.statistics().buckets == 0


def test_a_variant_that_is_not_served_is_refused():
    with pytest.raises(Unavailable, match="try again"):
        batcher().add(request(0, variant=7), 0)


def test_an_expired_or_cancelled_request_is_not_queued():
    b = batcher()
    with pytest.raises(DeadlineExceeded):
        b.add(request(5, deadline=5), 5)
    gone = request(0)
    b.cancel(gone)
    with pytest.raises(Cancelled):
        b.add(gone, 0)
    assert b.statistics().buckets == 0
    assert b.take_dropped() == []


def test_a_full_queue_refuses_with_the_time_it_takes_to_drain():
    b = Batcher(2, 3)
    b.add_variant(1, "model", 1, 1, QueuePolicy())
    b.add_variant(2, "model", 1, 1, QueuePolicy())
    b.add_variant(3, "other", 1, 1, QueuePolicy(max_queue_size=5))
    add(b, 0, 1)
    add(b, 0, 1, bucket=LARGE)
    add(b, 0, 1, variant=2)
    with pytest.raises(Overloaded, match="model 'model' version 1 has 3 requests waiting") as first:
        add(b, 0)
    add(b, 0, 5, variant=3)
    with pytest.raises(Overloaded):
        add(b, 0, variant=3)
    b.finished(start(b, 0), 40 * MS, 40 * MS)
    add(b, 0)
    with pytest.raises(Overloaded) as second:
        add(b, 0)
    assert first.value.retry_after_ms == 100
    assert second.value.retry_after_ms == 3 * 40 // 2


@pytest.mark.parametrize(("service_ns", "retry_ms"), [(1, 1), (10**13, 10_000)])
def test_the_pushback_is_bounded(service_ns: int, retry_ms: int):
    b = Batcher(1, 1)
    b.add_variant(1, "model", 1, 1, QueuePolicy())
    add(b, 0)
    b.finished(start(b, 0), service_ns, service_ns)
    add(b, 0)
    with pytest.raises(Overloaded) as refused:
        add(b, 0)
    assert refused.value.retry_after_ms == retry_ms


def test_expired_requests_are_dropped_before_a_batch_forms():
    b = batcher()
    (early, late) = (request(0, deadline=10 * MS), request(0, deadline=20 * MS))
    b.add(early, 0)
    b.add(late, 0)
    assert start(b, 10 * MS).requests == [late]
    ((dropped, error),) = b.take_dropped()
    assert dropped is early
    assert isinstance(error, DeadlineExceeded)
    assert b.take_dropped() == []


def test_expired_requests_are_answered_while_all_lanes_are_busy():
    b = batcher()
    add(b, 0)
    start(b, 0)
    add(b, 0)
    (hasty,) = add(b, 0, deadline=10 * MS)
    assert b.wakeup(0) == 10 * MS
    assert b.next_batch(10 * MS) is None
    assert [dropped for dropped, _ in b.take_dropped()] == [hasty]
    assert b.wakeup(10 * MS) is None
    assert b.statistics().queued == {("model", 1): 1}


def test_a_cancelled_request_never_runs():
    b = batcher()
    first, second, third = add(b, 0, 3)
    b.cancel(second)
    b.cancel(second)
    ((dropped, error),) = b.take_dropped()
    assert dropped is second
    assert isinstance(error, Cancelled)
    taken = []
    while (batch := b.next_batch(0)) is not None:
        taken += batch.requests
        b.cancel(batch.requests[0])  # too late: it runs
        b.finished(batch, 0, None)
    assert taken == [first, third]
    assert b.take_dropped() == []


def test_a_removed_variant_returns_what_waited():
    b = batcher(lanes=2)
    b.add_variant(2, "model", 1, 8, QueuePolicy())
    running = add(b, 0)
    batch = start(b, 0)
    waiting = add(b, 0, 2, deadline=MS) + add(b, 0, 2, bucket=LARGE)
    others = add(b, 0, 2, variant=2)
    b.learn(1, SMALL, 1, MS)
    assert b.remove_variant(1) == waiting
    assert b.cost(1, SMALL) is None
    assert b.statistics().queued == {("model", 1): 2}
    b.finished(batch, MS, MS)
    assert batch.requests == running
    assert start(b, 2 * MS).requests == others[:1]
    assert start(b, 2 * MS).requests == others[1:]
    assert b.take_dropped() == []
    b.remove_variant(2)
    assert b.statistics().queued == {}
    assert b.statistics().tables == 0


def test_the_requests_of_a_dead_owner_are_forgotten():
    b = batcher()
    dead, alive = object(), object()
    add(b, 0, 2, owner=dead)
    (cancelled,) = add(b, 0, owner=dead)
    b.cancel(cancelled)
    kept = add(b, 0, owner=alive)
    add(b, 0, bucket=LARGE, owner=dead)
    assert b.drop_owner(dead) == 3
    assert b.take_dropped() == []
    assert b.statistics().queued == {("model", 1): 1}
    assert start(b, 0).requests == kept
    assert b.statistics().buckets == 0


def test_requests_that_ran_are_not_kept_for_their_deadlines():
    b = batcher(priority_levels=2, max_delay_us=0, preferred_batch_sizes=(8,))
    add(b, 0, priority=2, deadline=1000 * MS)  # never its turn, and the earliest deadline
    for now in range(500):
        add(b, now, 8, priority=1, deadline=5000 * MS)
        b.finished(start(b, now), now, MS)
    assert b.statistics().queued == {("model", 1): 1}
    kept = sum(isinstance(each, Request) for each in gc.get_objects())
    assert kept < 2 * SLACK
