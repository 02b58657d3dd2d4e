"""A device with scripted times and faults, on plain memory.

Data move at once, so results are real; time is only reckoned: every stream has its own present,
which work advances, and streams meet at events as they do on CUDA. The log says what ran on
which stream, from when to when, so that a test can check order and overlap.
"""

import ctypes
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from trtserve.device.host import HostBuffer
from trtserve.device.interface import Copy, Event
from trtserve.errors import DeviceError
from trtserve.testing.clock import FakeClock


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One piece of work: what, on which stream (numbered from 1), and when, in nanoseconds."""

    work: str
    stream: int
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class FakeTimes:
    """How long copies take: for each call, and for each KiB."""

    copy_ns: int = 1_000
    copy_kib_ns: int = 20


class FakeEvent:
    """A point on a fake stream."""

    def __init__(self, device: "FakeDevice") -> None:
        self._device = device
        self.at_ns: int | None = None

    def synchronize(self) -> None:
        """Let the clock reach the point."""
        self._device.count("synchronize")
        if self.at_ns is None:
            raise DeviceError("the event was never recorded")
        self._device.clock.advance_to(self.at_ns)

    def elapsed_ns(self, since: Event) -> int:
        """Nanoseconds from another event to this one."""
        if not isinstance(since, FakeEvent) or since.at_ns is None or self.at_ns is None:
            raise DeviceError("no time between these events: record both first")
        return self.at_ns - since.at_ns


class FakeStream:
    """A queue of work with a present of its own, `ready_ns`."""

    def __init__(self, device: "FakeDevice", handle: int) -> None:
        self.handle = handle
        self.ready_ns = 0
        self.closed = False
        self._device = device

    def record(self, event: Event) -> None:
        """Mark the end of the work so far."""
        self._device.count("record")
        assert isinstance(event, FakeEvent)
        event.at_ns = max(self.ready_ns, self._device.clock.now_ns())

    def wait(self, event: Event) -> None:
        """Start later work after the event."""
        self._device.count("wait")
        assert isinstance(event, FakeEvent)
        if event.at_ns is not None:
            self.ready_ns = max(self.ready_ns, event.at_ns)

    def copy(self, copies: Sequence[Copy]) -> None:
        """Move the bytes; reckon the time."""
        self._device.count("copy")
        times = self._device.times
        size = sum(copy[2] for copy in copies)
        for target, source, length in copies:
            ctypes.memmove(target, source, length)
        self.run(f"copy {size}", times.copy_ns + times.copy_kib_ns * size // 1024)

    def run(self, work: str, duration_ns: int) -> None:
        """Queue any other work; engines use it too."""
        start = max(self.ready_ns, self._device.clock.now_ns())
        self.ready_ns = start + duration_ns
        self._device.log.append(LogEntry(work, self.handle, start, self.ready_ns))

    def synchronize(self) -> None:
        """Let the clock reach the end of all work."""
        self._device.count("synchronize")
        self._device.clock.advance_to(self.ready_ns)

    def close(self) -> None:
        """Give it back. Twice is harmless."""
        self.closed = True


class FakeDevice:
    """A device for tests. `unified` False: as on CUDA, batches are copied in and out."""

    name = "fake"
    default_lanes = 2

    def __init__(
        self, clock: FakeClock, *, unified: bool = False, times: FakeTimes | None = None
    ) -> None:
        self.clock = clock
        self.unified = unified
        self.times = times or FakeTimes()
        self.log: list[LogEntry] = []
        self.attached: dict[int, int] = {}
        self.allocated_bytes = 0
        self.streams: list[FakeStream] = []
        self._calls: Counter[str] = Counter()
        self._faults: dict[tuple[str, int], DeviceError] = {}

    def fail(self, call: str, nth: int, error: DeviceError) -> None:
        """Let the nth call from now (1: the next) of this kind raise: `copy`, `record`, `wait`,
        `synchronize`, `allocate`, `create_stream`, `create_event` or `attach`."""
        self._faults[call, self._calls[call] + nth] = error

    def count(self, call: str) -> None:
        """Count a call, and raise what was scripted for it."""
        self._calls[call] += 1
        error = self._faults.pop((call, self._calls[call]), None)
        if error is not None:
            raise error

    def attach(self, address: int, size: int) -> None:
        """Note the region."""
        self.count("attach")
        self.attached[address] = size

    def detach(self, address: int) -> None:
        """Forget the region. Raises DeviceError if it was not attached."""
        if self.attached.pop(address, None) is None:
            raise DeviceError("that region was never attached")

    def allocate(self, size: int) -> HostBuffer:
        """Plain memory in the device's place."""
        self.count("allocate")
        self.allocated_bytes += size
        return HostBuffer(size)

    def allocate_staging(self, size: int) -> HostBuffer:
        """Plain memory."""
        return HostBuffer(size)

    def create_stream(self) -> FakeStream:
        """A stream; the first has handle 1."""
        self.count("create_stream")
        self.streams.append(FakeStream(self, len(self.streams) + 1))
        return self.streams[-1]

    def create_event(self) -> FakeEvent:
        """An event."""
        self.count("create_event")
        return FakeEvent(self)

    def close(self) -> None:
        """Close the streams. Twice is harmless."""
        for stream in self.streams:
            stream.close()
