"""How much memory is in use: the device's where it tells, else the process's."""

import numpy as np

from trtserve.device.host import HostDevice
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice
from trtserve.worker.memory import give_back, resident_bytes, used_bytes

MIB = 1 << 20


def test_the_device_tells():
    device = FakeDevice(FakeClock())
    device.total_bytes = 1000
    taken = device.allocate(300)
    assert used_bytes(device) == 300
    taken.close()
    assert used_bytes(device) == 0


def test_else_it_is_what_the_process_has():
    before = resident_bytes()
    data = np.ones(64 * MIB, np.uint8)
    assert used_bytes(HostDevice(1)) - before > 60 * MIB
    del data


def test_what_was_freed_goes_back_to_the_system():
    device = HostDevice(1)
    give_back(device)
    # Small pieces with one on top that stays: by itself the C library keeps what lies below.
    pieces = [bytes(60_000) for _ in range(2_000)]
    top = bytes(60_000)
    full = resident_bytes()
    del pieces
    give_back(device)
    assert full - resident_bytes() > 60 * MIB
    assert len(top) == 60_000
