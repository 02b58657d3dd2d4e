"""A version's variants that take the place of others: both run at once for a while."""

import pytest

from tests.worker.batcher_traffic import LARGE, MS, add, batcher, request, start
from trtserve.errors import Overloaded
from trtserve.model.spec import QueuePolicy
from trtserve.worker.batcher import Batcher


def test_a_variant_is_held_while_it_waits_or_runs():
    b = batcher(lanes=1)
    b.add_variant(2, "model", 1, 32, QueuePolicy())
    assert not b.holds({1, 2})
    add(b, 0)
    waiting = add(b, 0, bucket=LARGE)[0]
    batch = start(b, 0)
    assert b.holds({1})
    assert not b.holds({2})
    b.cancel(waiting)
    b.finished(batch, MS, MS)
    other = b.next_batch(MS)
    if other is not None:
        b.finished(other, 2 * MS, MS)
    assert not b.holds({1, 2})


def test_old_and_new_share_the_limit_that_the_new_one_sets():
    b = Batcher(1, 100)
    b.add_variant(1, "model", 1, 1, QueuePolicy(max_queue_size=3))
    add(b, 0, 3)
    with pytest.raises(Overloaded):
        add(b, 0)
    b.add_variant(2, "model", 1, 1, QueuePolicy(max_queue_size=5))
    add(b, 0, 2, variant=2)
    for variant in (1, 2):
        with pytest.raises(Overloaded, match="has 5 requests waiting"):
            b.add(request(0, variant=variant), 0)
    assert b.statistics().queued == {("model", 1): 5}
    assert len(b.remove_variant(1)) == 3
    assert b.statistics().queued == {("model", 1): 2}


def test_old_and_new_share_the_lanes_that_the_new_one_sets():
    b = Batcher(3, 100)
    b.add_variant(1, "model", 1, 1, QueuePolicy(), lanes=1)
    add(b, 0, 2)
    start(b, 0)
    assert b.next_batch(0) is None
    b.add_variant(2, "model", 1, 1, QueuePolicy(), lanes=2)
    add(b, 0, 1, variant=2)
    start(b, 0)
    assert b.next_batch(0) is None


def test_what_changes_while_nothing_waits_wakes_nobody():
    b = batcher()
    b.add_variant(2, "model", 1, 32, QueuePolicy())
    b.run_alone(1)
    assert b.wakeup(5) is None
