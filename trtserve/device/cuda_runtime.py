"""The calls of CUDA's runtime library that cuda.core has no objects for.

Addresses and sizes are integers. Every failure is a DeviceError, also those of cuda.core, which
`translated` makes of them.
"""

import os
from collections.abc import Sequence
from typing import Any

from trtserve.device.cuda_driver import CudaDriver
from trtserve.device.cuda_errors import NOT_INSTALLED, device_error, unusable
from trtserve.device.cuda_mapping import CudaMappings
from trtserve.device.interface import Copy
from trtserve.errors import DeviceError


class CudaCalls:
    """CUDA for one device, named in all errors. `core` is the package cuda.core.

    Raises DeviceError, with the cure, where the packages are missing.
    """

    def __init__(self, name: str) -> None:
        try:
            from cuda import core
            from cuda.bindings import driver, runtime
        except ImportError as error:
            raise DeviceError(f"{name}: {NOT_INSTALLED.format(cause=error)}") from error
        self.core: Any = core
        self._name = name
        self._driver: Any = driver
        self._runtime: Any = runtime
        self._fast: CudaDriver
    def open_driver(self) -> None:
        """Load the driver, which `check_device` has found, for the calls of every batch."""
        try:
            self._fast = CudaDriver()
        except OSError as error:
            raise DeviceError(f"{self._name}: the NVIDIA driver does not load: {error}") from error

    def check_device(self, index: int) -> None:
        """Raise DeviceError, with the cure, if there is no such device here."""
        _, version = self._runtime.cudaDriverGetVersion()
        number, count = self._runtime.cudaGetDeviceCount()
        problem = unusable(int(number), number.name, version)
        if not problem and not 0 <= index < count:
            problem = f"no such device: {count} are visible. Check CUDA_VISIBLE_DEVICES"
        if problem:
            raise DeviceError(f"{self._name}: {problem}")

    def numa_node(self, index: int) -> int:
        """The node of host memory that is nearest to the device; -1 where there are none."""
        wanted = self._runtime.cudaDeviceAttr.cudaDevAttrHostNumaId
        error, node = self._runtime.cudaDeviceGetAttribute(wanted, index)
        return -1 if error else int(node)

    def pci(self, index: int) -> str:
        """The device's place on the bus, which is its name for the driver's other library."""
        error, place = self._runtime.cudaDeviceGetPCIBusId(32, index)
        self._check(error, "asking for the place on the bus")
        return str(place.rstrip(b"\0").decode())

    def mind_own_captures(self) -> None:
        """Let this thread's calls, such as allocating, neither fail nor break anything while
        another thread captures a graph. By default CUDA forbids many calls to all threads then.
        """
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        error, _ = self._runtime.cudaThreadExchangeStreamCaptureMode(mode)
        self._check(error, "setting how the thread minds captures")

    def stream_priorities(self) -> tuple[int, int]:
        """(least urgent, most urgent): the second is the smaller number."""
        error, least, greatest = self._runtime.cudaDeviceGetStreamPriorityRange()
        self._check(error, "asking for the streams' priorities")
        return least, greatest

    def memory(self) -> tuple[int, int]:
        """(free, total) bytes of the thread's device."""
        error, free, total = self._runtime.cudaMemGetInfo()
        self._check(error, "asking for the free memory")
        return free, total

    def allocate(self, size: int) -> int:
        """Device memory."""
        error, address = self._runtime.cudaMalloc(size)
        if error:
            unknown, free, total = self._runtime.cudaMemGetInfo()
            left = "" if unknown else f", of which {free} of {total} are free"
            raise self.failure(error, f"allocating {size} bytes of device memory{left}")
        return int(address)

    def free(self, address: int) -> None:
        """Give device memory back. Waits for the device."""
        error, = self._runtime.cudaFree(address)
        self._check(error, "freeing device memory")

    def allocate_pinned(self, size: int) -> int:
        """Host memory that every device copies from and to without help from the CPU."""
        error, address = self._runtime.cudaHostAlloc(size, self._runtime.cudaHostAllocPortable)
        if error:
            raise self.failure(error, _pinning(size))
        return int(address)

    def free_pinned(self, address: int) -> None:
        """Give that host memory back."""
        error, = self._runtime.cudaFreeHost(address)
        self._check(error, "freeing pinned memory")

    def register(self, address: int, size: int) -> None:
        """Make memory that is there already as good as that of `allocate_pinned`."""
        flag = self._runtime.cudaHostRegisterPortable
        error, = self._runtime.cudaHostRegister(address, size, flag)
        if error:
            raise self.failure(error, _pinning(size))

    def unregister(self, address: int) -> None:
        """Undo `register`."""
        error, = self._runtime.cudaHostUnregister(address)
        self._check(error, "unpinning host memory")

    def record(self, event: int, stream: int) -> None:
        """Mark a point on a stream, both by their handles."""
        number = self._fast.record(event, stream)
        if number:
            raise self._of_driver(number, "recording an event")

    def wait(self, stream: int, event: int) -> None:
        """Hold back a stream's later work until an event."""
        number = self._fast.wait(stream, event)
        if number:
            raise self._of_driver(number, "letting a stream wait for an event")

    def copy(self, copy: Copy, stream: int) -> None:
        """Queue one copy, in any direction."""
        if not copy[2]:
            return
        number = self._fast.copy(copy, stream)
        if number:
            raise self._of_driver(number, f"copying {copy[2]} bytes")

    def copy_each(self, copies: Sequence[Copy], stream: int) -> None:
        """Queue copies one by one."""
        for copy in copies:
            self.copy(copy, stream)

    def copy_batch(self, copies: Sequence[Copy], stream: int) -> None:
        """Queue copies with one call, where the driver can. They run in any order."""
        # Alone, pieces of no bytes are harmless; in a batch no word of CUDA's allows them.
        copies = [copy for copy in copies if copy[2]]
        if not copies:
            return
        number = self._fast.copy_batch(copies, stream)
        if number:
            size = sum(copy[2] for copy in copies)
            raise self._of_driver(number, f"copying {size} bytes in {len(copies)} pieces")

    def elapsed_ns(self, since: int, until: int) -> int:
        """The time between two reached events, which CUDA gives as a float of milliseconds."""
        number, elapsed_ms = self._fast.elapsed_ms(since, until)
        if number:
            raise self._of_driver(number, "reading the time between events that should be reached")
        return round(elapsed_ms * 1e6)

    def begin_capture(self, stream: int) -> None:
        """Record what this thread queues on a stream. Other threads' calls are not minded."""
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        error, = self._runtime.cudaStreamBeginCapture(stream, mode)
        self._check(error, "beginning to capture a graph")

    def end_capture(self, stream: int) -> Any:
        """A graph of what was recorded, ready to run; its handle is its int."""
        error, graph = self._runtime.cudaStreamEndCapture(stream)
        if not error:
            error, ready = self._runtime.cudaGraphInstantiate(graph, 0)
            self._runtime.cudaGraphDestroy(graph)
        if error:
            # The runtime would tell of it again, to whoever asks for its last error.
            self._runtime.cudaGetLastError()
            raise self.failure(error, "capturing a graph")
        return ready

    def launch(self, graph: int, stream: int) -> None:
        """Queue a graph."""
        number = self._fast.launch(graph, stream)
        if number:
            raise self._of_driver(number, "launching a graph")

    def free_graph(self, graph: Any) -> None:
        """Give a graph back."""
        error, = self._runtime.cudaGraphExecDestroy(graph)
        self._check(error, "freeing a graph")

    def mappings(self, index: int) -> CudaMappings:
        """The calls for memory that grows, on the device of that number."""
        return CudaMappings(self._driver, index)

    def check_driver(self, number: int, doing: str) -> None:
        """Raise DeviceError for what the driver returned, unless that is 0."""
        if number:
            raise self._of_driver(number, doing)

    @property
    def batches(self) -> bool:
        """Whether this driver has a call for several copies."""
        return self._fast.batches

    def translated(self, error: Exception, doing: str) -> DeviceError:
        """What cuda.core raised, as a DeviceError.

        Its errors begin with the name that the driver, or the runtime, gives them.
        """
        number = self._numbered(str(error).partition(":")[0])
        if not number:
            # An objection of its own, or one that lost the number on the way: if the device has
            # failed, it says so again.
            number, *_ = self._runtime.cudaMemGetInfo()
        if not number:
            return DeviceError(f"{self._name}: {doing}: {error}")
        return self.failure(number, doing)

    def _of_driver(self, number: int, doing: str) -> DeviceError:
        """The DeviceError for what the driver returned: the runtime has the same numbers."""
        kind = self._runtime.cudaError_t
        try:
            return self.failure(kind(number), doing)
        except ValueError:
            return self.failure(kind.cudaErrorUnknown, f"{doing} (the driver says {number})")

    def failure(self, error: Any, doing: str) -> DeviceError:
        """The DeviceError for what a call returned."""
        _, text = self._runtime.cudaGetErrorString(error)
        return device_error(int(error), error.name, text.decode(), f"{self._name}: {doing}")

    def _numbered(self, name: str) -> Any:
        """The runtime's error of that name, or of the driver's name for it; None: there is none."""
        kind = self._runtime.cudaError_t
        if name.startswith("cudaError"):
            return getattr(kind, name, None)
        if name.startswith("CUDA_ERROR_"):
            try:
                return kind(int(getattr(self._driver.CUresult, name, -1)))
            except ValueError:  # the driver has a few that the runtime has no number for
                return None
        return None

    def _check(self, error: Any, doing: str) -> None:
        if error:
            raise self.failure(error, doing)


def _pinning(size: int) -> str:
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f"pinning {size} bytes of host memory, of which {free} are free"
