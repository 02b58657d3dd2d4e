"""A worker on a device with memory of its own, whose engine wants contexts for its buckets."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.worker.lane_fleet import Engines
from tests.worker.worker_stand import FrontEndSide, Gate, WorkerStand, model_folder
from trtserve.clock import NS_PER_MS, now_ns
from trtserve.errors import DeviceError, ExecutionFailed
from trtserve.ipc import message as m
from trtserve.model.configuration import ModelConfiguration
from trtserve.model.spec import ModelState
from trtserve.proto.model_config_pb2 import ModelConfig, ModelInstanceGroup
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice
from trtserve.testing.engine import Arrays, FakeEngine, FakeScript, doubling, fake_variant
from trtserve.worker.pins import OFTEN

Starter = Callable[..., WorkerStand]


class Model:
    """A model that doubles and takes rows of any size. Of what runs, zeros, which warm-up runs,
    wait at `warming`, and all else at `serving`, while these gates are closed."""

    def __init__(self, size: int = -1, **script: Any) -> None:
        self.warming = Gate(doubling)
        self.serving = Gate(doubling)
        self.failures: dict[int, Exception] = {}
        """Of contexts, by their number."""
        self.engine = FakeEngine(fake_variant(row=(size,)), script=FakeScript(
            self._compute, pins=True, captures=True, context_failures=self.failures, **script
        ))

    def _compute(self, arrays: Arrays) -> Arrays:
        gate = self.serving if arrays[0].any() else self.warming
        return gate.compute(arrays)

    def open(self) -> None:
        self.warming.open()
        self.serving.open()

    @property
    def pinned(self) -> set[tuple[int, ...]]:
        """The whole shapes that there are contexts for."""
        return {
            context.shapes[0] for context in self.engine.contexts
            if context.shapes is not None and not context.closed
        }


@pytest.fixture
def start() -> Iterator[Starter]:
    """Starts a worker with the model `m`, and others, on a device with memory of its own."""
    stands: list[tuple[WorkerStand, Model]] = []

    def start_worker(
        model: Model, others: Engines | None = None,
        device: FakeDevice | None = None, **options: Any,
    ) -> WorkerStand:
        engines: Engines = {**(others or {}), "m.fake": model.engine}
        stand = WorkerStand(engines, device=device or FakeDevice(FakeClock()), **options)
        stands.append((stand, model))
        return stand.start()

    yield start_worker
    for stand, model in stands:
        model.open()
        stand.stop()


def rows(count: int, value: float = 1.0, size: int = 4) -> np.ndarray[Any, Any]:
    return np.full((count, size), value, np.float32)


def check_doubled(front_end: FrontEndSide, ident: int, array: np.ndarray[Any, Any]) -> m.Done:
    """Requests of one batch are asked after in their order: they share a lease."""
    done, output = front_end.answer(ident)
    assert np.array_equal(output, array * 2)
    if ident == done.ids[-1]:
        front_end.say(m.Release((done.lease,)))
    return done


def ask(front_end: FrontEndSide, array: np.ndarray[Any, Any]) -> m.Done:
    """One request and its answer."""
    return check_doubled(front_end, front_end.submit(array), array)


def told(front_end: FrontEndSide, worker: WorkerStand, size: int) -> None:
    """Until the front end is told the cost of a bucket for the first time: it is pinned."""
    for _ in range(20_000):
        worker.gauges()
        for message in front_end.waiting():
            if isinstance(message, m.Costs) and any(
                bucket == ((size,),) for _, bucket, _ in message.entries
            ):
                return
    raise AssertionError("the bucket was never pinned")


def check_threads(model: Model) -> None:
    """Every context was touched by the thread of one lane only, and for one stream."""
    for context in model.engine.contexts:
        (thread,) = context.threads
        assert thread.startswith("lane ")
        assert len(context.streams) == 1


def runs(worker: WorkerStand) -> list[str]:
    """The batches that were run, with the engine's rows."""
    return [entry.work for entry in worker.device.log if entry.work.startswith("compute")]


# --- padding -----------------------------------------------------------------------------


def test_batches_are_padded_and_only_real_rows_are_answered(start, caplog):
    model = Model(4)
    worker = start(model, lanes=2)
    front_end = worker.connect()
    assert model.pinned == {(1, 4), (2, 4), (4, 4), (8, 4)}
    before = len(runs(worker))
    for count in (3, 5, 8, 1, 7, 2):
        done = ask(front_end, rows(count, count))
        assert (done.timing.rows, done.rows) == (count, (count,))
    assert runs(worker)[before:] == [
        f"compute {size}" for size in (4, 8, 8, 1, 8, 2)
    ]
    assert not [record for record in caplog.records if "while it serves" in record.getMessage()]
    assert all(isinstance(context.places, tuple) for context in model.engine.contexts)
    check_threads(model)


