"""What runs the stand-in's work on a GPU: a kernel that doubles, on the lane's own stream."""

import ctypes
from typing import Any

from tests.gpu import kernels


class CudaMachine:
    """For FLOAT only. The calling thread has entered its device.

    `waits`: it waits for its stream in the middle of each run, which no capture survives.
    """

    def __init__(self) -> None:
        from cuda.bindings import runtime

        self._runtime: Any = runtime
        self.waits = False

    def double(self, stream: int, target: int, source: int, count: int, datatype: str) -> None:
        """Launch the kernel."""
        assert datatype == "FLOAT"
        if self.waits:
            self._runtime.cudaStreamSynchronize(stream)
        kernels.scale(stream, target, source, count)

    def read(self, stream: int, address: int, size: int) -> bytes:
        """Wait for the stream and look."""
        runtime = self._runtime
        found = ctypes.create_string_buffer(size)
        error, = runtime.cudaStreamSynchronize(stream)
        assert not error, error
        error, = runtime.cudaMemcpy(
            ctypes.addressof(found), address, size, runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        )
        assert not error, error
        return found.raw

    def capturing(self, stream: int) -> bool:
        """Whether the stream records."""
        error, status = self._runtime.cudaStreamIsCapturing(stream)
        assert not error, error
        return bool(int(status))
