"""A device with scripted times and faults, on plain memory.

Data move at once, so results are real; time is only reckoned: every stream has its own present,
which work advances, and streams meet at events as they do on CUDA. The log says what ran on
which stream, from when to when, so that a test can check order and overlap.
"""

import ctypes
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trtserve.device.host import HostBuffer, HostGrowingBuffer
from trtserve.device.interface import Copy, Event, Stream
from trtserve.device.vitals import Vitals
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


class FakeBuffer(HostBuffer):
    """Memory in a fake device's place, or staging memory. `given` is called with its bytes, and
    with minus as many when it is closed."""

    def __init__(self, size: int, given: Callable[[int], None]) -> None:
        super().__init__(size)
        self._given: Callable[[int], None] | None = given
        given(size)

    def close(self) -> None:
        """Give it back. Twice is harmless."""
        given, self._given = self._given, None
        if given is not None:
            given(-self.size)
        super().close()


class FakeGrowingBuffer(HostGrowingBuffer):
    """Memory that grows. `given` is called with the bytes it grows by, and with minus all of
    them when it is closed."""

    def __init__(self, given: Callable[[int], None]) -> None:
        super().__init__()
        self._given = given

    def grow(self, size: int) -> None:
        """Have at least so many bytes. Raises DeviceError where the device has not so many."""
        more = size - self.size
        if more > 0:
            self._given(more)
        super().grow(size)

    def close(self) -> None:
        """Give it back. Twice is harmless."""
        size, self.size = self.size, 0
        self._given(-size)
        super().close()


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


class FakeGraph:
    """Work that a stream has recorded: what, how long, and what computes it."""

    def __init__(self, device: "FakeDevice") -> None:
        self.work: list[tuple[str, int, Callable[[], None]]] = []
        self.closed = False
        self._device = device

    def launch(self, stream: Stream) -> None:
        """Run all of it. Raises AssertionError once it is closed."""
        assert isinstance(stream, FakeStream)
        assert not self.closed, "a graph was launched after it was closed"
        self._device.count("launch")
        for work, duration_ns, do in self.work:
            stream.run(work, duration_ns, do)

    def close(self) -> None:
        """Twice is harmless."""
        self.closed = True