def test_requests_of_a_padded_batch_each_read_their_own_rows(start):
    model = Model(4)
    worker = start(model)
    one, other = worker.connect("front end 1"), worker.connect("front end 2")
    model.serving.close()
    first = one.submit(rows(1))
    model.serving.wait_for_a_run()
    mine, theirs = one.submit(rows(2, 5)), other.submit(rows(1, 7))
    worker.until(lambda gauges: gauges["queued_requests"] == 2)
    model.serving.open()
    check_doubled(one, first, rows(1))
    assert check_doubled(one, mine, rows(2, 5)).timing.rows == 3
    check_doubled(other, theirs, rows(1, 7))
    assert runs(worker)[-1] == "compute 4"


def test_a_batch_taken_apart_is_padded_request_by_request(start):
    failures: dict[int, Exception] = {}
    model = Model(4, failures=failures)
    worker = start(model)
    front_end = worker.connect()
    model.serving.close()
    first = front_end.submit(rows(1))
    model.serving.wait_for_a_run()
    idents = [front_end.submit(rows(3, 5)), front_end.submit(rows(1, 7))]
    worker.until(lambda gauges: gauges["queued_requests"] == 2)
    failures[model.engine.runs + 1] = ExecutionFailed("bad value")
    model.serving.open()
    check_doubled(front_end, first, rows(1))
    check_doubled(front_end, idents[0], rows(3, 5))
    check_doubled(front_end, idents[1], rows(1, 7))
    assert runs(worker)[-2:] == ["compute 4", "compute 1"]


def test_padding_is_told_to_those_who_trace(start):
    front_end = start(Model(4)).connect()
    front_end.say(m.Trace(True))
    for count in (3, 4):
        ask(front_end, rows(count))
    batches = [front_end.expect(m.Traced).batches[0] for _ in range(2)]
    assert [(batch.rows, batch.padded) for batch in batches] == [(3, 4), (4, 4)]


# --- buckets that repeat -----------------------------------------------------------------


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_bucket_that_repeats_is_pinned_while_traffic_goes_on(start, lanes):
    model = Model()
    worker = start(model, lanes=lanes)
    front_end = worker.connect()
    for number in range(OFTEN - 1):
        ask(front_end, rows(3, number + 1, 5))
        ask(front_end, rows(3, number + 1, 6))
    assert model.pinned == set()
    assert runs(worker)[-1] == "compute 3"
    ask(front_end, rows(3, 1, 5))
    waiting = [front_end.submit(rows(1, number + 1, 7)) for number in range(OFTEN - 2)]
    told(front_end, worker, 5)
    assert model.pinned == {(size, 5) for size in (1, 2, 4, 8)}
    for number, ident in enumerate(waiting):
        check_doubled(front_end, ident, rows(1, number + 1, 7))
    ask(front_end, rows(3, 9, 5))
    assert runs(worker)[-1] == "compute 4"
    ask(front_end, rows(3, 9, 7))
    assert runs(worker)[-1] == "compute 3"
    check_threads(model)
    statistics = worker.statistics()
    assert {each.name: each.value for each in statistics.gauges}["lanes"] == lanes


def pin(model: Model, front_end: FrontEndSide) -> None:
    """Let a bucket come so often that it is pinned, which is held up on the first lane."""
    model.warming.close()
    for number in range(OFTEN):
        ask(front_end, rows(1, number + 1))
    model.warming.wait_for_a_run()


def test_with_the_only_lane_lent_requests_wait_and_none_is_lost(start):
    model = Model()
    worker = start(model)
    front_end = worker.connect()
    pin(model, front_end)
    idents = [front_end.submit(rows(1, number + 1)) for number in range(6)]
    idents.append(front_end.submit(rows(2, 7, 9)))
    worker.until(lambda gauges: gauges["queued_requests"] == 7)
    gauges = worker.gauges()
    assert (gauges["lanes"], gauges["lanes_busy"]) == (1, 0)
    model.warming.open()
    for number, ident in enumerate(idents[:6]):
        check_doubled(front_end, ident, rows(1, number + 1))
    check_doubled(front_end, idents[6], rows(2, 7, 9))
    told(front_end, worker, 4)


def test_the_other_lanes_serve_while_one_is_lent(start):
    model = Model()
    worker = start(model, lanes=2)
    front_end = worker.connect()
    pin(model, front_end)
    for number in range(6):
        done = ask(front_end, rows(2, number + 1))
        assert done.timing.lane == 1
    model.warming.open()
    told(front_end, worker, 4)


