"""The memory that a lane keeps for the inputs and outputs of its batches."""

from trtserve.device.interface import Buffer, Device
from trtserve.errors import ExecutionFailed


class LaneBuffers:
    """One buffer for each place: ("input", 0), ("output", 1) and so on.

    Where host and device share memory a buffer grows when a batch needs more. Elsewhere
    allocating stops the whole device, so `reserve` has to be called at load, and a batch that
    needs more fails.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._buffers: dict[tuple[str, int], Buffer] = {}

    def reserve(self, kind: str, index: int, size: int) -> None:
        """Make the place hold at least `size` bytes. What it held before is lost."""
        place = (kind, index)
        buffer = self._buffers.get(place)
        if buffer is not None and buffer.size >= size:
            return
        if buffer is not None:
            del self._buffers[place]
            buffer.close()
        # Powers of two: a place whose batches keep growing is replaced a few times only.
        self._buffers[place] = self._device.allocate(1 << max(8, (size - 1).bit_length()))

    def take(self, kind: str, index: int, size: int) -> int:
        """The address of the place, for one batch. Raises ExecutionFailed if it is too small."""
        buffer = self._buffers.get((kind, index))
        if buffer is None or buffer.size < size:
            if not self._device.unified:
                held = buffer.size if buffer else 0
                raise ExecutionFailed(
                    f"{kind} {index} of this batch has {size} bytes and the lane has reserved "
                    f"{held}. Warm the model up with its largest batch"
                )
            self.reserve(kind, index, size)
            buffer = self._buffers[kind, index]
        return buffer.address

    @property
    def size(self) -> int:
        """Bytes of all places together."""
        return sum(buffer.size for buffer in self._buffers.values())

    def close(self) -> None:
        """Give the memory back. Twice is harmless."""
        for buffer in self._buffers.values():
            buffer.close()
        self._buffers.clear()
