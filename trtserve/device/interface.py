"""What a device is to the lanes: memory, streams, events, copies.

Written for CUDA, where work on a stream runs later and in order and streams meet at events.
The host (device/host.py) is the simple case: work runs at once, events only carry a time.
Addresses are integers. Every call may raise DeviceError.
"""

from collections.abc import Sequence
from typing import Protocol

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


class Event(Protocol):
    """A point on a stream."""

    def synchronize(self) -> None:
        """Block this thread, without spinning, until the point is reached."""

    def elapsed_ns(self, since: "Event") -> int:
        """Nanoseconds from another reached event to this one."""


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

    def close(self) -> None:
        """Give it back. Twice is harmless."""


class Device(Protocol):
    """One device. Made and closed by its worker; lanes only make things at start-up."""

    @property
    def name(self) -> str:
        """`cpu`, `cuda:0` and so on."""

    @property
    def default_lanes(self) -> int:
        """How many lanes keep it busy."""

    @property
    def unified(self) -> bool:
        """Whether engines here read and write host memory: then blocks need no copy."""

    def attach(self, address: int, size: int) -> None:
        """Prepare a region of host memory (an arena) for asynchronous copies."""

    def detach(self, address: int) -> None:
        """Undo attach, when no copy uses the region any more."""

    def allocate(self, size: int) -> Buffer:
        """Device memory. Only at load time: on CUDA this stops the whole device."""

    def allocate_staging(self, size: int) -> Buffer:
        """Host memory that copies fast."""

    def create_stream(self) -> Stream:
        """A new stream."""

    def create_event(self) -> Event:
        """A new event that can be timed and waited for."""

    def close(self) -> None:
        """Give everything back. Twice is harmless."""