def test_a_deadline_passes_while_the_only_lane_is_lent(start):
    model = Model()
    worker = start(model)
    front_end = worker.connect()
    pin(model, front_end)
    ident = front_end.submit(rows(1), deadline_ns=now_ns() + 20 * NS_PER_MS)
    assert front_end.failure(ident).word == "deadline"
    model.warming.open()
    told(front_end, worker, 4)


def test_stop_waits_for_requests_that_wait_for_a_lent_lane(start):
    model = Model()
    worker = start(model)
    front_end = worker.connect()
    pin(model, front_end)
    ident = front_end.submit(rows(1, 3))
    worker.until(lambda gauges: gauges["queued_requests"] == 1)
    worker.supervisor.say(m.Stop(5.0))
    assert worker.gauges()["lanes_busy"] == 0  # it still answers
    model.warming.open()
    assert worker.join() == 0
    check_doubled(front_end, ident, rows(1, 3))


@pytest.mark.parametrize("error", [DeviceError("no memory"), ExecutionFailed("no")])
def test_a_bucket_that_can_not_be_pinned_runs_on_as_it_is(start, caplog, error):
    model = Model()
    worker = start(model)
    front_end = worker.connect()
    used = worker.device.allocated_bytes
    model.failures[len(model.engine.contexts) + 3] = error
    for number in range(3 * OFTEN):
        ask(front_end, rows(3, number + 1))
    # All that was asked for is done when the next bucket is.
    model.failures.clear()
    for number in range(OFTEN):
        ask(front_end, rows(1, number + 1, 100))
    told(front_end, worker, 100)
    assert caplog.text.count("gets no contexts of its own") == 1
    assert model.pinned == {(size, 100) for size in (1, 2, 4, 8)}
    ask(front_end, rows(3, 7))
    assert runs(worker)[-1] == "compute 3"
    assert worker.device.allocated_bytes > used
    check_threads(model)


# --- where it lives ----------------------------------------------------------------------


def test_a_model_s_limit_of_lanes_is_told_and_kept(start):
    group = ModelInstanceGroup(count=1)
    folder = model_folder("m", "m.fake", configuration=ModelConfiguration(
        ModelConfig(max_batch_size=8, instance_group=[group])
    ))
    model = Model(4)
    worker = start(model, lanes=2, folders=(folder,))
    front_end = worker.connect(greet=False)
    update = front_end.expect(m.ModelUpdate, lambda each: each.state == ModelState.READY)
    assert update.lanes == 1
    front_end.greet()
    model.serving.close()
    idents = [front_end.submit(rows(8))]
    model.serving.wait_for_a_run()
    idents.append(front_end.submit(rows(8, 2)))
    worker.until(lambda gauges: gauges["queued_requests"] == 1)
    assert worker.gauges()["lanes_busy"] == 1
    model.serving.open()
    check_doubled(front_end, idents[0], rows(8))
    check_doubled(front_end, idents[1], rows(8, 2))


def test_memory_that_is_short_leaves_that_model_out_and_the_others_serve(start):
    model = Model(4)
    large = FakeEngine(fake_variant(row=(5000,)), script=FakeScript(pins=True))
    device = FakeDevice(FakeClock())
    device.total_bytes = 30_000
    front_end = start(model, {"b.fake": large}, device).connect(greet=False)
    broken = front_end.expect(m.ModelUpdate, lambda each: each.state == ModelState.UNAVAILABLE)
    assert broken.model == "b"
    assert "32768 bytes are needed and 30000 free" in broken.reason
    front_end.greet()
    ask(front_end, rows(3))
    assert device.allocated_bytes == 2 * 256  # of the model that serves
    assert large.closed
    assert all(context.closed for context in large.contexts)


# --- a dimension 0 that nobody vouched for -----------------------------------------------


def adding_all(arrays: Arrays) -> Arrays:
    """Rows that see one another, as those of a sequence do."""
    return [array + array.sum() for array in arrays]


def test_rows_that_see_one_another_never_see_padding(start):
    model = Model(4)
    model.engine.script.compute = adding_all
    folder = model_folder("m", "m.fake", configuration=ModelConfiguration())
    worker = start(model, folders=(folder,))
    front_end = worker.connect()
    for value in (1.0, 2.0, 3.0):
        array = rows(3, value)
        _, output = front_end.answer(front_end.submit(array))
        np.testing.assert_array_equal(output, array + array.sum())
    # Two at once: the trial finds out, and they are answered as if each were alone.
    first, second = front_end.submit(rows(3)), front_end.submit(rows(5))
    for ident, count in ((first, 3), (second, 5)):
        _, output = front_end.answer(ident)
        np.testing.assert_array_equal(output, rows(count) + count * 4)
