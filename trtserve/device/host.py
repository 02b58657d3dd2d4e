"""The host as a device: memory is memory, and everything runs at once.

Engines on the CPU read and write the arenas themselves, so most batches need no copy at all.
"""

import ctypes
import mmap
from collections.abc import Sequence

from trtserve.clock import now_ns
from trtserve.cores import core_count
from trtserve.device.interface import Copy, Event, Graph
from trtserve.errors import DeviceError

HELD_COPY_BYTES = 32 * 1024
"""Copies up to this size keep Python's lock: they take a few microseconds, while a thread that
gives the lock up may wait for a whole switch interval to get it back."""

GROWTH_BYTES = 1 << 36
"""Addresses that are kept free for a buffer to grow: 64 GiB, which no lane of a CPU comes to."""

_MAP_NORESERVE = 0x4000
"""Linux's number for not counting pages before they are touched. Python names it from 3.13 on."""

_ARGUMENTS = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)

# The same C function twice: PyDLL keeps Python's lock during the call, CDLL gives it up.
_copy_held = ctypes.PyDLL(None).memmove
_copy_free = ctypes.CDLL(None).memmove
for _function in (_copy_held, _copy_free):
    _function.argtypes = _ARGUMENTS
    _function.restype = None


def copy_host(target: int, source: int, size: int) -> None:
    """Copy bytes in host memory."""
    if size <= HELD_COPY_BYTES:
        _copy_held(target, source, size)
    else:
        _copy_free(target, source, size)


class HostBuffer:
    """Anonymous pages, which take memory once they are touched. Zeros at first."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._map = mmap.mmap(-1, max(size, 1))
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))

    def close(self) -> None:
        """Give the pages back. Twice is harmless."""
        self._map.close()


class HostGrowingBuffer:
    """Anonymous pages too. All addresses are taken at once, which costs no memory."""

    def __init__(self) -> None:
        self.size = 0
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        self._map = mmap.mmap(-1, GROWTH_BYTES, flags)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))

    def grow(self, size: int) -> None:
        """Have at least so many bytes. Raises DeviceError where the addresses end."""
        if size > GROWTH_BYTES:
            raise DeviceError(f"a buffer can grow to {GROWTH_BYTES:,} bytes, not to {size:,}")
        self.size = max(self.size, size)

    def close(self) -> None:
        """Give the pages back. Twice is harmless."""
        self._map.close()


class HostEvent:
    """A point in time."""

    def __init__(self) -> None:
        self.reached_ns: int | None = None

    def synchronize(self) -> None:
        """Nothing to wait for: what was before the point has run."""

    def elapsed_ns(self, since: Event) -> int:
        """Nanoseconds from another event to this one.

        Raises DeviceError if either was never recorded, or belongs to another device.
        """
        if not isinstance(since, HostEvent) or since.reached_ns is None or self.reached_ns is None:
            raise DeviceError("no time between these events: record both on a host stream first")
        return self.reached_ns - since.reached_ns


class HostStream:
    """Runs work in the calling thread, at once; so there is never anything to wait for."""

    handle = 0

    def record(self, event: Event) -> None:
        """Let the event carry the present time."""
        if not isinstance(event, HostEvent):
            raise DeviceError("a host stream records host events only")
        event.reached_ns = now_ns()

    def wait(self, event: Event) -> None:
        """Nothing: the event has passed."""

    def copy(self, copies: Sequence[Copy]) -> None:
        """Copy now."""
        for target, source, size in copies:
            copy_host(target, source, size)

    def synchronize(self) -> None:
        """Nothing: all work has run."""

    def begin_capture(self) -> None:
        """Raises DeviceError."""
        raise DeviceError("a host stream runs at once: it has no graphs")

    def end_capture(self) -> Graph:
        """Raises DeviceError."""
        raise DeviceError("a host stream has recorded nothing")

    def close(self) -> None:
        """Nothing to give back."""


class HostDevice:
    """The CPU. `lanes`: what the operator asked for; 0 lets the device choose."""

    name = "cpu"
    product = ""
    compute_capability = ""
    unified = True
    gather_bytes = 0

    def __init__(self, lanes: int = 0) -> None:
        self.default_lanes = lanes or choose_lanes(core_count())

    def enter_thread(self) -> None:
        """Nothing: every thread is on the CPU."""

    def memory(self) -> None:
        """The operating system hands out memory: nobody counts it here."""

    def vitals(self) -> None:
        """No driver speaks for the CPU."""

    def attach(self, address: int, size: int) -> None:
        """Nothing: engines reach every address."""

    def detach(self, address: int) -> None:
        """Nothing was attached."""

    def allocate(self, size: int) -> HostBuffer:
        """Plain memory."""
        return HostBuffer(size)

    def allocate_growing(self) -> HostGrowingBuffer:
        """Plain memory that grows."""
        return HostGrowingBuffer()

    def allocate_staging(self, size: int) -> HostBuffer:
        """Plain memory too."""
        return HostBuffer(size)

    def create_stream(self, priority: int = 0) -> HostStream:
        """A stream that runs at once, whatever its priority."""
        return HostStream()

    def create_event(self) -> HostEvent:
        """An event that carries a time."""
        return HostEvent()

    def close(self) -> None:
        """Nothing is held: lanes close their own buffers."""


def choose_lanes(cores: int) -> int:
    """How many lanes keep `cores` busy: one for each four, at least two, at most eight.

    Two lanes fill each other's gaps: copies, Python, and operators that use one core only. On
    two cores, two lanes of one thread each ran small vision models 1.6 to 2.8 times as fast as
    one lane of two threads that do not spin. Many more lanes would cut batches small and leave
    a lone request one core of many (engines spread a run over the cores that lanes leave them).
    """
    return 1 if cores <= 1 else min(8, max(2, cores // 4))
