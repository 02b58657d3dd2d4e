"""A lane's scratch memory: what engines need only while a run lasts.

A lane runs one batch at a time, so all its contexts share one piece of memory, as large as the
largest of them needs: n engines cost the largest and not the sum. It grows where it lies, since
captured graphs have its address baked in.
"""

from trtserve.device.interface import Device, GrowingBuffer


class Scratch:
    """Scratch memory of one lane. Takes no memory before somebody wants some.

    Only the lane's thread calls it, while no batch runs there.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._buffer: GrowingBuffer | None = None
        self._holders = 0
        self._unshared = 0

    def hold(self, size: int) -> int:
        """Have at least so many bytes, until they are released. Returns their address, which
        is the same for all holders.

        Raises DeviceError where memory is short; then nothing is held.
        """
        if self._buffer is None:
            self._buffer = self._device.allocate_growing()
        try:
            self._buffer.grow(size)
        except BaseException:
            if not self._holders:
                self.close()
            raise
        self._holders += 1
        self._unshared += size
        return self._buffer.address

    def release(self, size: int) -> None:
        """Hold so many bytes no longer; the last holder's release frees the memory.

        Until then it stays as large as it was: its holders' runs may use all of it.
        """
        self._holders -= 1
        self._unshared -= size
        if not self._holders:
            self.close()

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return self._buffer.size if self._buffer is not None else 0

    @property
    def unshared(self) -> int:
        """Bytes that its holders would take if each had its own."""
        return self._unshared

    def close(self) -> None:
        """Give the memory back, held or not. Twice is harmless."""
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            buffer.close()
