"""Graphs and growing memory of a CUDA device."""

import ctypes
import threading

import numpy as np
import pytest

from tests.gpu import kernels
from trtserve.device.cuda import CudaDevice
from trtserve.device.interface import Buffer, Graph, GrowingBuffer
from trtserve.errors import DeviceError

MIB = 1 << 20
COUNT = 1000


class Bench:
    """Floats on the host and on the device."""

    def __init__(self, device: CudaDevice) -> None:
        self.device = device
        self.stream = device.create_stream()
        self.host_in, self.host_out = (device.allocate_staging(4 * COUNT) for _ in range(2))
        self.one, self.other = (device.allocate(4 * COUNT) for _ in range(2))
        self.fill(self.host_out, np.zeros(COUNT, np.float32))

    def fill(self, buffer: Buffer, values: np.ndarray) -> None:
        data = values.astype(np.float32).tobytes()
        ctypes.memmove(buffer.address, data, len(data))

    def queue(self) -> None:
        """In, twice as much, out."""
        self.stream.copy([(self.one.address, self.host_in.address, 4 * COUNT)])
        kernels.scale(self.stream.handle, self.other.address, self.one.address, COUNT)
        self.stream.copy([(self.host_out.address, self.other.address, 4 * COUNT)])

    def result(self) -> np.ndarray:
        self.stream.synchronize()
        data = ctypes.string_at(self.host_out.address, 4 * COUNT)
        return np.frombuffer(data, np.float32)

    def captured(self) -> Graph:
        self.queue()  # compiles and loads the kernel, which can not be recorded
        self.stream.synchronize()
        self.stream.begin_capture()
        self.queue()
        return self.stream.end_capture()


@pytest.fixture
def bench(device) -> Bench:
    return Bench(device)


def test_recorded_work_runs_when_it_is_launched(bench):
    graph = bench.captured()
    bench.fill(bench.host_out, np.zeros(COUNT))
    assert not bench.result().any()
    for factor in (1, 3):
        values = factor * np.arange(COUNT)
        bench.fill(bench.host_in, values)
        graph.launch(bench.stream)
        np.testing.assert_array_equal(bench.result(), 2 * values.astype(np.float32))
    graph.close()
    graph.close()


def test_work_after_a_capture_runs_at_once(bench):
    bench.captured().close()
    bench.fill(bench.host_in, np.full(COUNT, 5))
    bench.queue()
    assert (bench.result() == 10).all()


def test_what_can_not_be_recorded_leaves_the_stream_as_it_was(bench):
    bench.captured().close()
    bench.stream.begin_capture()
    with pytest.raises(DeviceError) as waiting:
        bench.stream.synchronize()
    assert not waiting.value.sticky
    with pytest.raises(DeviceError, match="capturing a graph") as caught:
        bench.stream.end_capture()
    assert not caught.value.sticky
    bench.fill(bench.host_in, np.full(COUNT, 5))
    bench.queue()
    assert (bench.result() == 10).all()
    graph = bench.captured()
    bench.fill(bench.host_in, np.full(COUNT, 6))
    graph.launch(bench.stream)
    assert (bench.result() == 12).all()


def test_nothing_was_begun(bench):
    with pytest.raises(DeviceError, match="capturing a graph"):
        bench.stream.end_capture()
    bench.queue()
    bench.stream.synchronize()


def test_other_threads_take_memory_meanwhile(bench, device):
    """What each lane's thread may do while another lane captures."""
    bench.captured().close()
    failed: list[Exception] = []

    def work() -> None:
        try:
            device.enter_thread()
            buffer, growing = device.allocate(MIB), device.allocate_growing()
            growing.grow(MIB)
            stream = device.create_stream()
            stream.copy([(growing.address, buffer.address, MIB)])
            stream.synchronize()
            for thing in (buffer, growing, stream):
                thing.close()
        except Exception as error:
            failed.append(error)

    bench.stream.begin_capture()
    bench.queue()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    graph = bench.stream.end_capture()
    assert not failed
    bench.fill(bench.host_in, np.full(COUNT, 7))
    graph.launch(bench.stream)
    assert (bench.result() == 14).all()


