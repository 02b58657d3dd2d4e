"""The memory that a lane keeps for the inputs and outputs of its batches."""

import logging

from trtserve.device.interface import Buffer, Device

log = logging.getLogger(__name__)

Place = tuple[str, int, int]
"""Kind (`input`, `output` or `staging`), the tensor's index, and bytes, which stand for their size
class."""

_SMALLEST = 256


class _Kept:
    """A buffer and how many hold it."""

    __slots__ = ("buffer", "holders")

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer
        self.holders = 0


class LaneBuffers:
    """One buffer for each kind, tensor and size class (powers of two).

    A place never moves while anybody holds it, because graphs have addresses baked in. All
    batches of the lane share the places, as it runs one at a time. Allocating stops a CUDA
    device, so `reserve` is called at load; a batch of a shape that nobody foresaw still gets
    its memory, and the log says so.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._places: dict[Place, _Kept] = {}

    def reserve(self, kind: str, index: int, size: int) -> None:
        """Hold the place for `size` bytes. Raises DeviceError where memory is short."""
        self._place(kind, index, size).holders += 1

    def release(self, kind: str, index: int, size: int) -> None:
        """Hold it no longer; the last holder's release frees it."""
        place = (kind, index, _size_class(size))
        kept = self._places.get(place)
        if kept is None:
            return
        kept.holders -= 1
        if kept.holders <= 0:
            del self._places[place]
            kept.buffer.close()

    def trim(self) -> None:
        """Free the places that nobody holds: those of shapes that nobody foresaw, whose model may
        be gone. Not while a batch runs."""
        for place in [place for place, kept in self._places.items() if kept.holders <= 0]:
            self._places.pop(place).buffer.close()

    def take(self, kind: str, index: int, size: int) -> int:
        """The address of the place, for one batch."""
        kept = self._places.get((kind, index, _size_class(size)))
        if kept is None:
            if not self._device.unified:
                log.warning(
                    "%s allocates %d bytes while it serves, for a shape that was not warmed up; "
                    "name it in the model's model_warmup", self._device.name, _size_class(size),
                )
            kept = self._place(kind, index, size)
        return kept.buffer.address

    @property
    def size(self) -> int:
        """Bytes of all places together."""
        return sum(kept.buffer.size for kept in self._places.values())

    def close(self) -> None:
        """Give the memory back, held or not. Twice is harmless."""
        for kept in self._places.values():
            kept.buffer.close()
        self._places.clear()

    def _place(self, kind: str, index: int, size: int) -> _Kept:
        rounded = _size_class(size)
        kept = self._places.get((kind, index, rounded))
        if kept is None:
            make = self._device.allocate_staging if kind == "staging" else self._device.allocate
            kept = self._places[kind, index, rounded] = _Kept(make(rounded))
        return kept


def _size_class(size: int) -> int:
    """The next power of two: sizes that keep growing need few places."""
    return max(_SMALLEST, 1 << (size - 1).bit_length()) if size else _SMALLEST
