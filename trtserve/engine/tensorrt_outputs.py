"""Memory for outputs whose shapes depend on the data, which TensorRT asks for during a run."""

import logging
from collections.abc import Callable
from typing import Any

from trtserve.device.interface import Buffer
from trtserve.errors import DeviceError
from trtserve.model.tensor import Shape

log = logging.getLogger(__name__)


class OutputPlace:
    """Where one such output is, and its shape once TensorRT has told it.

    Its memory is taken when the context is made, for the largest output that there can be, since
    taking memory stops the whole device. `error`: why there was none.
    """

    def __init__(self, name: str, allocate: Callable[[int], Buffer]) -> None:
        self.shape: Shape = ()
        self.error: DeviceError | None = None
        self._name = name
        self._allocate = allocate
        self._buffer: Buffer | None = None

    @property
    def address(self) -> int:
        """Where the output is."""
        return self._buffer.address if self._buffer is not None else 0

    def reserve(self, size: int) -> None:
        """Have at least so many bytes. What was there is lost. Raises DeviceError."""
        if self._buffer is None or self._buffer.size < size:
            self.close()
            self._buffer = self._allocate(max(1, size))

    def asked(self, size: int) -> int:
        """TensorRT wants so many bytes: their address, or 0 if there are none."""
        try:
            if self._buffer is not None and self._buffer.size < size:
                log.warning("output %s takes %d bytes while it serves", self._name, size)
            self.reserve(size)
        except DeviceError as error:
            self.error = error
            return 0
        return self.address

    def close(self) -> None:
        """Give the memory back. Twice is harmless."""
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            buffer.close()


def output_allocator(module: Any, place: OutputPlace) -> Any:
    """What TensorRT asks for the output's memory, made of the module's own class."""

    class Allocator(module.IOutputAllocator):  # type: ignore[misc]  # that module's own
        def __init__(self) -> None:
            module.IOutputAllocator.__init__(self)

        def reallocate_output(
            self, tensor_name: str, memory: int, size: int, alignment: int
        ) -> int:
            return place.asked(size)

        def reallocate_output_async(
            self, tensor_name: str, memory: int, size: int, alignment: int, stream: int
        ) -> int:
            return place.asked(size)

        def notify_shape(self, tensor_name: str, shape: Any) -> None:
            place.shape = tuple(shape)

    return Allocator()
