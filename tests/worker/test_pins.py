"""Which buckets get contexts of their own, and which lose them."""

import pytest

from trtserve.ipc.message import Bucket
from trtserve.worker.pins import IN_USE_NS, MAX_COUNTED, OFTEN, REFUSED, Pins

A, B, C, D = (((size,),) for size in (1, 2, 3, 4))


def ask(pins: Pins, bucket: Bucket, now: int = 0, variant: int = 1) -> bool:
    """Run batches of a bucket until it counts as one that repeats. Whether it is asked for."""
    answers = [pins.ran(variant, bucket, now) for _ in range(OFTEN)]
    assert not any(answers[:-1])
    return answers[-1]


def pinned(limit: int, *buckets: Bucket, now: int = 0) -> Pins:
    """These buckets are pinned, in that order."""
    pins = Pins(limit)
    for number, bucket in enumerate(buckets):
        assert ask(pins, bucket, now + number)
        pins.pin(1, bucket, now + number)
    return pins


def test_a_bucket_that_comes_often_is_asked_for_once():
    pins = Pins(4)
    assert ask(pins, A)
    assert not any(pins.ran(1, A, 0) for _ in range(2 * OFTEN))
    pins.pin(1, A, 0)
    assert pins.pinned == 1
    assert not any(pins.ran(1, A, 0) for _ in range(2 * OFTEN))


def test_buckets_of_different_variants_are_different():
    pins = Pins(4)
    for _ in range(OFTEN - 1):
        assert not pins.ran(1, A, 0)
        assert not pins.ran(2, A, 0)
        assert not pins.ran(1, B, 0)
    assert pins.ran(2, A, 0)


def test_one_at_a_time():
    pins = Pins(4)
    assert ask(pins, A)
    assert not ask(pins, B)
    pins.pin(1, A, 0)
    assert pins.ran(1, B, 0)  # it has come often enough meanwhile


def test_a_bucket_that_could_get_none_makes_way_and_is_tried_again_much_later():
    pins = Pins(4)
    assert ask(pins, A)
    pins.refuse(1, A)
    assert pins.pinned == 0
    assert ask(pins, B)
    pins.pin(1, B, 0)
    tries = [pins.ran(1, A, 0) for _ in range(REFUSED)]
    assert not any(tries[:-1])
    assert tries[-1]


def test_the_bucket_used_longest_ago_goes_first():
    pins = pinned(3, A, B, C)
    assert pins.to_evict(IN_USE_NS) == (1, A)
    pins.ran(1, A, 10)  # A is the latest now
    assert pins.to_evict(2 * IN_USE_NS) == (1, B)
    pins.unpin(1, B)
    assert pins.to_evict(2 * IN_USE_NS) is None  # there is room
    assert pins.oldest(2 * IN_USE_NS) == (1, C)


def test_what_is_in_use_is_not_given_up():
    pins = pinned(2, A, B)
    late = IN_USE_NS - 1
    assert not ask(pins, C, late)
    assert pins.to_evict(late) is None
    assert pins.ran(1, C, IN_USE_NS)  # A has not run for long enough
    assert pins.to_evict(IN_USE_NS) == (1, A)


def test_a_bucket_that_lost_its_contexts_must_come_often_again():
    pins = pinned(1, A)
    now = IN_USE_NS
    assert ask(pins, B, now)
    evicted = pins.to_evict(now)
    assert evicted == (1, A)
    pins.unpin(*evicted)
    pins.pin(1, B, now)
    assert pins.pinned == 1
    assert ask(pins, A, 2 * now)


def test_losing_one_does_not_let_another_in_before_its_turn():
    pins = pinned(1, A)
    assert ask(pins, B, IN_USE_NS)
    pins.unpin(1, A)
    assert not ask(pins, C, IN_USE_NS)  # B's are still being made


def test_what_nothing_else_could_run_stays():
    pins = Pins(1)
    pins.pin(1, A, 0, lasting=True)
    assert pins.pinned == 1
    assert pins.oldest(100 * IN_USE_NS) is None
    assert not any(pins.ran(1, A, 0) for _ in range(2 * OFTEN))
    assert not ask(pins, B, 100 * IN_USE_NS)  # it takes all the room there is


def test_more_than_the_limit_may_be_pinned_at_load():
    pins = Pins(1)
    for number, bucket in enumerate((A, B, C)):
        pins.pin(1, bucket, number)
    assert pins.pinned == 3
    assert not ask(pins, D, 5)
    assert pins.ran(1, D, IN_USE_NS)
    assert pins.to_evict(IN_USE_NS) == (1, A)


@pytest.mark.parametrize(("others", "kept"), [(MAX_COUNTED - 1, True), (MAX_COUNTED, False)])
def test_the_count_that_is_oldest_is_forgotten(others, kept):
    pins = Pins(4)
    for _ in range(OFTEN - 1):
        pins.ran(1, A, 0)
    for number in range(others):
        pins.ran(2, ((number,),), 0)
    assert pins.ran(1, A, 0) is kept


def test_variants_that_are_gone_are_forgotten():
    pins = pinned(4, A, B)
    pins.pin(2, C, 0, lasting=True)
    pins.ran(1, D, 0)
    pins.ran(2, D, 0)
    assert ask(pins, C, variant=3)
    assert pins.asked_of({1, 3})
    pins.pin(3, C, 0)
    assert not pins.asked_of({1, 3})
    pins.forget({1, 2})
    assert pins.pinned == 1
    assert pins.oldest(IN_USE_NS) == (3, C)
    assert not any(pins.ran(1, D, 0) for _ in range(OFTEN - 1))  # counted anew
