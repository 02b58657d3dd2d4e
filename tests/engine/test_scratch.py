import ctypes

import pytest

from trtserve.engine.scratch import Scratch
from trtserve.errors import DeviceError
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice(FakeClock())


def test_all_holders_share_what_the_largest_needs(device):
    scratch = Scratch(device)
    assert (scratch.size, device.allocated_bytes) == (0, 0)
    addresses = {scratch.hold(size) for size in (1000, 5000, 300)}
    assert len(addresses) == 1
    assert addresses.pop() % 256 == 0
    assert (scratch.size, scratch.unshared, device.allocated_bytes) == (5000, 6300, 5000)


def test_it_grows_where_it_lies(device):
    scratch = Scratch(device)
    address = scratch.hold(16)
    ctypes.memset(address, 7, 16)
    assert scratch.hold(1 << 20) == address
    ctypes.memset(address + 16, 8, (1 << 20) - 16)
    assert ctypes.string_at(address, 17) == b"\7" * 16 + b"\x08"


def test_the_last_release_frees_it(device):
    scratch = Scratch(device)
    scratch.hold(1000)
    scratch.hold(10)
    scratch.release(1000)
    assert (scratch.size, scratch.unshared) == (1000, 10)
    scratch.release(10)
    assert (scratch.size, scratch.unshared, device.allocated_bytes) == (0, 0, 0)
    scratch.hold(20)
    assert device.allocated_bytes == 20


def test_memory_that_is_short(device):
    device.total_bytes = 100
    scratch = Scratch(device)
    with pytest.raises(DeviceError, match="101 bytes are needed and 100 free"):
        scratch.hold(101)
    assert (scratch.unshared, device.allocated_bytes) == (0, 0)
    scratch.hold(60)
    with pytest.raises(DeviceError, match="needed"):
        scratch.hold(101)
    assert (scratch.size, scratch.unshared) == (60, 60)
    scratch.release(60)
    assert device.allocated_bytes == 0


def test_closing_twice_is_harmless(device):
    scratch = Scratch(device)
    scratch.hold(10)
    scratch.close()
    scratch.close()
    assert device.allocated_bytes == 0
