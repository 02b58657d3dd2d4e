import ctypes
import os
import random
import subprocess
import sys
import threading

import numpy as np
import pytest

from tests.gpu import kernels
from trtserve.device.cuda import CudaDevice
from trtserve.device.interface import Buffer, Copy, Device
from trtserve.errors import DeviceError
from trtserve.ipc.arena import Arena
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice

MIB = 1 << 20
NS_PER_MS = 1_000_000


def fill(buffer: Buffer, seed: int) -> bytes:
    data = random.Random(seed).randbytes(buffer.size)
    ctypes.memmove(buffer.address, data, len(data))
    return data


def content(buffer: Buffer) -> bytes:
    return ctypes.string_at(buffer.address, buffer.size)


def slices(target: int, source: int, sizes: list[int]) -> list[Copy]:
    """Copies of pieces of these sizes, back to back."""
    copies, start = [], 0
    for size in sizes:
        copies.append((target + start, source + start, size))
        start += size
    return copies


def test_what_it_is(device):
    as_interface: Device = device
    assert (as_interface.name, as_interface.unified) == ("cuda:0", False)
    assert as_interface.default_lanes == 3
    assert CudaDevice(0, lanes=5).default_lanes == 5
    assert as_interface.gather_bytes == CudaDevice.GATHER_BYTES > 0
    assert device.create_stream().handle != device.create_stream().handle != 0
    assert int(os.environ["CUDA_DEVICE_MAX_CONNECTIONS"]) > 8


def test_a_device_that_is_not_there(cuda_devices):
    with pytest.raises(DeviceError, match=rf"cuda:{cuda_devices}: .* CUDA_VISIBLE_DEVICES"):
        CudaDevice(cuda_devices)


@pytest.mark.parametrize("size", [1, 255, 4097, 3 * MIB + 1])
def test_one_copy_there_and_back(device, size):
    source, back = device.allocate_staging(size), device.allocate_staging(size)
    middle = device.allocate(size)
    assert not any(buffer.address % 256 for buffer in (source, middle, back))
    data = fill(source, size)
    stream = device.create_stream()
    stream.copy([(middle.address, source.address, size)])
    stream.copy([(back.address, middle.address, size)])
    stream.synchronize()
    assert content(back) == data


@pytest.mark.parametrize("batches", [True, False])
@pytest.mark.parametrize(
    "sizes", [[1, 1], [1, 3, 4096, 65537, 7], [0, 5, 0, 300, 0], [0, 0], [150_528] * 32, [64] * 500]
)
def test_many_copies_there_and_back(device, sizes, batches):
    device.can_batch = device.can_batch and batches
    size = sum(sizes)
    source, back = device.allocate_staging(size), device.allocate_staging(size)
    middle = device.allocate(size)
    data = fill(source, size)
    stream = device.create_stream()
    stream.copy(slices(middle.address, source.address, sizes))
    stream.copy(slices(back.address, middle.address, sizes))
    stream.synchronize()
    assert content(back) == data


def test_this_driver_takes_batches(device):
    assert device.can_batch


def test_no_copies_at_all(device):
    stream = device.create_stream()
    stream.copy([])
    stream.synchronize()


def test_a_shared_arena_is_copied_from_its_blocks(device):
    arena = Arena.create(4 * MIB, "test")
    staged = np.ctypeslib.as_array((ctypes.c_ubyte * arena.size).from_address(arena.address))
    staged[:] = np.random.default_rng(7).integers(0, 256, arena.size, np.uint8)
    device.attach(arena.address, arena.size)
    blocks = [(65536 * index, 1000 + index) for index in range(1, 33)]
    size = sum(length for _, length in blocks)
    middle, back = device.allocate(size), device.allocate_staging(size)
    into, start = [], 0
    for offset, length in blocks:
        into.append((middle.address + start, arena.address + offset, length))
        start += length
    stream = device.create_stream()
    stream.copy(into)
    stream.copy([(back.address, middle.address, size)])
    stream.synchronize()
    assert content(back) == b"".join(staged[at : at + n].tobytes() for at, n in blocks)
    device.detach(arena.address)
    del staged
    arena.close()


