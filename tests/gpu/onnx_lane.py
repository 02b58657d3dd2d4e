"""What tests of ONNX Runtime on CUDA share: a lane's things, and small nets."""

import ctypes
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import onnxruntime

from trtserve.device.cuda import CudaDevice
from trtserve.device.interface import Stream
from trtserve.engine.interface import Context, TensorMemory
from trtserve.engine.onnxruntime import OnnxRuntime
from trtserve.engine.onnxruntime_cuda import CudaOnnxEngine
from trtserve.testing import models

Array = np.ndarray[Any, Any]


class Bench:
    """One lane's things: a stream, and tensors on the device."""

    def __init__(self, device: CudaDevice) -> None:
        self.device = device
        self.stream: Stream = device.create_stream()
        self._held = ExitStack()

    def put(self, array: Array) -> TensorMemory:
        """A copy on the device."""
        memory = self.place(array.shape, array.dtype)
        self.write(memory, array)
        return memory

    def place(self, shape: Sequence[int], dtype: Any = np.float32) -> TensorMemory:
        """Room on the device, full of ones' bits."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        buffer = self.device.allocate(size)
        self._held.callback(buffer.close)
        memory = TensorMemory(buffer.address, size, tuple(shape))
        self.write(memory, np.full(size, 255, np.uint8))
        return memory

    def write(self, memory: TensorMemory, array: Array) -> None:
        """Other values in the same place."""
        staging = self.device.allocate_staging(memory.size)
        ctypes.memmove(staging.address, np.ascontiguousarray(array).ctypes.data, memory.size)
        self.stream.copy([(memory.address, staging.address, memory.size)])
        self.stream.synchronize()
        staging.close()

    def get(self, memory: TensorMemory, dtype: Any = np.float32) -> Array:
        """What the memory holds once the stream has come so far."""
        staging = self.device.allocate_staging(max(1, memory.size))
        if memory.size:
            self.stream.copy([(staging.address, memory.address, memory.size)])
        self.stream.synchronize()
        data = ctypes.string_at(staging.address, memory.size)
        staging.close()
        return np.frombuffer(data, dtype).reshape(memory.shape)

    def run(self, context: Context, *arrays: Array, place: bool = False) -> Array:
        """The only output; placed where the context knows its shape, if so wished."""
        inputs = [self.put(array) for array in arrays]
        (shape,) = context.output_shapes([memory.shape for memory in inputs])
        target = self.place(shape) if place and shape is not None else None
        (found,) = context.enqueue(self.stream, inputs, [target])
        assert target is None or found == target
        return self.get(found)

    def close_tensors(self) -> None:
        self._held.close()

    def close(self) -> None:
        self.close_tensors()
        self.stream.close()


def load(path: str, device: CudaDevice, **options: str) -> CudaOnnxEngine:
    engine = OnnxRuntime().load(path, device, options)
    assert isinstance(engine, CudaOnnxEngine)
    return engine


def assert_close(found: Array, right: Array | float) -> None:
    """TF32, ONNX Runtime's default on CUDA, keeps ten bits of what it multiplies."""
    np.testing.assert_allclose(found, right, rtol=1e-2, atol=1e-2)


def expected(path: str, *arrays: Array) -> Array:
    """What the CPU computes."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    (found,) = session.run(None, dict(zip(names, arrays, strict=True)))
    assert isinstance(found, np.ndarray)
    return found


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def vision(path: str) -> None:
    """A small net for images x[N, 3, H, W]."""
    weights = {"w1": random(16, 3, 3, 3, seed=1) / 5, "w2": random(16, 16, 3, 3, seed=2) / 12,
               "w3": random(16, 10, seed=3) / 4}
    models.save(
        path,
        [models.node("Conv", ["x", "w1"], ["a"], pads=[1, 1, 1, 1]),
         models.node("Relu", ["a"], ["b"]),
         models.node("Conv", ["b", "w2"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
         models.node("Relu", ["c"], ["d"]),
         models.node("GlobalAveragePool", ["d"], ["e"]),
         models.node("Flatten", ["e"], ["f"]),
         models.node("MatMul", ["f", "w3"], ["y"])],
        {"x": ("FP32", ("N", 3, "H", "W"))}, {"y": ("FP32", ("N", 10))}, weights,
    )


def reshaping(path: str) -> None:
    """y[N, 16] = x[N, 4, 4] + 1, with the shape computed from x's at each run."""
    models.save(
        path,
        [models.node("Shape", ["x"], ["s"]), models.node("Gather", ["s", "zero"], ["n"], axis=0),
         models.node("Mul", ["n", "one"], ["m"]),
         models.node("Concat", ["m", "rest"], ["t"], axis=0),
         models.node("Reshape", ["x", "t"], ["r"]), models.node("Add", ["r", "value"], ["y"])],
        {"x": ("FP32", ("N", 4, 4))}, {"y": ("FP32", ("N", 16))},
        {"zero": np.array([0]), "one": np.array([1]), "rest": np.array([16]),
         "value": np.array(1, np.float32)},
    )


def counting(path: str) -> None:
    """y = x + how many of x's values are not zero, which has to reach the host in between."""
    models.save(
        path,
        [models.node("NonZero", ["x"], ["places"]),
         models.node("Cast", ["places"], ["numbers"], to=1),
         models.node("Mul", ["numbers", "none"], ["zeros"]),
         models.node("Add", ["zeros", "half"], ["halves"]),
         models.node("ReduceSum", ["halves"], ["count"], keepdims=0),
         models.node("Add", ["x", "count"], ["y"])],
        {"x": ("FP32", ("N", 16))}, {"y": ("FP32", ("N", 16))},
        {"none": np.array(0, np.float32), "half": np.array(0.5, np.float32)},
    )


def branching(path: str) -> None:
    """y = x + 1 if x's values add up to more than zero, else x - 1."""
    from onnx import TensorProto, helper

    def branch(operator: str) -> Any:
        output = helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 16])
        return helper.make_graph([models.node(operator, ["x", "one"], ["z"])], "b", [], [output])

    models.save(
        path,
        [models.node("ReduceSum", ["x"], ["sum"], keepdims=0),
         models.node("Greater", ["sum", "zero"], ["more"]),
         models.node("If", ["more"], ["y"], then_branch=branch("Add"), else_branch=branch("Sub"))],
        {"x": ("FP32", ("N", 16))}, {"y": ("FP32", ("N", 16))},
        {"one": np.array(1, np.float32), "zero": np.array(0, np.float32)},
    )


def two_products(path: str, side: int) -> None:
    """y[N, side] = x[N, side] @ w @ w, for a w of ones by the side's inverse."""
    weights = np.full((side, side), 1 / side, np.float32)
    models.save(
        path,
        [models.node("MatMul", ["x", "w"], ["middle"]), models.node("Sin", ["middle"], ["sine"]),
         models.node("MatMul", ["sine", "w"], ["y"])],
        {"x": ("FP32", ("N", side))}, {"y": ("FP32", ("N", side))}, {"w": weights},
    )
