"""What a worker counts of each batch, and what it measures now and then."""

import pytest

from trtserve.clock import NS_PER_MS
from trtserve.ipc.arena import ArenaStatistics
from trtserve.ipc.message import Submit
from trtserve.metrics import BATCH_SIZE_SUMS, METRICS, VERSION_SUMS, Recorder
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice
from trtserve.worker.batcher_statistics import BatcherStatistics
from trtserve.worker.counts import VersionCounts, forget_gauges, record_gauges
from trtserve.worker.job import LaneResult
from trtserve.worker.request import Batch, Request

STARTED = 100 * NS_PER_MS


def batch_of(*requests: tuple[int, int]) -> Batch:
    """A batch of requests given as (rows, milliseconds waited)."""
    found = [
        Request(Submit(1, 1, (), rows, (), (0,), STARTED - waited * NS_PER_MS), None)
        for rows, waited in requests
    ]
    return Batch(1, 1, (), found, sum(rows for rows, _ in requests), STARTED)


def result(padded: int = 0) -> LaneResult:
    stage, h2d, compute, d2h = (each * NS_PER_MS for each in (1, 2, 30, 4))
    return LaneResult(1, 0, STARTED, None, (), (), stage, h2d, compute, d2h, padded=padded)


def test_sums_are_those_of_the_statistics():
    recorder = Recorder()
    counts = VersionCounts(recorder, "m", 3)
    counts.batch(batch_of((1, 5), (3, 7)), result(), "a")
    counts.batch(batch_of((4, 0)), result(), "a")
    sums = {labels[2]: value for (name, labels), value in recorder.counters.items()
            if name == "version_sums"}
    assert sums.pop("last_inference_ms") > 1.6e12
    # As in Triton, each request adds its whole batch's stage times.
    assert sums == {
        "executed": 3, "inferences": 8, "executions": 2, "queue_ns": 12 * NS_PER_MS,
        "input_ns": 9 * NS_PER_MS, "infer_ns": 90 * NS_PER_MS, "output_ns": 12 * NS_PER_MS,
    }
    assert set(sums) < set(VERSION_SUMS)
    by_size = {labels[2:]: value for (name, labels), value in recorder.counters.items()
               if name == "batch_size_sums"}
    assert by_size == {
        ("4", "executions"): 2, ("4", "input_ns"): 6 * NS_PER_MS,
        ("4", "infer_ns"): 60 * NS_PER_MS, ("4", "output_ns"): 8 * NS_PER_MS,
    }
    assert {name for _, name in by_size} == set(BATCH_SIZE_SUMS)


def test_histograms_are_in_seconds_and_once_for_each_batch():
    recorder = Recorder()
    counts = VersionCounts(recorder, "m", 3)
    counts.batch(batch_of((1, 5), (3, 7)), result(), "a")
    found = {
        name: (sum(each.counts), each.total) for (name, _), each in recorder.histograms.items()
    }
    assert found == {
        "queue_duration_seconds": (2, pytest.approx(0.012)),
        "stage_duration_seconds": (1, pytest.approx(0.001)),
        "h2d_duration_seconds": (1, pytest.approx(0.002)),
        "compute_duration_seconds": (1, pytest.approx(0.03)),
        "d2h_duration_seconds": (1, pytest.approx(0.004)),
        "batch_rows": (1, 4), "batch_requests": (1, 2),
    }


def test_padding_is_counted_apart_from_rows():
    recorder = Recorder()
    counts = VersionCounts(recorder, "m", 3)
    counts.batch(batch_of((3, 0)), result(padded=4), "a")
    assert recorder.counters["padding_rows", ("m", "3")] == 1
    counts.batch(batch_of((4, 0)), result(), "a")  # as many as were asked for
    assert recorder.counters["padding_rows", ("m", "3")] == 1
    assert recorder.histograms["batch_rows", ("m", "3")].total == 7


def test_everything_written_is_in_the_table():
    recorder = Recorder()
    VersionCounts(recorder, "m", 3).batch(batch_of((1, 0)), result(), "a")
    for name, labels in [*recorder.counters, *recorder.histograms]:
        assert len(METRICS[name].labels) == len(labels)


def test_versions_are_counted_apart():
    recorder = Recorder()
    one, other = VersionCounts(recorder, "m", 1), VersionCounts(recorder, "m", 2)
    one.batch(batch_of((1, 0)), result(), "a")
    other.batch(batch_of((2, 0)), result(), "a")
    assert recorder.counters["version_sums", ("m", "1", "inferences")] == 1
    assert recorder.counters["version_sums", ("m", "2", "inferences")] == 2


@pytest.mark.parametrize("total", [None, 1000])
def test_gauges_are_of_now(total):
    recorder, device = Recorder(), FakeDevice(FakeClock())
    device.total_bytes = total
    taken = device.allocate(300)
    batcher = BatcherStatistics(
        {("m", 1): 7}, {("m", 1): 1024}, lanes=3, lanes_busy=2, buckets=1, tables=1
    )
    versions = [("m", 1), ("broken", 2)]
    record_gauges(
        recorder, "worker fake", device, ArenaStatistics(4096, 512, 2), batcher, versions
    )
    memory: dict[tuple[str, tuple[str, ...]], float] = {
        ("device_memory_bytes", ("fake",)): 1000,
        ("device_memory_used_bytes", ("fake",)): 300,
        ("scratch_bytes", ("fake",)): 0,
        ("scratch_unshared_bytes", ("fake",)): 0,
    }
    assert recorder.gauges == {
        ("queued_requests", ("m", "1")): 7, ("queued_requests", ("broken", "2")): 0,
        ("queue_limit", ("m", "1")): 1024, ("queue_limit", ("broken", "2")): 0,
        ("lanes", ("fake",)): 3, ("lanes_busy", ("fake",)): 2,
        ("arena_bytes", ("worker fake",)): 4096, ("arena_used_bytes", ("worker fake",)): 512,
        **(memory if total else {}),
    }
    for name, labels in recorder.gauges:
        assert len(METRICS[name].labels) == len(labels)
    taken.close()


def test_a_version_that_is_gone_is_measured_no_more_and_its_counts_stay():
    recorder = Recorder()
    VersionCounts(recorder, "m", 1)
    for labels in (("m", "1"), ("m", "2"), ("other", "1")):
        recorder.gauge("queued_requests", labels, 1)
    recorder.gauge("lanes", ("m",), 1)
    counters = dict(recorder.counters)
    forget_gauges(recorder, "m", 1)
    assert set(recorder.gauges) == {
        ("queued_requests", ("m", "2")), ("queued_requests", ("other", "1")), ("lanes", ("m",)),
    }
    assert recorder.counters == counters
