"""A CUDA device: streams, events, memory and copies.

cuda.core owns the streams and events; device/cuda_runtime.py makes the calls that it lacks.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from trtserve.device.cuda_mapping import CudaMappings
from trtserve.device.cuda_runtime import CudaCalls
from trtserve.device.interface import Copy, Event, Stream
from trtserve.device.numa import preferring
from trtserve.device.nvml import NvmlMonitor, monitor
from trtserve.device.vitals import Vitals
from trtserve.errors import DeviceError

LANES = 3
"""Two compute while one copies. On an H200, ResNet50 computed 7,713 images a second on one lane
and 8,606 on two, without any copies (in CUDA graphs 8,225 and 8,797). The third lane adds little
to that: it hides the copies, and the worker ran 8,824 with them."""

QUEUES = "32"
"""Streams of one device that share none of its queues. CUDA's own 8 are fewer than three lanes
of three streams: work of one lane would then wait for another's. 32 is the most that it takes."""


class CudaBuffer:
    """Memory of the device, or of the host for staging. `held`: what its device has to close."""

    def __init__(
        self, address: int, size: int, free: Callable[[int], None], held: set[Any]
    ) -> None:
        self.address = address
        self.size = size
        self._free = free
        self._held = held
        held.add(self)

    def close(self) -> None:
        """Give it back. Twice is harmless."""
        if self in self._held:
            self._held.remove(self)
            self._free(self.address)


