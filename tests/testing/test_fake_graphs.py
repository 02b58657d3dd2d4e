import ctypes

import numpy as np
import pytest

from trtserve.device.interface import Graph, GrowingBuffer, Stream
from trtserve.errors import DeviceError
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice, FakeTimes


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice(FakeClock(), times=FakeTimes(copy_ns=100, copy_kib_ns=0))


def test_recorded_work_runs_when_the_graph_is_launched(device):
    source, target = np.ones(4, np.float32), np.zeros(4, np.float32)
    stream: Stream = device.create_stream()
    stream.begin_capture()
    stream.copy([(target.ctypes.data, source.ctypes.data, 16)])
    assert not device.log
    graph: Graph = stream.end_capture()
    assert not target.any()
    source[:] = 7  # what counts is what is there then
    graph.launch(stream)
    assert (target == 7).all()
    graph.launch(stream)
    assert [(entry.work, entry.start_ns, entry.end_ns) for entry in device.log] == [
        ("copy 16", 0, 100), ("copy 16", 100, 200)
    ]


def test_afterwards_work_runs_at_once_again(device):
    stream = device.create_stream()
    stream.begin_capture()
    assert stream.capturing
    stream.end_capture()
    assert not stream.capturing
    stream.run("a", 5)
    assert len(device.log) == 1


def test_a_recording_stream_can_not_be_waited_for(device):
    stream = device.create_stream()
    stream.begin_capture()
    with pytest.raises(DeviceError, match="records"):
        stream.synchronize()
    stream.end_capture()
    stream.synchronize()
    with pytest.raises(DeviceError, match="records nothing"):
        stream.end_capture()


@pytest.mark.parametrize("call", ["begin_capture", "end_capture", "launch"])
def test_faults(device, call):
    stream = device.create_stream()
    device.fail(call, 1, DeviceError("unjoined"))

    def go() -> None:
        stream.begin_capture()
        stream.end_capture().launch(stream)

    with pytest.raises(DeviceError, match="unjoined"):
        go()
    assert not stream.capturing
    go()


def test_a_closed_graph_is_not_launched(device):
    stream = device.create_stream()
    stream.begin_capture()
    graph = stream.end_capture()
    graph.close()
    graph.close()
    with pytest.raises(AssertionError, match="closed"):
        graph.launch(stream)


def test_memory_that_grows_is_counted(device):
    device.total_bytes = 5000
    buffer: GrowingBuffer = device.allocate_growing()
    address = buffer.address
    assert (buffer.size, address % 256) == (0, 0)
    for size, after in ((1000, 1000), (500, 1000), (4000, 4000)):
        buffer.grow(size)
        assert (buffer.size, buffer.address, device.allocated_bytes) == (after, address, after)
    ctypes.memset(address, 1, 4000)
    with pytest.raises(DeviceError, match="1001 bytes are needed and 1000 free"):
        buffer.grow(5001)
    buffer.close()
    buffer.close()
    assert device.allocated_bytes == 0