class FakeStream:
    """A queue of work with a present of its own, `ready_ns`."""

    def __init__(self, device: "FakeDevice", handle: int) -> None:
        self.handle = handle
        self.ready_ns = 0
        self.closed = False
        self.threads = {threading.current_thread().name}
        """The names of all threads that made, used or closed it."""
        self._device = device
        self._graph: FakeGraph | None = None

    def record(self, event: Event) -> None:
        """Mark the end of the work so far."""
        self._count("record")
        assert isinstance(event, FakeEvent)
        event.at_ns = max(self.ready_ns, self._device.clock.now_ns())

    def wait(self, event: Event) -> None:
        """Start later work after the event."""
        self._count("wait")
        assert isinstance(event, FakeEvent)
        if event.at_ns is not None:
            self.ready_ns = max(self.ready_ns, event.at_ns)

    def copy(self, copies: Sequence[Copy]) -> None:
        """Move the bytes; reckon the time."""
        self._count("copy")
        self._device.copies.append(tuple(copies))
        times = self._device.times
        size = sum(copy[2] for copy in copies)
        moved = tuple(copies)

        def move() -> None:
            for target, source, length in moved:
                ctypes.memmove(target, source, length)

        self.run(f"copy {size}", times.copy_ns + times.copy_kib_ns * size // 1024, move)

    def run(self, work: str, duration_ns: int, do: Callable[[], None] = lambda: None) -> None:
        """Queue any other work, which `do` does; engines use it too."""
        if self._graph is not None:
            self._graph.work.append((work, duration_ns, do))
            return
        do()
        start = max(self.ready_ns, self._device.clock.now_ns())
        self.ready_ns = start + duration_ns
        self._device.log.append(LogEntry(work, self.handle, start, self.ready_ns))

    def synchronize(self) -> None:
        """Let the clock reach the end of all work. Raises DeviceError while work is recorded."""
        self._count("synchronize")
        if self._graph is not None:
            raise DeviceError("a stream that records can not be waited for")
        self._device.clock.advance_to(self.ready_ns)

    @property
    def capturing(self) -> bool:
        """Whether it records work."""
        return self._graph is not None

    def begin_capture(self) -> None:
        """Record work from now on."""
        self._count("begin_capture")
        self._graph = FakeGraph(self._device)

    def end_capture(self) -> FakeGraph:
        """What was recorded. Raises DeviceError if nothing was begun."""
        graph, self._graph = self._graph, None
        self._count("end_capture")
        if graph is None:
            raise DeviceError("this stream records nothing")
        self._device.graphs.append(graph)
        return graph

    def close(self) -> None:
        """Give it back. Twice is harmless."""
        self.threads.add(threading.current_thread().name)
        self.closed = True

    def _count(self, call: str) -> None:
        self.threads.add(threading.current_thread().name)
        self._device.count(call)


class FakeDevice:
    """A device for tests. `unified` False: as on CUDA, batches are copied in and out.

    `allocated_bytes` and `staging_bytes` are what is allocated and not closed. With `total_bytes`
    there is no more memory than that.
    """

    name = "fake"
    product = "Fake GPU"
    compute_capability = "9.0"
    default_lanes = 2
    gather_bytes = 0

    def __init__(
        self, clock: FakeClock, *, unified: bool = False, times: FakeTimes | None = None
    ) -> None:
        self.clock = clock
        self.unified = unified
        self.times = times or FakeTimes()
        self.log: list[LogEntry] = []
        self.copies: list[tuple[Copy, ...]] = []
        """Each call of a stream's `copy`, with its pieces."""
        self.attached: dict[int, int] = {}
        self.allocated_bytes = 0
        self.staging_bytes = 0
        self.total_bytes: int | None = None
        self.said: Vitals | None = None
        self.streams: list[FakeStream] = []
        self.graphs: list[FakeGraph] = []
        """All graphs that streams have recorded."""
        self.threads: set[int] = set()
        self._calls: Counter[str] = Counter()
        self._faults: dict[tuple[str, int], DeviceError] = {}
        # Lanes call from several threads, and what is counted must come out right.
        self._lock = threading.Lock()

    def fail(self, call: str, nth: int, error: DeviceError) -> None:
        """Let the nth call from now (1: the next) of this kind raise: `copy`, `record`, `wait`,
        `synchronize`, `allocate`, `allocate_staging`, `create_stream`, `create_event`,
        `begin_capture`, `end_capture`, `launch` (of a graph), `attach` or `memory`."""
        self._faults[call, self._calls[call] + nth] = error

    def count(self, call: str) -> None:
        """Count a call, and raise what was scripted for it."""
        with self._lock:
            self._calls[call] += 1
            error = self._faults.pop((call, self._calls[call]), None)
        if error is not None:
            raise error

    def enter_thread(self) -> None:
        """Note the thread."""
        self.threads.add(threading.get_ident())

    def memory(self) -> tuple[int, int] | None:
        """What is left of `total_bytes`; None while that is None, as on the host."""
        self.count("memory")
        if self.total_bytes is None:
            return None
        return self.total_bytes - self.allocated_bytes, self.total_bytes

    def vitals(self) -> Vitals | None:
        """What `said` is set to."""
        return self.said

    def attach(self, address: int, size: int) -> None:
        """Note the region."""
        self.count("attach")
        self.attached[address] = size

    def detach(self, address: int) -> None:
        """Forget the region. Raises DeviceError if it was not attached."""
        if self.attached.pop(address, None) is None:
            raise DeviceError("that region was never attached")

    def allocate(self, size: int) -> HostBuffer:
        """Plain memory in the device's place; counted until it is closed. Raises DeviceError
        where `total_bytes` are not enough."""
        self.count("allocate")
        return FakeBuffer(size, self._allocated)

    def allocate_growing(self) -> FakeGrowingBuffer:
        """Plain memory that grows; counted like that of `allocate`."""
        return FakeGrowingBuffer(self._allocated)

    def allocate_staging(self, size: int) -> HostBuffer:
        """Plain memory; counted until it is closed."""
        self.count("allocate_staging")
        return FakeBuffer(size, self._staged)

    def _allocated(self, size: int) -> None:
        with self._lock:
            total, taken = self.total_bytes, self.allocated_bytes
            if size > 0 and total is not None and taken + size > total:
                raise DeviceError(
                    f"{size} bytes are needed and {total - taken} free",
                    name="cudaErrorMemoryAllocation",
                )
            self.allocated_bytes += size

    def _staged(self, size: int) -> None:
        with self._lock:
            self.staging_bytes += size

    def create_stream(self, priority: int = 0) -> FakeStream:
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
