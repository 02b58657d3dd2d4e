"""A lane's places: who holds them, and that they stay where they are while anybody does."""

import pytest

from trtserve.errors import DeviceError
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice
from trtserve.worker.buffers import LaneBuffers


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice(FakeClock())


@pytest.fixture
def buffers(device: FakeDevice) -> LaneBuffers:
    return LaneBuffers(device)


@pytest.mark.parametrize(("size", "taken"), [
    (0, 256), (1, 256), (256, 256), (257, 512), (512, 512), (513, 1024), (1 << 20, 1 << 20),
])
def test_sizes_are_rounded_up_to_classes(device, buffers, size, taken):
    buffers.reserve("input", 0, size)
    assert buffers.size == device.allocated_bytes == taken


def test_a_class_is_one_place_for_all_its_sizes(buffers):
    buffers.reserve("input", 0, 300)
    address = buffers.take("input", 0, 300)
    buffers.reserve("input", 0, 512)
    assert buffers.take("input", 0, 257) == buffers.take("input", 0, 512) == address
    assert buffers.size == 512


def test_kinds_tensors_and_classes_have_places_of_their_own(buffers):
    places = [("input", 0, 300), ("input", 1, 300), ("output", 0, 300), ("input", 0, 600)]
    for place in places:
        buffers.reserve(*place)
    assert len({buffers.take(*place) for place in places}) == len(places)


def test_the_last_holder_s_release_frees_the_place(device, buffers):
    for _ in range(3):
        buffers.reserve("output", 0, 300)
    address = buffers.take("output", 0, 300)
    for _ in range(2):
        buffers.release("output", 0, 400)  # of the same class
        assert buffers.take("output", 0, 300) == address
    buffers.release("output", 0, 300)
    assert buffers.size == device.allocated_bytes == 0
    buffers.release("output", 0, 300)  # nobody's any more


def test_staging_is_host_memory(device, buffers):
    buffers.reserve("staging", 0, 300)
    assert (device.staging_bytes, device.allocated_bytes) == (512, 0)
    buffers.release("staging", 0, 300)
    assert device.staging_bytes == 0


def test_a_place_that_is_held_stays_when_others_come_and_go(buffers):
    buffers.reserve("input", 0, 300)
    address = buffers.take("input", 0, 300)
    buffers.reserve("input", 0, 2000)
    buffers.reserve("input", 0, 300)
    buffers.release("input", 0, 2000)
    buffers.release("input", 0, 300)
    assert buffers.take("input", 0, 300) == address


def test_memory_that_is_short_leaves_what_is_held(device, buffers):
    device.total_bytes = 1000
    buffers.reserve("input", 0, 512)
    with pytest.raises(DeviceError, match="512 bytes are needed and 488 free"):
        buffers.reserve("output", 0, 512)
    assert buffers.size == 512
    buffers.release("output", 0, 512)  # was never held
    assert buffers.size == 512


def test_a_place_that_nobody_reserved_is_made_while_serving_and_said_once(buffers, caplog):
    buffers.reserve("input", 0, 300)
    buffers.take("input", 0, 300)
    assert not caplog.records
    address = buffers.take("input", 0, 900)
    assert buffers.take("input", 0, 1000) == address
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "allocates 1024 bytes while it serves" in record.getMessage()
    assert buffers.size == 512 + 1024


def test_shared_memory_costs_nothing_to_allocate(caplog):
    buffers = LaneBuffers(FakeDevice(FakeClock(), unified=True))
    buffers.take("input", 0, 900)
    assert not caplog.records


def test_a_place_made_while_serving_is_a_holder_s_from_then_on(device, buffers):
    address = buffers.take("input", 0, 900)
    buffers.reserve("input", 0, 900)
    assert buffers.take("input", 0, 900) == address
    buffers.release("input", 0, 900)
    assert device.allocated_bytes == 0


def test_closing_gives_everything_back_held_or_not(device, buffers):
    buffers.reserve("input", 0, 300)
    buffers.reserve("staging", 0, 300)
    buffers.take("output", 0, 300)
    buffers.close()
    buffers.close()
    assert (device.allocated_bytes, device.staging_bytes, buffers.size) == (0, 0, 0)


def test_trimming_frees_what_nobody_holds(device, buffers):
    buffers.reserve("input", 0, 300)
    held = buffers.take("input", 0, 300)
    buffers.take("input", 0, 5_000)
    assert device.allocated_bytes == 512 + 8192
    buffers.trim()
    assert device.allocated_bytes == 512
    assert buffers.take("input", 0, 300) == held
