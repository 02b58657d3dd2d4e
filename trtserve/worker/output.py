"""The worker's own arena: where lanes leave the outputs that front ends read."""

import threading

from trtserve.errors import ExecutionFailed, Overloaded
from trtserve.ipc.arena import Arena, ArenaStatistics


class OutputArena:
    """An arena whose allocator several threads use.

    Between processes no lock is needed: only the owner of an arena allocates in it. Here inside
    the owner, each lane's thread allocates while the loop's thread frees what was read; hence
    the lock. It closes the arena with itself.
    """

    def __init__(self, arena: Arena) -> None:
        if arena.allocator is None:
            raise ValueError("an output arena needs an arena that this process has created")
        self._arena = arena
        self._allocator = arena.allocator
        self._lock = threading.Lock()
        self.address = arena.address
        self.view = arena.view
        self.size = arena.size

    @classmethod
    def create(cls, size: int) -> "OutputArena":
        """A new arena of `size` bytes rounded up to a power of two."""
        return cls(Arena.create(size, "trtserve outputs"))

    @property
    def fd(self) -> int:
        """The descriptor that front ends attach by."""
        return self._arena.fd

    def allocate(self, size: int) -> int:
        """The offset of a block of at least `size` bytes.

        Raises Overloaded when none is free: the readers are behind. Raises ExecutionFailed for
        a size that never fits.
        """
        with self._lock:
            offset = self._allocator.allocate(size)
        if offset is not None:
            return offset
        if size > self.size:
            raise ExecutionFailed(
                f"an output of {size} bytes does not fit the worker's {self.size} bytes of shared "
                "memory. Set arena_bytes higher, or send smaller batches"
            )
        raise Overloaded(
            f"no {size} of the {self.size} bytes of shared memory for outputs are free: answers "
            "are read more slowly than they are made"
        )

    def free(self, offset: int) -> None:
        """Take a block back. Raises KeyError for an offset that is not lent."""
        with self._lock:
            self._allocator.free(offset)

    def statistics(self) -> ArenaStatistics:
        """How full it is."""
        with self._lock:
            return self._allocator.statistics()

    def close(self) -> None:
        """Close the arena. Twice is harmless."""
        self._arena.close()
