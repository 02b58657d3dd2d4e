"""A stand-in for TensorRT's Python modules, for machines where none of them can run.

It has their names, their signatures and their ways: calls fail by returning None or False and
say why to the logger, enums belong to their module, and contexts need what real ones need before
they run. What it computes is real work, which a `Machine` does: on the host, or by a kernel on a
stream of a GPU.
"""

import ctypes
import enum
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Protocol

import numpy as np

from trtserve.testing.device import FakeDevice
from trtserve.testing.tensorrt_engine import ContextBase, EngineBase, RtxContextBase
from trtserve.testing.tensorrt_plan import VERSIONS, decode_plan

Array = np.ndarray[Any, Any]


class Machine(Protocol):
    """What runs the work of plans. Streams are handles, places are addresses."""

    def double(self, stream: int, target: int, source: int, count: int, datatype: str) -> None:
        """Queue: so many elements, each twice the source's. `datatype` is TensorRT's name."""

    def read(self, stream: int, address: int, size: int) -> bytes:
        """What is there once the stream has come so far. Fails while it records."""

    def capturing(self, stream: int) -> bool:
        """Whether the stream records."""


NUMPY = {
    "FLOAT": np.float32, "HALF": np.float16, "INT8": np.int8, "INT32": np.int32,
    "INT64": np.int64, "UINT8": np.uint8, "BOOL": np.bool_,
}


ENUMS = {
    "DataType": (*NUMPY, "BF16", "FP8", "INT4", "FP4", "E8M0"),
    "TensorIOMode": ("NONE", "INPUT", "OUTPUT"),
    "TensorLocation": ("DEVICE", "HOST"),
    "ExecutionContextAllocationStrategy": ("STATIC", "ON_PROFILE_CHANGE", "USER_MANAGED"),
    "ProfilingVerbosity": ("LAYER_NAMES_ONLY", "NONE", "DETAILED"),
    "TensorFormat": ("LINEAR", "CHW4", "HWC", "HWC8"),
}

SEVERITIES = ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")


class HostMachine:
    """Computes with NumPy, in the time of a fake device's streams."""

    def __init__(self, device: FakeDevice, duration_ns: int = 1000) -> None:
        self._device = device
        self._duration_ns = duration_ns

    def double(self, stream: int, target: int, source: int, count: int, datatype: str) -> None:
        """Compute when the stream comes to it."""
        kind = np.dtype(NUMPY[datatype])

        def work() -> None:
            values = np.frombuffer(ctypes.string_at(source, count * kind.itemsize), kind)
            data = (values + values).astype(kind).tobytes()
            ctypes.memmove(target, data, len(data))

        self._device.streams[stream - 1].run(f"double {count}", self._duration_ns, work)

    def read(self, stream: int, address: int, size: int) -> bytes:
        """Wait for the stream and look."""
        self._device.streams[stream - 1].synchronize()
        return ctypes.string_at(address, size)

    def capturing(self, stream: int) -> bool:
        """Whether the stream records."""
        return self._device.streams[stream - 1].capturing


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was made: the class's name, the method's, and the arguments."""

    owner: str
    method: str
    arguments: tuple[Any, ...]


class StandIn(types.ModuleType):
    """The module. `runtimes` counts those that were made; `calls` are all that were made of
    classes of the module, if they are recorded."""

    # They are made for each module, as the real ones are.
    DataType: Any
    TensorIOMode: Any
    TensorLocation: Any
    TensorFormat: Any
    ExecutionContextAllocationStrategy: Any
    ProfilingVerbosity: Any
    ILogger: Any
    IOutputAllocator: Any
    IRuntimeConfig: Any
    IRuntimeCache: Any
    Runtime: Any
    ICudaEngine: Any
    IExecutionContext: Any

    def __init__(self, machine: Machine, name: str, version: str, gpu: str) -> None:
        super().__init__(name)
        self.__version__ = version
        self.machine = machine
        self.gpu = gpu
        self.runtimes = 0
        self.calls: list[Call] = []
        self._failures: dict[str, list[str | None]] = {}

    def fail(self, method: str, message: str, nth: int = 1) -> None:
        """Let the nth call of a method from now (1: the next) fail, and the logger be told."""
        self._failures[method] = [None] * (nth - 1) + [message]

    def failure(self, method: str) -> str | None:
        """What the present call of a method fails with."""
        queue = self._failures.get(method)
        return queue.pop(0) if queue else None


def make_module(
    machine: Machine, name: str = "tensorrt", *, version: str = "", gpu: str = "9.0",
    recording: bool = False,
) -> StandIn:
    """A stand-in for the module of that name. `gpu`: the compute capability that it runs on."""
    module = StandIn(machine, name, version or VERSIONS[name], gpu)
    for enumeration, names in ENUMS.items():
        if (enumeration, name) != ("TensorFormat", "tensorrt_lean"):
            setattr(module, enumeration, _enum(enumeration, names))
    severity = _enum("Severity", SEVERITIES)
    levels = dict(severity.__members__)
    bases: dict[str, tuple[type, ...]] = {
        "ILogger": (LoggerBase,), "IOutputAllocator": (OutputAllocatorBase,),
        "Runtime": (RuntimeBase,), "ICudaEngine": (EngineBase,),
        "IExecutionContext": (ContextBase,), "IRuntimeConfig": (RuntimeConfigBase,),
    }
    if name == "tensorrt_rtx":
        specialization = "DynamicShapesKernelSpecializationStrategy"
        setattr(module, specialization, _enum(specialization, ("LAZY", "EAGER", "NONE")))
        bases["IExecutionContext"] = (RtxContextBase,)
        bases["IRuntimeConfig"] = (RtxRuntimeConfigBase,)
        bases["IRuntimeCache"] = (RuntimeCacheBase,)
    for cls, base in bases.items():
        members = {"module": module, "Severity": severity, **levels} if cls == "ILogger" else {
            "module": module
        }
        made = type(cls, base, members)
        setattr(module, cls, _recorded(made, module) if recording else made)
    return module


def _enum(name: str, names: Sequence[str]) -> Any:
    """An enum of the module's own: mixing modules is an error, here as there."""
    make: Any = enum.Enum
    return make(name, list(names))


