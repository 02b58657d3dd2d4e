"""Output blocks lent to front ends, until each of them has read its part."""

from collections.abc import Iterable

from trtserve.worker.link import FrontEndLink
from trtserve.worker.output import OutputArena


class Leases:
    """The blocks of each finished batch, with the front ends that still read them."""

    def __init__(self, outputs: OutputArena) -> None:
        self._outputs = outputs
        self._blocks: dict[int, tuple[int, ...]] = {}
        self._readers: dict[int, set[FrontEndLink]] = {}
        self._next = 1

    def lend(self, blocks: tuple[int, ...], readers: Iterable[FrontEndLink]) -> int:
        """Lend a batch's blocks. Returns the lease; without readers they are free at once."""
        lease, self._next = self._next, self._next + 1
        self._blocks[lease] = blocks
        self._readers[lease] = set(readers)
        self._drop_if_read(lease)
        return lease

    def release(self, lease: int, reader: FrontEndLink) -> None:
        """That front end has read its part."""
        readers = self._readers.get(lease)
        if readers is not None:
            readers.discard(reader)
            self._drop_if_read(lease)

    def drop_reader(self, reader: FrontEndLink) -> None:
        """That front end is dead."""
        for lease in [number for number, readers in self._readers.items() if reader in readers]:
            self.release(lease, reader)

    def __len__(self) -> int:
        return len(self._blocks)

    def _drop_if_read(self, lease: int) -> None:
        if not self._readers[lease]:
            del self._readers[lease]
            for block in self._blocks.pop(lease):
                self._outputs.free(block)
