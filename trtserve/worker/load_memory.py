"""How much memory loading a version took: what stays, and the most while it went on.

A device that tells its free memory is asked, at the start, at the end and now and then in between,
since libraries allocate as they like. On the CPU the system counts the process's resident memory
and its peak. Either way whatever else goes on meanwhile is in the figures.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trtserve.device.interface import Device
from trtserve.errors import DeviceError
from trtserve.ipc.message import LoadMemory
from trtserve.worker.memory import give_back, used_bytes

LOOK_S = 0.01
"""Between two looks at a device. One takes some microseconds."""

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
"""What the kernel wants to read there to begin a new peak (proc(5))."""


class LoadMeter:
    """Watches the memory while something loads. `watch` makes one."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._before = self._peak = used_bytes(device)

    def look(self) -> None:
        """Note what is in use now, if it is more than ever before."""
        self._peak = max(self._peak, used_bytes(self._device))

    def result(self) -> LoadMemory:
        """What was taken since the start and is still held, and the most meanwhile."""
        give_back(self._device)  # what was freed is not the model's
        now = used_bytes(self._device)
        peak = max(self._peak, now)
        if self._device.memory() is None:
            peak = max(peak, _highest())
        return LoadMemory(
            self._device.name, max(0, now - self._before), max(0, peak - self._before)
        )


@contextmanager
def watch(device: Device) -> Iterator[LoadMeter]:
    """Look at the memory until the end. For a thread that has entered the device."""
    if device.memory() is None:
        try:
            _CLEAR.write_text(_RESET_PEAK)
        except OSError:
            pass  # some sandboxes forbid it: the peak is then the process's highest so far
        yield LoadMeter(device)
        return
    meter = LoadMeter(device)
    over = threading.Event()

    def look() -> None:
        try:
            device.enter_thread()
            while not over.wait(LOOK_S):
                meter.look()
        except DeviceError:
            pass  # whoever loads meets it too, and tells

    thread = threading.Thread(target=look, name="load-memory", daemon=True)
    thread.start()
    try:
        yield meter
    finally:
        over.set()
        thread.join()


def _highest() -> int:
    """The most resident memory that this process had; 0 where the system does not say."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:")), 0)