def _recorded(cls: type, module: StandIn) -> type:
    """The class with methods that note their calls."""
    owner = cls.__name__

    def noting(method: str, real: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(real)
        def call(self: Any, *arguments: Any) -> Any:
            module.calls.append(Call(owner, method, arguments))
            return real(self, *arguments)

        return call

    members = {
        name: noting(name, getattr(cls, name))
        for name in dir(cls)
        if (name == "__init__" or not name.startswith("_"))
        and isinstance(getattr(cls, name), types.FunctionType)
    }
    return type(owner, (cls,), members)


class LoggerBase:
    """ILogger. Users make a class of their own of it."""

    module: StandIn

    def __init__(self) -> None:
        """As in TensorRT, the class of one's own has to call this."""

    def log(self, severity: Any, msg: str) -> None:
        """Hear a message."""
        raise NotImplementedError


class OutputAllocatorBase:
    """IOutputAllocator. Users make a class of their own of it, with three methods."""

    module: StandIn

    def __init__(self) -> None:
        """As in TensorRT, the class of one's own has to call this."""


class RuntimeBase:
    """Runtime."""

    module: StandIn

    def __init__(self, logger: Any) -> None:
        self.logger = logger
        self.engine_host_code_allowed = False
        self.module.runtimes += 1

    def deserialize_cuda_engine(self, serialized_engine: Any) -> Any:
        """An engine, or None."""
        module = self.module
        message = module.failure("deserialize_cuda_engine")
        if message is None:
            plan = decode_plan(bytes(serialized_engine), module.__name__)
            if isinstance(plan, str):
                message = plan
            elif plan.version != module.__version__:
                message = (
                    "Error Code 6: API Usage Error (The engine plan file is not compatible with "
                    f"this version of TensorRT, expecting library version {module.__version__} "
                    f"got {plan.version}, please rebuild.)"
                )
            elif plan.gpu != module.gpu:
                message = (
                    "Error Code 6: API Usage Error (The engine plan file is generated on an "
                    f"incompatible device, expecting compute {module.gpu} got compute "
                    f"{plan.gpu}, please rebuild.)"
                )
            elif plan.host_code and not self.engine_host_code_allowed:
                message = (
                    "Error Code 4: API Usage Error (Engine deserialization failed: plan has host "
                    "code and engine_host_code_allowed is false)"
                )
            else:
                return module.ICudaEngine(plan, self.logger)
        self.logger.log(module.ILogger.ERROR, message)
        return None


class RuntimeConfigBase:
    """IRuntimeConfig."""

    module: StandIn

    def __init__(self) -> None:
        self.strategy = self.module.ExecutionContextAllocationStrategy.STATIC

    def set_execution_context_allocation_strategy(self, strategy: Any = None) -> None:
        """Choose where contexts have their memory from."""
        self.strategy = strategy

    def get_execution_context_allocation_strategy(self) -> Any:
        """What was chosen."""
        return self.strategy


class RuntimeCacheBase:
    """IRuntimeCache, of TensorRT-RTX."""

    module: StandIn


class RtxRuntimeConfigBase(RuntimeConfigBase):
    """IRuntimeConfig of TensorRT-RTX."""

    def __init__(self) -> None:
        super().__init__()
        self.dynamic_shapes_kernel_specialization_strategy: Any = None
        self.cache: Any = None

    def create_runtime_cache(self) -> Any:
        """A cache for compiled kernels."""
        return self.module.IRuntimeCache()

    def set_runtime_cache(self, cache: Any = None) -> bool:
        """Use it."""
        self.cache = cache
        return True


def methods_of(cls: type) -> Sequence[str]:
    """The names of what a class of the stand-in can be asked to do."""
    return sorted(
        name for name in dir(cls)
        if not name.startswith("_") and isinstance(getattr(cls, name), types.FunctionType)
    )