def test_two_lanes_capture_at_the_same_time(device):
    together = threading.Barrier(2)
    found: list[float] = []

    def work(value: int) -> None:
        device.enter_thread()
        bench = Bench(device)
        bench.queue()
        bench.stream.synchronize()
        bench.stream.begin_capture()
        together.wait(10)
        bench.queue()
        together.wait(10)
        graph = bench.stream.end_capture()
        bench.fill(bench.host_in, np.full(COUNT, value))
        graph.launch(bench.stream)
        found.append(float(bench.result()[-1]))

    threads = [threading.Thread(target=work, args=(value,)) for value in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [2.0, 4.0]


def test_a_closed_device_has_closed_its_graphs(cuda_devices):
    device = CudaDevice(0)
    bench = Bench(device)
    bench.captured()
    device.close()
    device.close()


# --- memory that grows -------------------------------------------------------------------


def test_memory_grows_where_it_lies(device):
    buffer: GrowingBuffer = device.allocate_growing()
    address, free = buffer.address, device.memory()[0]
    assert buffer.size == 0
    assert address % 256 == 0
    buffer.grow(3 * MIB)
    assert buffer.size >= 3 * MIB
    staging = device.allocate_staging(3 * MIB)
    pattern = np.random.default_rng(3).integers(0, 256, 3 * MIB, np.uint8).tobytes()
    ctypes.memmove(staging.address, pattern, len(pattern))
    stream = device.create_stream()
    stream.copy([(address, staging.address, 3 * MIB)])
    stream.synchronize()
    buffer.grow(100 * MIB)
    buffer.grow(5)
    assert buffer.address == address
    assert 100 * MIB <= buffer.size < 110 * MIB
    assert device.memory()[0] <= free - 100 * MIB
    ctypes.memset(staging.address, 0, 3 * MIB)
    # To the far end and back: memory is behind all of it, across the pieces.
    far = address + buffer.size - 3 * MIB
    stream.copy([(far, address, 3 * MIB)])
    stream.copy([(staging.address, far, 3 * MIB)])
    stream.synchronize()
    assert ctypes.string_at(staging.address, 3 * MIB) == pattern
    buffer.close()
    buffer.close()
    assert device.memory()[0] > free - 20 * MIB


def test_a_graph_runs_on_in_memory_that_has_grown(device):
    bench = Bench(device)
    scratch = device.allocate_growing()
    scratch.grow(4 * COUNT)

    def queue() -> None:
        kernels.scale(bench.stream.handle, scratch.address, bench.one.address, COUNT)
        kernels.scale(bench.stream.handle, bench.other.address, scratch.address, COUNT)

    queue()
    bench.stream.synchronize()
    bench.stream.begin_capture()
    queue()
    graph = bench.stream.end_capture()
    scratch.grow(64 * MIB)
    bench.fill(bench.host_in, np.arange(COUNT))
    bench.stream.copy([(bench.one.address, bench.host_in.address, 4 * COUNT)])
    graph.launch(bench.stream)
    bench.stream.copy([(bench.host_out.address, bench.other.address, 4 * COUNT)])
    np.testing.assert_array_equal(bench.result(), 4 * np.arange(COUNT, dtype=np.float32))


def test_more_than_there_is(device):
    buffer = device.allocate_growing()
    _, total = device.memory()
    with pytest.raises(DeviceError, match="can not become larger than the device's memory"):
        buffer.grow(2 * total)
    hog = device.allocate(device.memory()[0] - 512 * MIB)
    with pytest.raises(DeviceError, match=r"growing scratch memory by .* are free") as caught:
        buffer.grow(4096 * MIB)
    assert not caught.value.sticky
    hog.close()
    buffer.grow(MIB)
    assert buffer.size >= MIB


def test_what_it_is_called(device):
    assert device.product
    major, minor = map(int, device.compute_capability.split("."))
    assert (major, minor) >= (5, 0)
