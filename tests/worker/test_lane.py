import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest

from trtserve.device.host import HostDevice, HostStream
from trtserve.device.interface import Device
from trtserve.engine.interface import Context
from trtserve.engine.onnxruntime import OnnxRuntime
from trtserve.errors import DeviceError, ExecutionFailed, ModelLoadError, ProtocolError
from trtserve.model.spec import VariantSpec
from trtserve.testing import models
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice
from trtserve.testing.engine import Arrays, FakeEngine, FakeScript
from trtserve.worker.lane import Lane, LaneJob, LaneResult
from trtserve.worker.output import OutputArena
from trtserve.worker.runner import BatchRunner

Array = np.ndarray[Any, Any]
Starter = Callable[..., Lane]


@pytest.fixture
def results() -> SimpleQueue[LaneResult]:
    return SimpleQueue()


@pytest.fixture
def outputs() -> Iterator[OutputArena]:
    arena = OutputArena.create(1 << 20)
    yield arena
    arena.close()


@pytest.fixture
def start(
    outputs: OutputArena, results: SimpleQueue[LaneResult]
) -> Iterator[Starter]:
    lanes: list[Lane] = []

    def start_lane(
        device: Device | None = None, on_done: Callable[[LaneResult], None] | None = None
    ) -> Lane:
        lane = Lane(len(lanes), device or HostDevice(), outputs, on_done or results.put)
        lanes.append(lane)
        lane.start()
        return lane

    yield start_lane
    for lane in lanes:
        lane.close()
        lane.close()


def job(context: Context, variant: VariantSpec, *requests: Array, batch_id: int = 1) -> LaneJob:
    return LaneJob(
        batch_id, context, variant, True, (requests[0].shape[1:],),
        tuple(len(array) for array in requests),
        tuple(((array.ctypes.data, array.nbytes),) for array in requests), frozenset((0,)),
    )


ONES = np.ones((1, 4), np.float32)


def fake_job(engine: FakeEngine, batch_id: int = 1) -> LaneJob:
    context = engine.create_context(0, HostStream())
    return job(context, engine.variants[0], ONES, batch_id=batch_id)


def result_of(results: SimpleQueue[LaneResult]) -> LaneResult:
    return results.get(timeout=30)


def test_batches_run_in_the_lane_s_own_thread(start, results):
    threads: list[str] = []

    def note(arrays: Arrays) -> Arrays:
        threads.append(threading.current_thread().name)
        return arrays

    lane = start()
    for batch_id in range(3):
        lane.submit(fake_job(FakeEngine(script=FakeScript(note)), batch_id))
        result = result_of(results)
        assert (result.batch_id, result.lane, result.error) == (batch_id, 0, None)
    assert threads == ["lane 0"] * 3


def test_the_lane_is_free_when_its_result_comes(start, results):
    def submit_again(result: LaneResult) -> None:
        if result.batch_id < 3:
            lane.submit(fake_job(engine, result.batch_id + 1))
        else:
            results.put(result)

    engine = FakeEngine()
    lane = start(on_done=submit_again)
    lane.submit(fake_job(engine))
    assert result_of(results).batch_id == 3
    assert engine.runs == 3


def test_a_second_batch_is_refused_and_the_first_goes_on(start, results):
    entered, leave = threading.Event(), threading.Event()

    def hold(arrays: Arrays) -> Arrays:
        entered.set()
        assert leave.wait(30)
        return arrays

    lane = start()
    lane.submit(fake_job(FakeEngine(script=FakeScript(hold))))
    assert entered.wait(30)
    assert lane.busy
    with pytest.raises(ProtocolError, match="lane 0 got batch 2 while"):
        lane.submit(fake_job(FakeEngine(), 2))
    leave.set()
    assert result_of(results).error is None
    assert results.empty()


def test_lanes_run_side_by_side(start, results):
    # Neither passes the barrier without the other.
    barrier = threading.Barrier(2)

    def meet(arrays: Arrays) -> Arrays:
        barrier.wait(30)
        return arrays

    for lane in (start(), start()):
        lane.submit(fake_job(FakeEngine(script=FakeScript(meet))))
    assert {result_of(results).lane, result_of(results).lane} == {0, 1}


@pytest.mark.parametrize(
    "error", [ExecutionFailed("scripted"), DeviceError("lost", sticky=True), KeyError("odd")]
)
def test_no_failure_ends_the_thread(start, results, error):
    lane = start()
    lane.submit(fake_job(FakeEngine(script=FakeScript(failures={1: error}))))
    found = result_of(results).error
    assert found is error or (isinstance(found, ExecutionFailed) and "KeyError" in str(found))
    lane.submit(fake_job(FakeEngine(), 2))
    assert result_of(results).error is None


def test_a_receiver_that_raises_is_logged(start, results, caplog):
    def receive(result: LaneResult) -> None:
        results.put(result)
        if result.batch_id == 1:
            raise RuntimeError("scripted")

    lane = start(on_done=receive)
    engine = FakeEngine()
    lane.submit(fake_job(engine))
    result_of(results)
    lane.submit(fake_job(engine, 2))
    assert result_of(results).batch_id == 2
    lane.close()
    assert "could not hand over" in caplog.text