def test_a_region_is_attached_once_at_a_time(device):
    arena = Arena.create(MIB, "test")
    for _ in range(2):
        device.attach(arena.address, arena.size)
        with pytest.raises(DeviceError, match="attached already") as caught:
            device.attach(arena.address, arena.size)
        assert not caught.value.sticky
        device.detach(arena.address)
        with pytest.raises(DeviceError, match="no region"):
            device.detach(arena.address)
    arena.close()


def test_events_order_streams_and_measure_them(device):
    size = 4 * MIB
    source, back = device.allocate_staging(size), device.allocate_staging(size)
    middle = device.allocate(size)
    data = fill(source, 1)
    one, other = device.create_stream(-1), device.create_stream(0)
    kernels.spin(one.handle, 0)  # compiles and loads before anything is timed
    one.synchronize()
    started, written, ended = (device.create_event() for _ in range(3))
    one.record(started)
    kernels.spin(one.handle, 50)
    one.copy([(middle.address, source.address, size)])
    one.record(written)
    other.wait(written)
    other.copy([(back.address, middle.address, size)])
    other.record(ended)
    ended.synchronize()
    assert content(back) == data
    assert written.elapsed_ns(started) >= 50 * NS_PER_MS
    assert ended.elapsed_ns(written) > 0
    assert ended.elapsed_ns(started) == pytest.approx(
        ended.elapsed_ns(written) + written.elapsed_ns(started), abs=NS_PER_MS
    )


def test_streams_run_side_by_side(device):
    streams = [device.create_stream() for _ in range(9)]
    kernels.spin(streams[0].handle, 0)
    streams[0].synchronize()
    started, ends = device.create_event(), [device.create_event() for _ in streams]
    streams[0].record(started)
    for stream, end in zip(streams, ends, strict=True):
        kernels.spin(stream.handle, 100)
        stream.record(end)
    for end in ends:
        end.synchronize()
    # With fewer queues than streams the last would wait for the first: 200 ms.
    assert max(end.elapsed_ns(started) for end in ends) < 180 * NS_PER_MS


def test_kernels_see_what_copies_bring(device):
    count = 1000
    buffers = [device.allocate_staging(4 * count), device.allocate_staging(4 * count)]
    there = [device.allocate(4 * count), device.allocate(4 * count)]
    source, back = (
        np.ctypeslib.as_array((ctypes.c_float * count).from_address(buffer.address))
        for buffer in buffers
    )
    source[:] = np.arange(count)
    stream = device.create_stream()
    stream.copy([(there[0].address, buffers[0].address, 4 * count)])
    kernels.scale(stream.handle, there[1].address, there[0].address, count)
    stream.copy([(buffers[1].address, there[1].address, 4 * count)])
    stream.synchronize()
    assert (back == 2 * source).all()


def test_no_time_without_a_record(device):
    recorded = device.create_event()
    device.create_stream().record(recorded)
    recorded.synchronize()
    with pytest.raises(DeviceError, match="should be reached") as caught:
        recorded.elapsed_ns(device.create_event())
    assert not caught.value.sticky


def test_a_foreign_event_is_refused(device):
    foreign, stream = FakeDevice(FakeClock()).create_event(), device.create_stream()
    for call in (stream.record, stream.wait, device.create_event().elapsed_ns):
        with pytest.raises(DeviceError, match="CUDA events only"):
            call(foreign)


@pytest.mark.parametrize("priority", [-1000, -1, 0, 1000])
def test_any_priority_will_do(device, priority):
    stream = device.create_stream(priority)
    stream.synchronize()