class CudaGrowingBuffer:
    """Memory of the device that grows up to `limit` bytes, in one place."""

    def __init__(
        self, calls: CudaCalls, mappings: CudaMappings, limit: int, held: set[Any]
    ) -> None:
        number, self._step = mappings.granularity()
        calls.check_driver(number, "asking how memory can grow")
        self._limit = self._rounded(limit)
        number, self.address = mappings.reserve(self._limit)
        calls.check_driver(number, f"reserving addresses for {self._limit:,} bytes")
        self.size = 0
        self._calls = calls
        self._mappings = mappings
        self._held = held
        held.add(self)

    def grow(self, size: int) -> None:
        """Have at least so many bytes. Raises DeviceError where memory is short."""
        more = self._rounded(size) - self.size
        if more <= 0:
            return
        free, total = self._calls.memory()
        doing = f"growing scratch memory by {more:,} bytes, of which {free:,} of {total:,} are free"
        if self.size + more > self._limit:
            raise DeviceError(f"{doing}: it can not become larger than the device's memory")
        self._calls.check_driver(self._mappings.back(self.address + self.size, more), doing)
        self.size += more

    def close(self) -> None:
        """Give it back. Twice is harmless."""
        if self in self._held:
            self._held.remove(self)
            number = self._mappings.free(self.address, self.size, self._limit)
            self._calls.check_driver(number, "freeing scratch memory")

    def _rounded(self, size: int) -> int:
        return -(-size // self._step) * self._step


class CudaEvent:
    """A point on a stream. Waiting for it blocks: a waiting lane leaves its core to others."""

    def __init__(self, event: Any, calls: CudaCalls) -> None:
        self.event = event
        self.handle = int(event.handle)
        self._calls = calls

    def synchronize(self) -> None:
        """Block this thread, without spinning, until the point is reached."""
        try:
            self.event.sync()
        except Exception as error:
            raise self._calls.translated(error, "waiting for an event") from error

    def elapsed_ns(self, since: Event) -> int:
        """Nanoseconds from another reached event to this one. CUDA counts in about half
        microseconds.

        Raises DeviceError if either was never recorded or is not reached.
        """
        return self._calls.elapsed_ns(_ours(since).handle, self.handle)


class CudaGraph:
    """Recorded work. A lane has its own: CUDA runs each at one place at a time."""

    def __init__(self, calls: CudaCalls, graph: Any, held: set[Any]) -> None:
        self._calls = calls
        self._graph = graph
        self._handle = int(graph)
        self._held = held
        held.add(self)

    def launch(self, stream: Stream) -> None:
        """Queue all of it."""
        self._calls.launch(self._handle, stream.handle)

    def close(self) -> None:
        """Give it back, when it does not run. Twice is harmless."""
        if self in self._held:
            self._held.remove(self)
            self._calls.free_graph(self._graph)


class CudaStream:
    """A queue of work. Threads of its device may use it, one at a time."""

    def __init__(self, stream: Any, calls: CudaCalls, batches: bool, held: set[Any]) -> None:
        self.handle = int(stream.handle)
        self._stream = stream
        self._calls = calls
        self._copy_one = calls.copy
        self._copy_many = calls.copy_batch if batches else calls.copy_each
        self._held = held
        held.add(self)

    def record(self, event: Event) -> None:
        """Mark the end of the work queued so far."""
        self._calls.record(_ours(event).handle, self.handle)

    def wait(self, event: Event) -> None:
        """Hold back later work until the event."""
        self._calls.wait(self.handle, _ours(event).handle)

    def copy(self, copies: Sequence[Copy]) -> None:
        """Queue copies, in any direction, with one call where the driver can."""
        if len(copies) == 1:
            self._copy_one(copies[0], self.handle)
        elif copies:
            self._copy_many(copies, self.handle)

    def synchronize(self) -> None:
        """Block until all queued work is done."""
        try:
            self._stream.sync()
        except Exception as error:
            raise self._calls.translated(error, "waiting for a stream") from error

    def begin_capture(self) -> None:
        """Record the work that this thread queues from now on, instead of running it."""
        self._calls.begin_capture(self.handle)

    def end_capture(self) -> CudaGraph:
        """Run work again, and return what was recorded. Raises DeviceError."""
        return CudaGraph(self._calls, self._calls.end_capture(self.handle), self._held)

    def close(self) -> None:
        """Give it back, when what it has queued is done. Twice is harmless."""
        if self in self._held:
            self._held.remove(self)
            self._stream.close()


class CudaDevice:
    """One GPU. `lanes`: what the operator asked for; 0 lets the device choose.

    It is the current device of the thread that makes it. `can_batch`: several copies go to the
    driver in one call. Raises DeviceError, with the cure, where the packages, the driver or the
    device are missing.
    """

    unified = False

    # Each piece costs the copy engine and Python a fixed time, which a small piece never earns
    # back; the CPU gathers large ones more slowly than the link copies them.
    # See benchmarks/gpu/gather.py.
    GATHER_BYTES = 16 * 1024
    gather_bytes = GATHER_BYTES

    def __init__(self, index: int, lanes: int = 0) -> None:
        # Before the first call: CUDA reads it once.
        os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", QUEUES)
        self.name = f"cuda:{index}"
        self.default_lanes = lanes or LANES
        self._index = index
        self._attached: set[int] = set()
        self._held: set[CudaBuffer | CudaGrowingBuffer | CudaGraph | CudaStream] = set()
        self._calls = CudaCalls(self.name)
        self._monitor: NvmlMonitor | None = None
        self._calls.check_device(index)
        self._calls.open_driver()
        self.enter_thread()
        self.product = str(self._device().name)
        self.compute_capability = "{}.{}".format(*self._device().compute_capability)
        self._numa_node = self._calls.numa_node(index)
        self._least, self._most = self._calls.stream_priorities()
        self.can_batch = self._calls.batches
        self.can_batch = self.can_batch and self._takes_batches()

    def enter_thread(self) -> None:
        """Make this the calling thread's device: before its first other call from there."""
        try:
            self._device().set_current()
        except Exception as error:
            raise self._calls.translated(error, "entering the device") from error
        self._calls.mind_own_captures()

    def memory(self) -> tuple[int, int]:
        """(free, total) bytes of the device's memory."""
        return self._calls.memory()

    def vitals(self) -> Vitals | None:
        """What the driver last said about it. Asked for the first time, it begins to ask."""
        if self._monitor is None:
            self._monitor = monitor(self._calls.pci(self._index))
            self._monitor.start()
        return self._monitor.latest()

    def attach(self, address: int, size: int) -> None:
        """Pin a region, so that copies run by themselves and at the link's full speed.

        Pages that nobody has touched yet come from the device's NUMA node. Raises DeviceError if
        it is attached already.
        """
        if address in self._attached:
            raise DeviceError(
                f"{self.name}: the region at {address:#x} is attached already. Detach it first"
            )
        with preferring(self._numa_node):
            self._calls.register(address, size)
        self._attached.add(address)

    def detach(self, address: int) -> None:
        """Undo attach, when no copy uses the region any more."""
        if address not in self._attached:
            raise DeviceError(f"{self.name}: no region at {address:#x} is attached")
        self._attached.remove(address)
        self._calls.unregister(address)

    def allocate(self, size: int) -> CudaBuffer:
        """Device memory. Only at load time: this stops the whole device.

        Not from a pool: what is closed is free at once for engines, which have pools of their own.
        """
        address = self._calls.allocate(max(size, 1))
        return CudaBuffer(address, size, self._calls.free, self._held)

    def allocate_growing(self) -> CudaGrowingBuffer:
        """Device memory that grows later, and may come to be all that there is."""
        _, total = self.memory()
        mappings = self._calls.mappings(self._index)
        return CudaGrowingBuffer(self._calls, mappings, total, self._held)

    def allocate_staging(self, size: int) -> CudaBuffer:
        """Pinned host memory, on the device's NUMA node where there are several."""
        with preferring(self._numa_node):
            address = self._calls.allocate_pinned(max(size, 1))
        return CudaBuffer(address, size, self._calls.free_pinned, self._held)

    def create_stream(self, priority: int = 0) -> CudaStream:
        """A stream that never waits for the default stream. A priority that the device does not
        have becomes the nearest that it has."""
        options = self._calls.core.StreamOptions(
            nonblocking=True, priority=max(self._most, min(priority, self._least))
        )
        try:
            stream = self._device().create_stream(options=options)
        except Exception as error:
            raise self._calls.translated(error, "creating a stream") from error
        return CudaStream(stream, self._calls, self.can_batch, self._held)

    def create_event(self) -> CudaEvent:
        """An event that can be timed and waited for."""
        options = self._calls.core.EventOptions(timing_enabled=True, blocking_sync=True)
        try:
            return CudaEvent(self._device().create_event(options), self._calls)
        except Exception as error:
            raise self._calls.translated(error, "creating an event") from error

    def close(self) -> None:
        """Give everything back, also what others forgot to close. Twice is harmless."""
        if self._monitor is not None:
            self._monitor.stop()
        with ExitStack() as steps:  # takes every step, last first, also after one that fails
            for address in self._attached:
                steps.callback(self.detach, address)
            for thing in self._held:
                steps.callback(thing.close)

    def _device(self) -> Any:
        """cuda.core's object, of which every thread has its own."""
        return self._calls.core.Device(self._index)

    def _takes_batches(self) -> bool:
        """Whether the driver takes several copies with one call: tried once, since a version
        number does not promise it everywhere."""
        with ExitStack() as steps:
            stream = self.create_stream()
            steps.callback(stream.close)
            target, source = self.allocate(512), self.allocate_staging(512)
            steps.callback(target.close)
            steps.callback(source.close)
            try:
                stream.copy([
                    (target.address + start, source.address + start, 256) for start in (0, 256)
                ])
                stream.synchronize()
            except DeviceError as error:
                if error.sticky:
                    raise
                return False
        return True


def _ours(event: Event) -> CudaEvent:
    if not isinstance(event, CudaEvent):
        raise DeviceError("CUDA streams and events meet CUDA events only")
    return event