def test_close_finishes_what_runs_and_gives_everything_back(start, results):
    device = FakeDevice(FakeClock())
    lane = start(device)
    lane.runner.buffers.reserve("input", 0, 1024)
    lane.runner.buffers.reserve("output", 0, 1024)
    lane.submit(fake_job(FakeEngine()))
    lane.close()
    assert result_of(results).error is None
    assert all(stream.closed for stream in device.streams)
    assert lane.runner.buffers.size == 0
    assert "lane 0" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(ProtocolError, match="not open"):
        lane.submit(fake_job(FakeEngine()))


def test_a_lane_that_was_never_started(outputs, results):
    lane = Lane(0, HostDevice(), outputs, results.put)
    with pytest.raises(ProtocolError, match="not open"):
        lane.submit(fake_job(FakeEngine()))
    with pytest.raises(ProtocolError, match="not open"):
        lane.perform(lambda _: None)
    lane.close()


# --- its thread --------------------------------------------------------------------------


def test_streams_live_in_the_lane_s_thread(start, results):
    device = FakeDevice(FakeClock())
    lane = start(device)
    lane.submit(fake_job(FakeEngine()))
    result_of(results)
    lane.close()
    assert all(stream.closed for stream in device.streams)
    assert [stream.threads for stream in device.streams] == [{"lane 0"}] * 3
    assert len(device.threads) == 1  # that one has said that it uses the device


@pytest.mark.parametrize("call", ["create_stream", "create_event"])
def test_streams_that_can_not_be_made(start, call):
    device = FakeDevice(FakeClock())
    device.fail(call, 2, DeviceError("scripted"))
    with pytest.raises(DeviceError, match="scripted"):
        start(device)
    assert device.streams
    assert all(stream.closed for stream in device.streams)
    assert "lane 0" not in {thread.name for thread in threading.enumerate()}


def test_other_work_is_done_in_the_lane_s_thread(start):
    lane = start()
    seen: list[BatchRunner] = []

    def work(runner: BatchRunner) -> str:
        seen.append(runner)
        return threading.current_thread().name

    assert lane.perform(work) == "lane 0"
    assert seen == [lane.runner]


@pytest.mark.parametrize("error", [ExecutionFailed("scripted"), KeyError("odd")])
def test_what_other_work_raises_comes_back_and_the_lane_goes_on(start, results, error):
    lane = start()

    def work(runner: BatchRunner) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        lane.perform(work)
    assert caught.value is error
    lane.submit(fake_job(FakeEngine()))
    assert result_of(results).error is None


def test_what_failed_work_made_is_gone_at_once(start):
    """Else a session that proved useless would hold its memory for as long as it pleases the
    garbage collector."""

    class Session:
        pass

    made: list[weakref.ref[Session]] = []

    def work(runner):
        session = Session()
        made.append(weakref.ref(session))
        raise ModelLoadError("it is no good")

    lane = start(FakeDevice(FakeClock()))
    gc.disable()
    try:
        with suppress(ModelLoadError):
            lane.perform(work)
        assert made[0]() is None
    finally:
        gc.enable()


def test_other_work_waits_for_the_batch_that_runs(start, results):
    entered, leave = threading.Event(), threading.Event()
    order: list[str] = []

    def hold(arrays: Arrays) -> Arrays:
        entered.set()
        assert leave.wait(30)
        order.append("batch")
        return arrays

    lane = start()
    lane.submit(fake_job(FakeEngine(script=FakeScript(hold))))
    assert entered.wait(30)
    other = threading.Thread(target=lane.perform, args=(lambda _: order.append("work"),))
    other.start()
    leave.set()
    other.join(30)
    assert order == ["batch", "work"]
    assert result_of(results).error is None


# --- a real engine -----------------------------------------------------------------------


@pytest.mark.parametrize("make", [models.make_add, models.make_cast])
def test_a_real_engine_on_the_host(start, results, outputs, tmp_path, make):
    path = str(tmp_path / "model.onnx")
    if make is models.make_add:
        models.make_add(path, 1, ("N", 4))
    else:
        models.make_cast(path, "FP32", "FP32", ("N", 4))
    device = HostDevice()
    engine = OnnxRuntime().load(path, device, {})
    lane = start(device)
    context = engine.create_context(0, lane.runner.compute_stream)
    requests = [ONES * index for index in range(5)]
    lane.submit(job(context, engine.variants[0], *requests))
    result = result_of(results)
    assert result.error is None
    assert result.finished_ns > 0
    (block,) = result.outputs
    assert block.sizes == (16,) * 5
    found = np.frombuffer(outputs.view, np.float32, 20, block.offset).reshape(5, 4)
    np.testing.assert_array_equal(found, np.vstack(requests) + (make is models.make_add))
    del found
