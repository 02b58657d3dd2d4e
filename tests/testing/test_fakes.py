import threading

import numpy as np
import pytest

from trtserve.device.interface import Device
from trtserve.engine.interface import Engine, Runtime, TensorMemory
from trtserve.errors import DeviceError, ExecutionFailed, ModelLoadError
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice, FakeTimes, LogEntry
from trtserve.testing.engine import (
    FakeEngine,
    FakeRuntime,
    FakeScript,
    doubling,
    fake_variant,
    memory_of,
    read,
)


def test_a_clock_moves_only_when_told_and_never_back():
    clock = FakeClock(5)
    assert clock.now_ns() == 5
    assert clock.advance(3) == 8
    assert clock.advance_to(7) == 8
    assert clock.advance_to(10) == clock.now_ns() == 10
    with pytest.raises(ValueError, match="go back"):
        clock.advance(-1)


def test_streams_overlap_until_they_meet_at_an_event():
    device = FakeDevice(FakeClock())
    one, other, third = (device.create_stream() for _ in range(3))
    event = device.create_event()
    one.run("a", 10)
    other.run("b", 4)
    one.record(event)
    other.wait(event)
    other.run("c", 5)
    third.run("d", 1)
    assert device.log == [
        LogEntry("a", 1, 0, 10), LogEntry("b", 2, 0, 4),
        LogEntry("c", 2, 10, 15), LogEntry("d", 3, 0, 1),
    ]
    assert device.clock.now_ns() == 0
    event.synchronize()
    assert device.clock.now_ns() == 10
    other.synchronize()
    assert device.clock.now_ns() == 15


def test_copies_move_bytes_and_take_their_time():
    device = FakeDevice(FakeClock(), times=FakeTimes(copy_ns=100, copy_kib_ns=10))
    source, target = np.arange(512, dtype=np.int32), np.zeros(512, np.int32)
    stream, before, after = device.create_stream(), device.create_event(), device.create_event()
    stream.record(before)
    stream.copy([(target.ctypes.data, source.ctypes.data, 2048)])
    stream.record(after)
    assert (target == source).all()
    assert after.elapsed_ns(before) == 120
    assert device.copies == [((target.ctypes.data, source.ctypes.data, 2048),)]


def test_the_nth_call_fails_once():
    device = FakeDevice(FakeClock())
    device.fail("copy", 2, DeviceError("lost", sticky=True))
    stream = device.create_stream()
    stream.copy([])
    with pytest.raises(DeviceError, match="lost") as caught:
        stream.copy([])
    assert caught.value.sticky
    stream.copy([])


