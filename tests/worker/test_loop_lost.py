"""A device that is lost, wherever that shows: the worker ends, and what it counted does not."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.worker.worker_stand import Gate, WorkerStand
from trtserve.errors import DeviceError
from trtserve.ipc import message as m
from trtserve.model.spec import ModelState
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice
from trtserve.testing.engine import Arrays, FakeEngine, FakeScript, doubling, fake_variant
from trtserve.worker.loading import DeviceLost
from trtserve.worker.loop import EXIT_DEVICE_LOST

LOST = DeviceError("illegal address", name="cudaErrorIllegalAddress", sticky=True)
ROW = np.ones((1, 4), np.float32)

Starter = Callable[..., WorkerStand]


@pytest.fixture
def start() -> Iterator[Starter]:
    """Starts a worker on a device with memory of its own."""
    stands: list[WorkerStand] = []

    def start_worker(
        engines: dict[str, FakeEngine], device: FakeDevice | None = None, **options: Any
    ) -> WorkerStand:
        stand = WorkerStand({**engines}, device=device or FakeDevice(FakeClock()), **options)
        stands.append(stand)
        return stand.start()

    yield start_worker
    for stand in stands:
        stand.stop()


def engine(**script: Any) -> FakeEngine:
    return FakeEngine(script=FakeScript(pins=True, captures=True, **script))


def check_lost(worker: WorkerStand, name: str = "cudaErrorIllegalAddress") -> None:
    """The worker ended as it should, and told the error by its name, once."""
    assert worker.join() == EXIT_DEVICE_LOST
    errors = [
        [(count.labels, count.value) for count in beat.statistics.counters
         if count.name == "device_errors"]
        for beat in worker.supervisor.waiting() if isinstance(beat, m.Heartbeat)
    ]
    assert errors.pop() == [(("fake", name), 1)]
    assert not any(errors)  # it was the last word


def test_lost_by_a_batch(start):
    failures: dict[int, Exception] = {}
    model = engine(failures=failures)
    worker = start({"m.fake": model})
    front_end = worker.connect()
    front_end.answer(front_end.submit(ROW))
    failures[model.runs + 1] = LOST
    front_end.submit(ROW)
    check_lost(worker)
    assert not any(isinstance(each, m.Done | m.Failed) for each in front_end.waiting())


def test_what_was_counted_before_is_in_the_last_heartbeat(start):
    failures: dict[int, Exception] = {}
    model = engine(failures=failures)
    worker = start({"m.fake": model})
    front_end = worker.connect()
    for _ in range(3):
        front_end.answer(front_end.submit(ROW))
    failures[model.runs + 1] = LOST
    front_end.submit(ROW)
    assert worker.join() == EXIT_DEVICE_LOST
    last = [
        message for message in worker.supervisor.waiting() if isinstance(message, m.Heartbeat)
    ][-1]
    counters = {(each.name, *each.labels): each.value for each in last.statistics.counters}
    assert counters["version_sums", "m", "1", "executed"] == 3


def test_an_engine_that_says_it_in_its_own_words_is_seen_through(start):
    # The engine fails like any other, and the streams know better.
    failures: dict[int, Exception] = {}
    device = FakeDevice(FakeClock())
    model = engine(failures=failures)
    worker = start({"m.fake": model}, device)
    front_end = worker.connect()
    failures[model.runs + 1] = RuntimeError("something went wrong")
    device.fail("synchronize", 1, LOST)
    front_end.submit(ROW)
    check_lost(worker)


def test_lost_on_several_lanes_is_lost_once(start):
    def lose(arrays: Arrays) -> Arrays:
        if arrays[0].any():  # not at warm-up
            raise LOST
        return arrays

    gate = Gate(lose)
    worker = start({"m.fake": FakeEngine(script=FakeScript(gate.compute))}, lanes=2)
    front_end = worker.connect()
    gate.close()
    for _ in range(2):
        front_end.submit(np.ones((8, 4), np.float32))  # a batch each
    for _ in range(2):
        gate.wait_for_a_run()
    gate.open()
    check_lost(worker)


def test_an_error_without_a_name_is_counted_too(start):
    failures: dict[int, Exception] = {}
    model = engine(failures=failures)
    worker = start({"m.fake": model})
    front_end = worker.connect()
    failures[model.runs + 1] = DeviceError("odd", sticky=True)
    front_end.submit(ROW)
    check_lost(worker, "unknown")


@pytest.mark.parametrize("script", [
    {"context_failures": {2: LOST}}, {"failures": {2: LOST}}, {"capture": LOST},
])
def test_lost_while_loading(start, script):
    worker = start({"a.fake": engine(), "b.fake": engine(**script), "c.fake": engine()})
    check_lost(worker)
    states = [
        (update.model, update.state) for update in worker.supervisor.waiting()
        if isinstance(update, m.ModelUpdate) and update.state != ModelState.LOADING
    ]
    assert states == [("a", ModelState.READY)]


def test_lost_over_a_bucket_that_repeats(start):
    failures: dict[int, Exception] = {}
    model = FakeEngine(
        fake_variant(row=(-1,)), script=FakeScript(pins=True, context_failures=failures)
    )
    worker = start({"m.fake": model}, lanes=2)
    front_end = worker.connect()
    failures[len(model.contexts) + 6] = LOST
    for _ in range(4):
        front_end.answer(front_end.submit(ROW))
    check_lost(worker)


def test_lost_when_a_front_end_comes(start):
    device = FakeDevice(FakeClock())
    worker = start({"m.fake": engine()}, device)
    first = worker.connect("front end 1")
    first.answer(first.submit(ROW))
    device.fail("attach", 1, LOST)
    worker.connect("front end 2", greet=False)
    check_lost(worker)


def test_lost_when_nothing_runs(start):
    device = FakeDevice(FakeClock())
    worker = start({"m.fake": engine()}, device)
    worker.connect()
    device.fail("memory", 1, LOST)
    worker.supervisor.say(m.Poll(1))
    check_lost(worker)


def test_nothing_more_is_asked_of_a_device_that_is_lost():
    device = FakeDevice(FakeClock())
    worker = WorkerStand({"m.fake": engine()}, device=device)
    # The loop's first turn, in which a heartbeat is due.
    worker._loop.post(DeviceLost(LOST))
    device.fail("memory", 1, DeviceError("again", name="cudaErrorLaunchFailure", sticky=True))
    worker.start()
    try:
        check_lost(worker)
    finally:
        worker.stop()


def test_a_stop_does_not_hide_it(start):
    gate = Gate(doubling)
    failures: dict[int, Exception] = {}
    model = FakeEngine(script=FakeScript(gate.compute, failures=failures))
    worker = start({"m.fake": model})
    front_end = worker.connect()
    gate.close()
    front_end.submit(ROW)
    gate.wait_for_a_run()
    worker.supervisor.say(m.Stop(5.0))
    worker.gauges()
    worker.device.fail("synchronize", 1, LOST)
    gate.open()
    check_lost(worker)
