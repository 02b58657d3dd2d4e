"""What tests of the adapter for TensorRT share: a lane of a fake device, and a stand-in module."""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trtserve.device.interface import Buffer
from trtserve.engine.interface import Context, TensorMemory
from trtserve.engine.scratch import Scratch
from trtserve.engine.tensorrt import TensorRtRuntime
from trtserve.engine.tensorrt_engine import TensorRtEngine
from trtserve.engine.tensorrt_plan import PlanRules
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice
from trtserve.testing.engine import read
from trtserve.testing.tensorrt import HostMachine, make_module

Array = np.ndarray[Any, Any]

ANYWHERE = PlanRules(writable=True)
"""Temporary folders may lie where others can write."""


class Stand:
    """A device, a module, a runtime, and one lane's stream and scratch memory."""

    def __init__(
        self, folder: Path, name: str = "tensorrt", *, recording: bool = False,
        rules: PlanRules = ANYWHERE,
    ) -> None:
        self.path = str(folder / "model.plan")
        self.device = FakeDevice(FakeClock())
        self.module = make_module(HostMachine(self.device), name, recording=recording)
        self.runtime = TensorRtRuntime(self.module, rules)
        self.stream = self.device.create_stream()
        self.scratch = Scratch(self.device)
        self._buffers: list[Buffer] = []

    def load(self) -> TensorRtEngine:
        """Load the plan."""
        return self.runtime.load(self.path, self.device, {})

    def context(
        self, engine: TensorRtEngine, *shapes: tuple[int, ...], variant: int = 0
    ) -> Context:
        """A context; with shapes, for these only."""
        return engine.create_context(variant, self.stream, shapes or None, self.scratch)

    def put(self, array: Array) -> TensorMemory:
        """A copy where the engine reaches it."""
        memory = self.place(array.shape, array.dtype)
        self.write(memory, array)
        return memory

    def place(self, shape: Sequence[int], dtype: Any = np.float32) -> TensorMemory:
        """Room where the engine reaches it."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._buffers.append(self.device.allocate(max(1, size)))
        return TensorMemory(self._buffers[-1].address, size, tuple(shape))

    def write(self, memory: TensorMemory, array: Array) -> None:
        """Other values in the same place."""
        ctypes.memmove(memory.address, np.ascontiguousarray(array).ctypes.data, array.nbytes)

    def run(self, context: Context, *arrays: Array, datatype: str = "FP32") -> list[Array]:
        """All outputs, where the context puts them."""
        inputs = [self.put(array) for array in arrays]
        count = len(context.output_shapes([memory.shape for memory in inputs]))
        found = context.enqueue(self.stream, inputs, [None] * count)
        self.stream.synchronize()
        return [read(memory, datatype) for memory in found]


def rows(count: int, width: int = 4) -> Array:
    """Rows of distinct values."""
    return np.arange(1, count * width + 1, dtype=np.float32).reshape(count, width)