def test_calls_of_several_threads_are_all_counted():
    device = FakeDevice(FakeClock())
    lost = DeviceError("lost")
    device.fail("copy", 2000, lost)
    raised: list[DeviceError] = []

    def copy() -> None:
        stream = device.create_stream()
        for _ in range(500):
            try:
                stream.copy([])
            except DeviceError as error:
                raised.append(error)

    threads = [threading.Thread(target=copy) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert raised == [lost]


def test_memory_is_counted_until_it_is_closed():
    device = FakeDevice(FakeClock())
    there, here = device.allocate(100), device.allocate_staging(30)
    assert (device.allocated_bytes, device.staging_bytes) == (100, 30)
    assert device.memory() is None
    for buffer in (there, here, there):
        buffer.close()
    assert (device.allocated_bytes, device.staging_bytes) == (0, 0)


def test_memory_runs_out():
    device = FakeDevice(FakeClock())
    device.total_bytes = 100
    kept = device.allocate(60)
    assert device.memory() == (40, 100)
    with pytest.raises(DeviceError, match="50 bytes are needed and 40 free") as caught:
        device.allocate(50)
    assert not caught.value.sticky
    kept.close()
    assert device.allocate(100).size == 100


def test_a_stream_knows_its_threads():
    device = FakeDevice(FakeClock())
    stream = device.create_stream()
    thread = threading.Thread(target=stream.synchronize, name="another")
    thread.start()
    thread.join()
    assert stream.threads == {threading.current_thread().name, "another"}


def test_regions_are_attached_and_detached():
    device: Device = FakeDevice(FakeClock())
    device.attach(4096, 100)
    device.detach(4096)
    with pytest.raises(DeviceError, match="never attached"):
        device.detach(4096)


def test_an_engine_computes_in_place_or_places_its_outputs():
    device = FakeDevice(FakeClock())
    engine: Engine = FakeEngine(script=FakeScript(doubling, service_ns=lambda rows: 7 * rows))
    stream = device.create_stream()
    context = engine.create_context(0, stream)
    x, y = np.ones((3, 4), np.float32), np.zeros((3, 4), np.float32)
    assert context.output_shapes([(3, 4)]) == [(3, 4)]
    assert list(context.enqueue(stream, [memory_of(x)], [memory_of(y)])) == [memory_of(y)]
    assert (y == 2).all()
    (placed,) = context.enqueue(stream, [memory_of(y)], [None])
    assert (read(placed) == 4).all()
    (wrong,) = context.enqueue(stream, [memory_of(x)], [TensorMemory(y.ctypes.data, 16, (1, 4))])
    assert wrong.shape == (3, 4)
    assert wrong.address != y.ctypes.data
    assert device.log[0] == LogEntry("compute 3", 1, 0, 21)
    with pytest.raises(AssertionError, match="still open"):
        engine.close()
    context.close()
    engine.close()


def test_a_scripted_run_fails():
    engine = FakeEngine(script=FakeScript(failures={2: ExecutionFailed("scripted")}))
    stream = FakeDevice(FakeClock()).create_stream()
    context = engine.create_context(0, stream)
    x = np.ones((1, 4), np.float32)
    context.enqueue(stream, [memory_of(x)], [None])
    with pytest.raises(ExecutionFailed, match="scripted"):
        context.enqueue(stream, [memory_of(x)], [None])
    context.enqueue(stream, [memory_of(x)], [None])


def test_a_context_that_can_not_be_made():
    lost = DeviceError("lost", sticky=True)
    engine = FakeEngine(script=FakeScript(context_failures={2: lost}))
    stream = FakeDevice(FakeClock()).create_stream()
    engine.create_context(0, stream)
    with pytest.raises(DeviceError) as caught:
        engine.create_context(0, stream)
    assert caught.value is lost
    assert len(engine.contexts) == 1


def test_a_context_knows_its_shape_its_stream_and_its_threads():
    device = FakeDevice(FakeClock())
    made_for, other = device.create_stream(), device.create_stream()
    context = FakeEngine().create_context(0, made_for, [(2, 4)])
    x = np.ones((2, 4), np.float32)
    context.enqueue(other, [memory_of(x)], [None])
    with pytest.raises(AssertionError, match="was given"):
        context.enqueue(made_for, [memory_of(x[:1])], [None])
    thread = threading.Thread(target=context.close, name="another")
    thread.start()
    thread.join()
    assert context.streams == {made_for.handle, other.handle}
    assert context.threads == {threading.current_thread().name, "another"}


def test_a_captured_context_wants_its_places_until_it_is_released():
    script = FakeScript(doubling, capture=lambda arrays: [-arrays[0]])
    stream = FakeDevice(FakeClock()).create_stream()
    x, y = np.ones((2, 4), np.float32), np.zeros((2, 4), np.float32)
    with pytest.raises(AssertionError, match="made for their shapes"):
        FakeEngine(script=script).create_context(0, stream).capture(
            stream, [memory_of(x)], [memory_of(y)]
        )
    context = FakeEngine(script=script).create_context(0, stream, [(2, 4)])
    context.capture(stream, [memory_of(x)], [memory_of(y)])
    context.enqueue(stream, [memory_of(x)], [memory_of(y)])
    assert (y == -1).all()  # what the script's graph computes
    elsewhere = y.copy()
    with pytest.raises(AssertionError, match="moved"):
        context.enqueue(stream, [memory_of(x)], [memory_of(elsewhere)])
    context.release_graph()
    context.enqueue(stream, [memory_of(x)], [memory_of(elsewhere)])
    assert (elsewhere == 2).all()


def test_a_capture_that_fails():
    script = FakeScript(capture=ExecutionFailed("scripted"))
    stream = FakeDevice(FakeClock()).create_stream()
    context = FakeEngine(script=script).create_context(0, stream, [(2, 4)])
    x = np.ones((2, 4), np.float32)
    with pytest.raises(ExecutionFailed, match="scripted"):
        context.capture(stream, [memory_of(x)], [memory_of(x.copy())])
    context.enqueue(stream, [memory_of(x)], [None])  # wherever it likes


def test_an_unbatched_variant():
    variant = fake_variant(row=(2, 3), max_batch=0)
    assert variant.max_batch == 0
    assert variant.ranges[0].takes((2, 3))
    assert not variant.ranges[0].takes((1, 2, 3))


def test_a_variant_may_leave_sizes_to_the_request():
    (shapes,) = fake_variant(row=(3, -1)).ranges
    assert shapes.takes((8, 3, 5))
    assert shapes.takes((1, 3, 500))
    assert not shapes.takes((1, 4, 5))


def test_a_runtime_hands_out_engines_by_file_name():
    engine = FakeEngine()
    runtime: Runtime = FakeRuntime(
        {"good.fake": engine, "bad.fake": ModelLoadError("scripted", where="bad.fake")}
    )
    device = FakeDevice(FakeClock())
    assert runtime.load("/models/m/1/good.fake", device, {}) is engine
    for name, message in (("bad.fake", "scripted"), ("none.fake", "no such fake engine")):
        with pytest.raises(ModelLoadError, match=message):
            runtime.load(f"/models/m/1/{name}", device, {})
