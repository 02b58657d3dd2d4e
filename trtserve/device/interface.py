"""What a device is to the lanes: memory, streams, events, copies.

Written for CUDA, where work on a stream runs later and in order and streams meet at events.
The host (device/host.py) is the simple case: work runs at once, events only carry a time.
Addresses are integers. Every call may raise DeviceError.
"""

from collections.abc import Sequence
from typing import Protocol

from trtserve.device.vitals import Vitals

Copy = tuple[int, int, int]
"""One copy: destination address, source address, bytes."""


class Buffer(Protocol):
    """Memory that a lane owns, on the device or, for staging, on the host."""

    @property
    def address(self) -> int:
        """The first byte's address, a multiple of 256."""

    @property
    def size(self) -> int:
        """Bytes."""

    def close(self) -> None:
        """Give it back. Twice is harmless."""


class GrowingBuffer(Buffer, Protocol):
    """Device memory that grows where it lies: what has its address keeps it. Of no bytes at
    first."""

    def grow(self, size: int) -> None:
        """Have at least so many bytes. What was there stays as it is."""


class Event(Protocol):
    """A point on a stream."""

    def synchronize(self) -> None:
        """Block this thread, without spinning, until the point is reached."""

    def elapsed_ns(self, since: "Event") -> int:
        """Nanoseconds from another reached event to this one."""


class Graph(Protocol):
    """Work that a stream has recorded, addresses and all."""

    def launch(self, stream: "Stream") -> None:
        """Queue all of it. Only one stream may run it at a time."""

    def close(self) -> None:
        """Give it back, when it does not run. Twice is harmless."""


class Stream(Protocol):
    """A queue of work that runs in order."""

    @property
    def handle(self) -> int:
        """What engines and drivers call it by; 0 on the host."""

    def record(self, event: Event) -> None:
        """Mark the end of the work queued so far."""

    def wait(self, event: Event) -> None:
        """Hold back later work until the event."""

    def copy(self, copies: Sequence[Copy]) -> None:
        """Queue copies, in any direction, as one batch where the device can."""

    def synchronize(self) -> None:
        """Block until all queued work is done."""

    def begin_capture(self) -> None:
        """Record the work that this thread queues from now on, instead of running it.

        Raises DeviceError where there are no graphs.
        """

    def end_capture(self) -> Graph:
        """Run work again, and return what was recorded.

        Raises DeviceError if some of it can not be: the stream then works as before.
        """

    def close(self) -> None:
        """Give it back. Twice is harmless."""


class Device(Protocol):
    """One device. Made and closed by its worker; lanes only make things at start-up."""

    @property
    def name(self) -> str:
        """`cpu`, `cuda:0` and so on."""

    @property
    def product(self) -> str:
        """What the maker calls it, such as `NVIDIA H200`."""

    @property
    def compute_capability(self) -> str:
        """CUDA's number for what its processors can do, such as `9.0`; empty without CUDA."""

    @property
    def default_lanes(self) -> int:
        """How many lanes keep it busy."""

    @property
    def unified(self) -> bool:
        """Whether engines here read and write host memory: then blocks need no copy."""

    @property
    def gather_bytes(self) -> int:
        """Pieces of a batch smaller than this are gathered on the CPU into staging memory and
        copied at once; larger ones are copied each from its place. 0: all from their places."""

    def enter_thread(self) -> None:
        """Make this the calling thread's device: before its first other call from there."""

    def memory(self) -> tuple[int, int] | None:
        """(free, total) bytes of the device's memory; None where nobody counts it."""

    def vitals(self) -> Vitals | None:
        """What its driver last said about it; None where nobody says anything."""

    def attach(self, address: int, size: int) -> None:
        """Prepare a region of host memory (an arena) for asynchronous copies."""

    def detach(self, address: int) -> None:
        """Undo attach, when no copy uses the region any more."""

    def allocate(self, size: int) -> Buffer:
        """Device memory. Only at load time: on CUDA this stops the whole device."""

    def allocate_growing(self) -> GrowingBuffer:
        """Device memory that grows later."""

    def allocate_staging(self, size: int) -> Buffer:
        """Host memory that copies fast."""

    def create_stream(self, priority: int = 0) -> Stream:
        """A new stream. Less is more urgent, as CUDA counts it: 0, -1, ... It orders kernels
        only, never copies."""

    def create_event(self) -> Event:
        """A new event that can be timed and waited for."""

    def close(self) -> None:
        """Give everything back. Twice is harmless."""
