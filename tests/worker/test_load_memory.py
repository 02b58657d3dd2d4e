"""What loading takes: on a device that counts, and on the CPU."""

import mmap

from trtserve.device.host import HostDevice
from trtserve.ipc.message import LoadMemory
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice
from trtserve.worker.load_memory import watch
from trtserve.worker.memory import give_back

MIB = 1 << 20


def test_a_device_is_asked_before_after_and_in_between():
    device = FakeDevice(FakeClock())
    device.total_bytes = 1000
    kept_before = device.allocate(100)
    with watch(device) as meter:
        kept = device.allocate(200)
        extra = device.allocate(300)
        meter.look()
        extra.close()
        assert meter.result() == LoadMemory("fake", 200, 500)
        kept.close()
        kept_before.close()
        assert meter.result() == LoadMemory("fake", 0, 500)  # others have given memory back


def test_on_the_cpu_the_process_is_asked():
    give_back(HostDevice())  # what earlier tests have freed would else be given back meanwhile
    with watch(HostDevice()) as meter:
        kept = mmap.mmap(-1, 48 * MIB)
        kept.write(b"1" * len(kept))
        with mmap.mmap(-1, 96 * MIB) as extra:
            for page in range(0, len(extra), mmap.PAGESIZE):
                extra[page] = 1
        found = meter.result()
    kept.close()
    assert found.device == "cpu"
    assert 40 * MIB <= found.resident_bytes < 120 * MIB
    assert found.peak_bytes >= 140 * MIB


def test_the_peak_of_an_earlier_load_does_not_count():
    with mmap.mmap(-1, 128 * MIB) as large:
        for page in range(0, len(large), mmap.PAGESIZE):
            large[page] = 1
    with watch(HostDevice()) as meter:
        assert meter.result().peak_bytes < 64 * MIB
