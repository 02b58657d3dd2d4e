import ctypes

import pytest

from trtserve.device.host import HELD_COPY_BYTES, HostDevice, choose_lanes
from trtserve.device.interface import Device
from trtserve.errors import DeviceError
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice


@pytest.fixture
def device() -> Device:
    return HostDevice()


def test_what_it_is(device):
    assert (device.name, device.unified) == ("cpu", True)
    assert device.default_lanes >= 1
    assert device.create_stream().handle == 0


def test_the_operator_chooses_lanes():
    assert HostDevice(lanes=5).default_lanes == 5


@pytest.mark.parametrize(
    ("cores", "lanes"), [(1, 1), (2, 2), (4, 2), (8, 2), (12, 3), (16, 4), (32, 8), (128, 8)]
)
def test_lanes_for_cores(cores, lanes):
    assert choose_lanes(cores) == lanes


@pytest.mark.parametrize("size", [0, 1, 255, 4096, 100_000])
def test_buffers_are_aligned_zeroed_and_writable(device, size):
    for buffer in (device.allocate(size), device.allocate_staging(size)):
        assert buffer.address % 256 == 0
        assert buffer.size == size
        assert ctypes.string_at(buffer.address, size) == bytes(size)
        ctypes.memset(buffer.address, 7, size)
        assert ctypes.string_at(buffer.address, size) == b"\7" * size
        buffer.close()
        buffer.close()


@pytest.mark.parametrize("size", [0, 1, HELD_COPY_BYTES, HELD_COPY_BYTES + 1])
def test_a_copy_is_done_when_the_call_returns(device, size):
    source = ctypes.create_string_buffer(bytes(range(256)) * (size // 256 + 1))
    target = ctypes.create_string_buffer(b"\xff" * (2 * size + 1))
    stream = device.create_stream()
    start = ctypes.addressof(target)
    stream.copy([
        (start, ctypes.addressof(source), size),
        (start + size, ctypes.addressof(source), size),
    ])
    assert target.raw[: 2 * size] == source.raw[:size] * 2
    assert target.raw[2 * size] == 0xFF


def test_events_measure_time_on_any_stream(device):
    one, other = device.create_stream(), device.create_stream()
    first, second = device.create_event(), device.create_event()
    one.record(first)
    other.wait(first)
    other.record(second)
    second.synchronize()
    assert second.elapsed_ns(first) >= 0
    assert second.elapsed_ns(first) == -first.elapsed_ns(second)


def test_no_time_without_a_record(device):
    stream, recorded = device.create_stream(), device.create_event()
    stream.record(recorded)
    for event, since in [
        (device.create_event(), recorded),
        (recorded, device.create_event()),
        (recorded, FakeDevice(FakeClock()).create_event()),
    ]:
        with pytest.raises(DeviceError, match="record both"):
            event.elapsed_ns(since)


def test_a_foreign_event_is_refused(device):
    with pytest.raises(DeviceError, match="host events"):
        device.create_stream().record(FakeDevice(FakeClock()).create_event())


def test_closing_twice_is_harmless(device):
    stream = device.create_stream()
    stream.synchronize()
    device.attach(4096, 10)
    device.detach(4096)
    for thing in (stream, stream, device, device):
        thing.close()
