"""The few calls that every batch makes, straight to CUDA's driver and without giving up Python's
lock.

cuda.core and cuda.bindings give the lock up in every call. These calls only put work in a queue
and take a few microseconds; a thread that gives the lock up for them may wait for a switch
interval to get it back, again and again within one batch. Whoever really waits (an event, a
session's run) gives it up as before.
"""

import ctypes
from array import array
from collections.abc import Sequence

from trtserve.device.interface import Copy

_POINTER, _ADDRESS, _SIZE = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_size_t

_BATCH = "cuMemcpyBatchAsync_v2"
"""The form of CUDA 13: the first one told in one more argument which copy had failed."""

_IN_STREAM_ORDER = 1
"""CU_MEMCPY_SRC_ACCESS_ORDER_STREAM."""


class _CopyAttributes(ctypes.Structure):
    """CUmemcpyAttributes. Hints are for managed memory, which nothing here uses."""

    _fields_ = (
        ("source_order", ctypes.c_int),
        ("source_hint", ctypes.c_int * 2),
        ("target_hint", ctypes.c_int * 2),
        ("flags", ctypes.c_uint),
    )


class CudaDriver:
    """Calls on raw handles. Each returns CUDA's number for what went wrong, 0 for nothing.

    Raises OSError where there is no driver. `batches`: whether it takes several copies in one
    call.
    """

    def __init__(self) -> None:
        library = ctypes.PyDLL("libcuda.so.1")
        self._record = library.cuEventRecord
        self._record.argtypes = (_POINTER, _POINTER)
        self._wait = library.cuStreamWaitEvent
        self._wait.argtypes = (_POINTER, _POINTER, ctypes.c_uint)
        self._copy = library.cuMemcpyAsync
        self._copy.argtypes = (_ADDRESS, _ADDRESS, _SIZE, _POINTER)
        self._launch = library.cuGraphLaunch
        self._launch.argtypes = (_POINTER, _POINTER)
        self._elapsed = library.cuEventElapsedTime
        self._elapsed.argtypes = (_POINTER, _POINTER, _POINTER)
        self._batch = getattr(library, _BATCH, None)
        self.batches = self._batch is not None
        if self._batch is not None:
            self._batch.argtypes = (
                _POINTER, _POINTER, _POINTER, _SIZE, _POINTER, _POINTER, _SIZE, _POINTER,
            )
        self._attributes = _CopyAttributes(source_order=_IN_STREAM_ORDER)
        self._first = ctypes.c_size_t(0)
        self._order = ctypes.addressof(self._attributes)
        self._from_first = ctypes.addressof(self._first)

    def record(self, event: int, stream: int) -> int:
        """Mark a point on a stream."""
        return int(self._record(event, stream))

    def wait(self, stream: int, event: int) -> int:
        """Hold back the stream's later work until the event."""
        return int(self._wait(stream, event, 0))

    def copy(self, copy: Copy, stream: int) -> int:
        """Queue one copy, in any direction."""
        target, source, size = copy
        return int(self._copy(target, source, size, stream))

    def copy_batch(self, copies: Sequence[Copy], stream: int) -> int:
        """Queue copies with one call, all of one byte or more. They run in any order."""
        assert self._batch is not None
        targets, sources, sizes = zip(*copies, strict=True)
        # The driver has read the arrays when it returns.
        to, of, by = array("Q", targets), array("Q", sources), array("Q", sizes)
        return int(self._batch(
            to.buffer_info()[0], of.buffer_info()[0], by.buffer_info()[0], len(sizes),
            self._order, self._from_first, 1, stream,
        ))

    def launch(self, graph: int, stream: int) -> int:
        """Queue a graph that is ready to run."""
        return int(self._launch(graph, stream))

    def elapsed_ms(self, since: int, until: int) -> tuple[int, float]:
        """(what went wrong, milliseconds between two reached events)."""
        found = ctypes.c_float()
        return int(self._elapsed(ctypes.addressof(found), since, until)), found.value
