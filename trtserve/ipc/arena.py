"""Shared memory without a name: an arena is a memfd, a block is a piece of it.

One process allocates in an arena, all others only read and write the blocks lent to them, so
the allocator needs no lock and lives in ordinary memory: nothing that arrives through shared
memory is ever trusted as a size or an address.
"""

import mmap
import os
from dataclasses import dataclass

import numpy as np

MIN_BLOCK_BITS = 8
"""Blocks are at least 256 bytes and aligned to their own size, which suits CUDA's and
TensorRT's alignment of 256."""


@dataclass(frozen=True, slots=True)
class ArenaStatistics:
    """How full an arena is, in bytes and blocks."""

    capacity: int
    used: int
    blocks: int


class Allocator:
    """A buddy allocator over [0, capacity), with a short cut for sizes that repeat.

    Freed blocks wait in a list of their size and go out again from there, in constant time;
    only when an allocation does not fit are they merged with their buddies. The block freed
    last goes out first: its pages are in the cache and in memory already.
    """

    def __init__(self, capacity: int) -> None:
        self._top = max(MIN_BLOCK_BITS, capacity.bit_length() - 1)
        self._quick: list[list[int]] = [[] for _ in range(self._top + 1)]
        self._free: list[set[int]] = [set() for _ in range(self._top + 1)]
        self._free[self._top].add(0)
        self._bits: dict[int, int] = {}
        self._used = 0

    def allocate(self, size: int) -> int | None:
        """The offset of a block of at least `size` bytes, or None when none is free."""
        bits = (size - 1).bit_length() if size > 1 else 0
        if bits < MIN_BLOCK_BITS:
            bits = MIN_BLOCK_BITS
        elif bits > self._top:
            return None
        quick = self._quick[bits]
        if quick:
            offset = quick.pop()
        else:
            found = self._carve(bits)
            if found is None:
                self._merge()
                found = self._carve(bits)
                if found is None:
                    return None
            offset = found
        self._bits[offset] = bits
        self._used += 1 << bits
        return offset

    def free(self, offset: int) -> None:
        """Take a block back. Raises KeyError for an offset that is not lent."""
        bits = self._bits.pop(offset)
        self._used -= 1 << bits
        self._quick[bits].append(offset)

    def statistics(self) -> ArenaStatistics:
        """How full it is."""
        return ArenaStatistics(1 << self._top, self._used, len(self._bits))

    def _carve(self, bits: int) -> int | None:
        """Split the smallest free block that is large enough."""
        for larger in range(bits, self._top + 1):
            if self._free[larger]:
                offset = self._free[larger].pop()
                while larger > bits:
                    larger -= 1
                    self._free[larger].add(offset + (1 << larger))
                return offset
        return None

    def _merge(self) -> None:
        """Return the waiting blocks to the buddy system, joining what belongs together."""
        for bits, quick in enumerate(self._quick):
            for start in quick:
                offset, order = start, bits
                while order < self._top:
                    buddy = offset ^ (1 << order)
                    if buddy not in self._free[order]:
                        break
                    self._free[order].remove(buddy)
                    offset = min(offset, buddy)
                    order += 1
                self._free[order].add(offset)
            quick.clear()


class Arena:
    """One region of anonymous shared memory, mapped.

    `create` makes one, with an allocator; `attach` maps one that another process made, from a
    descriptor that came over a Unix socket. `close` unmaps; the memory goes when the last
    process has closed it. `address` is where it is mapped here.
    """

    def __init__(self, fd: int, size: int, *, owner: bool) -> None:
        self.fd = fd
        self.size = size
        self._map = mmap.mmap(fd, size)
        self.view = memoryview(self._map)
        self.address = int(np.frombuffer(self._map, np.uint8).ctypes.data)
        self.allocator = Allocator(size) if owner else None

    @classmethod
    def create(cls, size: int, name: str) -> "Arena":
        """A new arena of `size` bytes rounded up to a power of two.

        Pages take memory only once they are touched, so a large arena costs nothing by itself.
        `name` only shows in /proc.
        """
        size = 1 << max(MIN_BLOCK_BITS + 4, (size - 1).bit_length())
        fd = os.memfd_create(name, os.MFD_CLOEXEC)
        os.ftruncate(fd, size)
        return cls(fd, size, owner=True)

    @classmethod
    def attach(cls, fd: int) -> "Arena":
        """Map the arena behind a descriptor and own the descriptor."""
        return cls(fd, os.fstat(fd).st_size, owner=False)

    def close(self) -> None:
        """Unmap it and close the descriptor. Twice is harmless."""
        if self.fd < 0:
            return
        os.close(self.fd)
        self.fd = -1
        try:
            self.view.release()
            self._map.close()
        except BufferError:
            # Someone still holds a view of a block: the mapping goes with that view.
            pass
