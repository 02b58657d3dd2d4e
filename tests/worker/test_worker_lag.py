"""How long the worker's loop hears nobody."""

import os
import selectors

from tests.worker.worker_stand import WorkerStand
from trtserve.clock import NS_PER_MS
from trtserve.metrics import LATENCY_EDGES, Histogram
from trtserve.testing.clock import FakeClock
from trtserve.worker.lag import MeasuredSelector


def test_a_turn_is_the_time_between_two_waits():
    clock = FakeClock(NS_PER_MS)
    turns = Histogram(LATENCY_EDGES)
    reader, writer = os.pipe()
    with MeasuredSelector(turns, clock.now_ns) as selector:
        selector.register(reader, selectors.EVENT_READ, "it")
        os.write(writer, b"x")
        ((key, _),) = selector.select(0)
        assert key.data == "it"
        assert sum(turns.counts) == 0  # its turn has only begun
        clock.advance(20 * NS_PER_MS)
        selector.select(0)
        assert (sum(turns.counts), turns.total) == (1, 0.02)
        selector.select(0)
        assert (sum(turns.counts), turns.total) == (2, 0.02)
    os.close(reader)
    os.close(writer)


def test_a_worker_s_turns_are_in_its_statistics():
    worker = WorkerStand({}).start()
    try:
        worker.statistics()  # what it says first is said inside its first turn
        (sample,) = [
            sample for sample in worker.statistics().histograms
            if sample.name == "loop_lag_seconds"
        ]
    finally:
        worker.stop()
    assert sample.labels == ("worker fake",)
    assert sum(sample.counts) > 0
    assert sample.total > 0