def test_other_threads_enter_the_device(device):
    middle, back = device.allocate(64), device.allocate_staging(64)
    data = fill(back, 3)
    failures = []

    def work() -> None:
        try:
            device.enter_thread()
            stream, done = device.create_stream(), device.create_event()
            stream.copy([(middle.address, back.address, 64)])
            stream.copy([(back.address, middle.address, 64)])
            stream.record(done)
            done.synchronize()
            stream.close()
        except DeviceError as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failures
    assert content(back) == data


def test_too_much_memory_is_an_error_that_passes(device):
    _, total = device.memory()
    with pytest.raises(DeviceError) as caught:
        device.allocate(total + 1)
    error = caught.value
    assert (error.name, error.sticky) == ("cudaErrorMemoryAllocation", False)
    assert str(total + 1) in str(error)
    assert f"of {total} are free" in str(error)
    buffer, back = device.allocate(MIB), device.allocate_staging(MIB)
    data = fill(back, 2)
    stream = device.create_stream()
    stream.copy([(buffer.address, back.address, MIB)])
    stream.copy([(back.address, buffer.address, MIB)])
    stream.synchronize()
    assert content(back) == data


def test_closed_memory_is_free_again(device):
    size = 512 * MIB
    device.allocate(size).close()  # what CUDA keeps for itself it has taken now
    before, _ = device.memory()
    buffer = device.allocate(size)
    during, _ = device.memory()
    assert before - during >= size
    buffer.close()
    buffer.close()
    assert device.memory()[0] == before


def test_a_closed_device_holds_nothing():
    watcher, device = CudaDevice(0), CudaDevice(0)
    device.allocate(1)
    before, _ = watcher.memory()
    arena = Arena.create(MIB, "test")
    device.attach(arena.address, arena.size)
    stream = device.create_stream()
    buffers = [device.allocate(256 * MIB), device.allocate_staging(MIB)]
    stream.copy([(buffers[0].address, buffers[1].address, MIB)])
    for _ in range(2):
        device.close()
    # Some MiB of CUDA's own, for the stream say, may stay.
    assert before - watcher.memory()[0] < 32 * MIB
    watcher.attach(arena.address, arena.size)  # refused if it were pinned still
    for buffer in buffers:
        buffer.close()
    stream.close()
    watcher.close()
    arena.close()


STICKY = """
from tests.gpu import kernels
from trtserve.device.cuda import CudaDevice
from trtserve.errors import DeviceError

device = CudaDevice(0)
stream, event = device.create_stream(), device.create_event()
there, here = device.allocate(512).address, device.allocate_staging(512).address
kernels.illegal_access(stream.handle)
calls = {
    "synchronize": stream.synchronize,
    "record": lambda: stream.record(event),
    "event": event.synchronize,
    "copy": lambda: stream.copy([(there, here, 256)]),
    "batch": lambda: stream.copy([(there, here, 1), (there + 256, here, 1)]),
    "memory": device.memory,
    "allocate": lambda: device.allocate(1),
    "create_stream": device.create_stream,
}
for name, call in calls.items():
    try:
        call()
    except DeviceError as error:
        print(name, error.name, error.sticky, flush=True)
    else:
        print(name, "went well", flush=True)
"""


def test_an_illegal_access_is_sticky():
    child = subprocess.run(
        [sys.executable, "-c", STICKY], capture_output=True, text=True, check=False, timeout=120,
        cwd=os.path.dirname(os.path.dirname(os.path.dirname(__file__))),
    )
    said = child.stdout.splitlines()
    assert said[:1] == ["synchronize cudaErrorIllegalAddress True"], child.stderr
    # From then on no call works, whatever it is: an event that waits for nothing may.
    later = {line for line in said[1:] if not line.startswith("event ")}
    assert later == {
        f"{name} cudaErrorIllegalAddress True"
        for name in ("record", "copy", "batch", "memory", "allocate", "create_stream")
    }
