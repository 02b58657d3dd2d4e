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


def test_the_nth_call_fails_once():
    device = FakeDevice(FakeClock())
    device.fail("copy", 2, DeviceError("lost", sticky=True))
    stream = device.create_stream()
    stream.copy([])
    with pytest.raises(DeviceError, match="lost") as caught:
        stream.copy([])
    assert caught.value.sticky
    stream.copy([])


def test_regions_are_attached_and_detached():
    device: Device = FakeDevice(FakeClock())
    device.attach(4096, 100)
    device.detach(4096)
    with pytest.raises(DeviceError, match="never attached"):
        device.detach(4096)


def test_an_engine_computes_in_place_or_places_its_outputs():
    device = FakeDevice(FakeClock())
    engine: Engine = FakeEngine(script=FakeScript(doubling, service_ns=lambda rows: 7 * rows))
    context = engine.create_context(0)
    x, y = np.ones((3, 4), np.float32), np.zeros((3, 4), np.float32)
    stream = device.create_stream()
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
    context = engine.create_context(0)
    stream = FakeDevice(FakeClock()).create_stream()
    x = np.ones((1, 4), np.float32)
    context.enqueue(stream, [memory_of(x)], [None])
    with pytest.raises(ExecutionFailed, match="scripted"):
        context.enqueue(stream, [memory_of(x)], [None])
    context.enqueue(stream, [memory_of(x)], [None])


def test_an_unbatched_variant():
    variant = fake_variant(row=(2, 3), max_batch=0)
    assert variant.max_batch == 0
    assert variant.ranges[0].takes((2, 3))
    assert not variant.ranges[0].takes((1, 2, 3))


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
