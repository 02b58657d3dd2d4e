"""A recording in figures, computed by hand."""

import random

import pytest

from tests.cli.traced import batch
from trtserve.cli.trace_summary import DeviceSummary, stage_intervals, summarize
from trtserve.clock import NS_PER_US


def summary(*batches, start=0, end=100):
    """The figures of the only device."""
    (found,) = summarize(batches, start * NS_PER_US, end * NS_PER_US)
    return found


def test_stages_follow_one_another():
    found = stage_intervals(batch(10, 1, 2, 3, 4))
    assert {name: (a // NS_PER_US, b // NS_PER_US) for name, (a, b) in found.items()} == {
        "stage": (10, 11), "h2d": (11, 13), "compute": (13, 16), "d2h": (16, 20),
    }


def test_one_batch_alone():
    assert summary(batch(10, 5, 10, 40, 20, rows=3, padded_rows=4, requests=((1, 0), (2, 5)))) == (
        DeviceSummary(
            device="cuda:0", batches=1, failed=0, requests=2, rows=3, padded=0.25,
            copy_in_busy=0.1, compute_busy=0.4, copy_out_busy=0.2, copies_hidden=0.0,
        )
    )


def test_batches_one_after_the_other_hide_nothing():
    found = summary(*(batch(25 * n, 0, 5, 15, 5) for n in range(4)))
    assert found.copies_hidden == 0
    assert (found.copy_in_busy, found.compute_busy, found.copy_out_busy) == (0.2, 0.6, 0.2)


def test_copies_wholly_inside_another_batch_s_computation_are_hidden():
    long = batch(0, 0, 0, 100, 0)
    other = batch(20, 0, 10, 30, 10, lane=1)
    found = summary(long, other)
    assert found.copies_hidden == 1
    assert found.compute_busy == 1  # a union: the lanes' computations count once


def test_half_hidden():
    # Copies 0..10 and 30..40; the other computes 5..35: 5 of each 10 are inside.
    found = summary(batch(0, 0, 10, 20, 10), batch(5, 0, 0, 30, 0, lane=1))
    assert found.copies_hidden == 0.5


def test_copies_in_both_directions_at_once_count_once():
    # In 0..10 and out 0..10 of two lanes, half under a third one's computation.
    found = summary(
        batch(0, 0, 10, 0, 0), batch(0, 0, 0, 0, 10, lane=1), batch(5, 0, 0, 50, 0, lane=2)
    )
    assert (found.copy_in_busy, found.copy_out_busy, found.copies_hidden) == (0.1, 0.1, 0.5)


def test_what_lies_outside_the_recording_does_not_count():
    found = summary(batch(-30, 0, 0, 40, 0), batch(80, 0, 10, 30, 0, lane=1))
    assert (found.compute_busy, found.copy_in_busy) == (0.2, 0.1)


def test_gathering_stands_for_the_copy_on_the_cpu():
    found = summary(batch(0, 10, 0, 40, 0, device="cpu"), batch(10, 20, 0, 0, 0, device="cpu"))
    assert (found.copy_in_busy, found.copies_hidden) == (0.3, pytest.approx(20 / 30))
    on_cuda = summary(batch(0, 10, 0, 40, 0))
    assert (on_cuda.copy_in_busy, on_cuda.copies_hidden) == (0, None)


def test_a_batch_that_was_run_again_keeps_its_requests():
    whole = batch(0, requests=((1, 0), (2, 0)), rows=2, padded_rows=2, error="no")
    parts = [batch(5 * n, 0, 0, 5, 0, requests=((n, 0),)) for n in (1, 2)]
    found = summary(whole, *parts)
    assert (found.batches, found.failed, found.requests, found.rows) == (3, 1, 2, 4)


def test_devices_are_apart_and_in_order():
    found = summarize(
        [batch(0, 0, 0, 10, 0, device="cuda:1"), batch(0, 0, 5, 20, 0)], 0, 100 * NS_PER_US
    )
    assert [(each.device, each.compute_busy) for each in found] == [
        ("cuda:0", 0.2), ("cuda:1", 0.1)
    ]


def test_nothing_is_nothing():
    assert summarize([], 0, 100) == []
    assert summary(batch(0, 0, 5, 5, 5), end=0).compute_busy == 0


@pytest.mark.parametrize("seed", range(20))
def test_shares_are_shares_and_do_not_mind_the_order(seed):
    generator = random.Random(seed)
    batches = [
        batch(generator.randrange(100), *generator.choices(range(20), k=4), lane=lane)
        for lane in range(3) for _ in range(5)
    ]
    found = summary(*batches)
    shares = (found.copy_in_busy, found.compute_busy, found.copy_out_busy, found.copies_hidden)
    assert all(0 <= share <= 1 for share in shares)
    generator.shuffle(batches)
    assert summary(*batches) == found
