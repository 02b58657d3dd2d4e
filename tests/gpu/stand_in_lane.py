"""A stream of a real device, and a runtime of TensorRT's stand-in whose kernels are real."""

import ctypes
from pathlib import Path

import numpy as np

from tests.gpu.tensorrt_machine import CudaMachine
from trtserve.device.cuda import CudaDevice
from trtserve.engine.interface import Context, TensorMemory
from trtserve.engine.scratch import Scratch
from trtserve.engine.tensorrt import TensorRtRuntime
from trtserve.engine.tensorrt_plan import PlanRules
from trtserve.testing.tensorrt import make_module
from trtserve.testing.tensorrt_plan import make_plan

WIDTH = 256
LIMITS = ((1, WIDTH), (4, WIDTH), (32, WIDTH))


class Lane:
    """A stream, scratch memory, and a runtime."""

    def __init__(self, device: CudaDevice, folder: Path) -> None:
        self.device = device
        self.path = str(folder / "model.plan")
        self.machine = CudaMachine()
        module = make_module(self.machine, gpu=device.compute_capability)
        self.runtime = TensorRtRuntime(module, PlanRules(writable=True))
        self.stream = device.create_stream()
        self.scratch = Scratch(device)
        self._staging = device.allocate_staging(1 << 20)

    def context(self, rows: int = 0, **options: object) -> Context:
        options = {"shapes": [LIMITS], "gpu": self.device.compute_capability, **options}
        make_plan(self.path, **options)  # type: ignore[arg-type]
        return self.load(rows)

    def load(self, rows: int = 0) -> Context:
        engine = self.runtime.load(self.path, self.device, {})
        return engine.create_context(
            0, self.stream, [(rows, WIDTH)] if rows else None, self.scratch
        )

    def place(self, rows: int) -> TensorMemory:
        size = rows * WIDTH * 4
        return TensorMemory(self.device.allocate(max(1, size)).address, size, (rows, WIDTH))

    def write(self, memory: TensorMemory, values: np.ndarray) -> None:
        data = np.ascontiguousarray(values, np.float32).tobytes()
        ctypes.memmove(self._staging.address, data, len(data))
        self.stream.copy([(memory.address, self._staging.address, len(data))])
        self.stream.synchronize()

    def read(self, memory: TensorMemory) -> np.ndarray:
        self.stream.copy([(self._staging.address, memory.address, memory.size)])
        self.stream.synchronize()
        data = ctypes.string_at(self._staging.address, memory.size)
        return np.frombuffer(data, np.float32).reshape(memory.shape)

    def run(self, context: Context, values: np.ndarray) -> np.ndarray:
        source = self.place(len(values))
        self.write(source, values)
        (found,) = context.enqueue(self.stream, [source], [None])
        return self.read(found)
