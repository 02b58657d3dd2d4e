"""How long a device had work, and how many bytes went there and back."""

import pytest

from trtserve.clock import NS_PER_S
from trtserve.ipc.message import OutputBlock, Submit
from trtserve.metrics import METRICS, Recorder
from trtserve.worker.device_counts import DeviceCounts
from trtserve.worker.job import LaneResult
from trtserve.worker.request import Batch, Request


def busy(*freed: tuple[float, float, list[float]]) -> tuple[float, float]:
    """Seconds of lanes and of the device, for (started, finished, others still running)."""
    recorder = Recorder()
    counts = DeviceCounts(recorder, "d", unified=True)
    for started, finished, others in freed:
        counts.freed(
            int(started * NS_PER_S), int(finished * NS_PER_S),
            [int(other * NS_PER_S) for other in others],
        )
    return (
        recorder.counters["lane_busy_seconds", ("d",)],
        recorder.counters["device_busy_seconds", ("d",)],
    )


@pytest.mark.parametrize(
    ("freed", "lanes", "device"),
    [
        ([(0, 2, []), (5, 6, [])], 3, 3),  # one after the other
        ([(0, 4, [0]), (0, 4, [])], 8, 4),  # two at once
        ([(2, 5, [0]), (0, 10, [])], 13, 10),  # the one that began first ends last
        ([(0, 4, [3]), (3, 6, [5]), (5, 9, [])], 11, 9),  # each overlaps the next
        ([(0, 4, [3])], 4, 4),  # the second one still runs
    ],
)
def test_time_that_lanes_share_counts_once_for_the_device(freed, lanes, device):
    assert list(busy(*freed)) == pytest.approx([lanes, device])


@pytest.mark.parametrize(("unified", "came", "went"), [(False, 700, 90), (True, 0, 0)])
def test_bytes_are_counted_where_they_are_copied(unified, came, went):
    recorder = Recorder()
    requests = [
        Request(Submit(number, 1, (), 1, inputs, (0,), 0), None)
        for number, inputs in enumerate([((0, 300), (512, 100)), ((1024, 300),)])
    ]
    block = OutputBlock(0, (), 0, (40, 50))
    DeviceCounts(recorder, "d", unified=unified).batch(
        Batch(1, 1, (), requests, 2, 0), LaneResult(1, 0, 0, outputs=(block,))
    )
    assert recorder.counters["copied_bytes", ("d", "in")] == came
    assert recorder.counters["copied_bytes", ("d", "out")] == went


def test_all_counters_are_there_from_the_start():
    recorder = Recorder()
    DeviceCounts(recorder, "d", unified=False)
    assert set(recorder.counters.values()) == {0.0}
    for name, labels in recorder.counters:
        assert len(METRICS[name].labels) == len(labels)
