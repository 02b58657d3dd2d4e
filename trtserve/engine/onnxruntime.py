"""ONNX Runtime: the embedded default engine, on the CPU. For CUDA see onnxruntime_cuda.py.

One session for each file, shared by all lanes: its Run may be called from many threads, and a
second session would hold the weights twice. Each lane's context keeps a binding of its own.
"""

import ctypes
import os
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from trtserve.cores import core_count
from trtserve.device.interface import Device, Stream
from trtserve.engine.interface import TensorMemory
from trtserve.engine.onnx_signature import BFLOAT16, Port, Signature
from trtserve.engine.onnxruntime_cuda import CudaOnnxEngine, load_on_cuda
from trtserve.engine.onnxruntime_errors import load_error, readable
from trtserve.engine.onnxruntime_installed import CPU
from trtserve.engine.onnxruntime_session import EMPTY_ADDRESS, make_session
from trtserve.engine.scratch import Scratch
from trtserve.errors import ExecutionFailed, InvalidRequest, ModelLoadError
from trtserve.model.tensor import Shape, decode, encode

THREADS_OPTION = "intra_op_thread_count"
"""The model configuration's parameter for the threads of one run, under Triton's name for it."""


class OnnxRuntime:
    """Loads .onnx files. Raises ModelLoadError where ONNX Runtime is missing."""

    suffixes = (".onnx",)

    def __init__(self) -> None:
        self._ort = _import_onnxruntime()

    def load(
        self, path: str, device: Device, options: Mapping[str, str]
    ) -> "OnnxEngine | CudaOnnxEngine":
        """Load one file. Options: on the CPU `intra_op_thread_count`, on CUDA `gpu_mem_limit`,
        `cudnn_conv_algo_search` and `prefer_nhwc`.

        Raises ModelLoadError that names the file, the cause and the cure.
        """
        if not os.path.isfile(path):
            raise ModelLoadError("there is no such file", where=path, cure="Put the model there")
        if device.unified:
            return self._load_on_cpu(path, device, options)
        if device.name.startswith("cuda:"):
            return load_on_cuda(self._ort, path, device, options)
        raise ModelLoadError(
            f"ONNX models are not served on {device.name}", where=path,
            cure="Serve it on the device cpu",
        )

    def _load_on_cpu(self, path: str, device: Device, options: Mapping[str, str]) -> "OnnxEngine":
        settings = self._ort.SessionOptions()
        # A pool for each session, of which only as many threads wake as lanes have work for.
        # The process-wide pool would save idle threads, but its spinning can not be switched
        # off: short runs with pauses cost seven times the CPU, taken from the front ends.
        settings.intra_op_num_threads = _threads(path, device.default_lanes, options)
        settings.inter_op_num_threads = 1
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        settings.log_severity_level = 2
        try:
            session = make_session(self._ort, path, settings, CPU)
        except Exception as error:
            # Its exceptions have no base of their own.
            raise load_error(path, error, self._ort.__version__) from error
        return OnnxEngine(self._ort, session, path)


class OnnxEngine:
    """One .onnx file and its session: one variant, as ONNX has no profiles."""

    platform = "onnxruntime_onnx"
    pins = False
    captures = False

    def __init__(self, ort: Any, session: Any, path: str) -> None:
        self.ort = ort
        self.session = session
        self.signature = Signature(path, session)
        self.takes_text = any(port.datatype == "BYTES" for port in self.signature.inputs)
        if self.takes_text:
            _refuse_bfloat16(path, self.signature.outputs)
        self.variants = (self.signature.variant,)

    def create_context(
        self, variant: int, stream: Stream, shapes: Sequence[Shape] | None = None,
        scratch: Scratch | None = None,
    ) -> "OnnxContext":
        """A context for the only variant, 0. It takes any shape, whatever `shapes` says."""
        if self.session is None or variant != 0:
            raise IndexError(f"no variant {variant}: an open ONNX engine has variant 0 only")
        return OnnxContext(self)

    def close(self) -> None:
        """Free the weights. Twice is harmless."""
        self.session = None


class OnnxContext:
    """One lane's binding to the shared session."""

    def __init__(self, engine: OnnxEngine) -> None:
        self._engine = engine
        self._signature = engine.signature
        self._session = engine.session
        self._binding = engine.session.io_binding()
        self._options = engine.ort.RunOptions()
        # Fatal only: what fails is raised, and logged with its batch by whoever knows that.
        self._options.log_severity_level = 4
        # Means nothing on a CPU. Where it is absent, ONNX Runtime 1.32 looks for it at each run
        # by way of a C++ exception, which costs 27 us.
        self._options.add_run_config_entry("gpu_graph_id", "-1")
        self._kept: Any = None  # the memory of the outputs that the engine placed

    def output_shapes(self, inputs: Sequence[Shape]) -> list[Shape | None]:
        """The outputs' whole shapes for these whole input shapes; None: not known before."""
        return self._signature.output_shapes(inputs)

    def enqueue(
        self,
        stream: Stream,
        inputs: Sequence[TensorMemory],
        outputs: Sequence[TensorMemory | None],
    ) -> Sequence[TensorMemory]:
        """Run now. An output whose declared shape proves wrong comes back at another address.

        Raises ExecutionFailed with ONNX Runtime's cause in one line, InvalidRequest for BYTES
        that are not UTF-8.
        """
        if self._engine.takes_text:
            return self._run_decoded(inputs)
        try:
            for port, memory in zip(self._signature.inputs, inputs, strict=True):
                self._binding.bind_input(
                    port.name, "cpu", 0, port.element, memory.shape,
                    memory.address or EMPTY_ADDRESS,
                )
            return self._run_bound(outputs)
        except Exception as error:
            if not any(outputs):
                raise ExecutionFailed(readable(error)) from error
        return self._run_unplaced(outputs)

    def capture(
        self, stream: Stream, inputs: Sequence[TensorMemory], outputs: Sequence[TensorMemory]
    ) -> None:
        """Raises ExecutionFailed: a CPU has no graphs."""
        raise ExecutionFailed("runs on the CPU can not be captured")

    def release_graph(self) -> None:
        """There is none."""

    def close(self) -> None:
        """Drop the binding and the last outputs. Twice is harmless."""
        self._binding = self._session = self._kept = None

    def _run_unplaced(self, outputs: Sequence[TensorMemory | None]) -> Sequence[TensorMemory]:
        """After a failure with placed outputs: was it their shapes?"""
        try:
            results = self._run_bound([None] * len(outputs))
        except Exception as error:
            raise ExecutionFailed(readable(error)) from error
        if any(given and given.shape != found.shape
               for given, found in zip(outputs, results, strict=True)):
            self._signature.distrust_shapes()
        return results

    def _run_bound(self, outputs: Sequence[TensorMemory | None]) -> Sequence[TensorMemory]:
        """Run with the inputs that are bound."""
        binding, ports = self._binding, self._signature.outputs
        for port, memory in zip(ports, outputs, strict=True):
            # Each time anew: what is bound after a run is that run's memory and its shape.
            if memory is None:
                binding.bind_output(port.name)
            else:
                binding.bind_output(
                    port.name, "cpu", 0, port.element, memory.shape,
                    memory.address or EMPTY_ADDRESS,
                )
        self._session.run_with_iobinding(binding, self._options)
        self._kept = None
        if None not in outputs:
            return [memory for memory in outputs if memory]
        values = self._kept = binding.get_outputs()
        return [
            given or self._found(port, value)
            for given, port, value in zip(outputs, ports, values, strict=True)
        ]

    def _found(self, port: Port, value: Any) -> TensorMemory:
        """An output where the runtime has placed it."""
        if not port.itemsize:
            return self._encoded(value.numpy())
        shape = tuple(value.shape())
        return TensorMemory(value.data_ptr(), prod(shape) * port.itemsize, shape)

    def _encoded(self, array: np.ndarray[Any, Any]) -> TensorMemory:
        """Text as wire bytes, kept until the next run."""
        data = encode(array)
        # A NumPy array has an address even where it is empty.
        memory = np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)
        self._kept = (self._kept, memory)
        return TensorMemory(memory.ctypes.data, len(data), array.shape)

    def _run_decoded(self, inputs: Sequence[TensorMemory]) -> list[TensorMemory]:
        """Run with text inputs, which can not be bound by address."""
        feeds = {
            port.name: self._decoded(port, memory)
            for port, memory in zip(self._signature.inputs, inputs, strict=True)
        }
        try:
            arrays = self._session.run(None, feeds, self._options)
        except Exception as error:
            raise ExecutionFailed(readable(error)) from error
        self._kept = arrays = [np.ascontiguousarray(array).reshape(np.shape(array))
                               for array in arrays]
        return [
            TensorMemory(array.ctypes.data, array.nbytes, array.shape)
            if port.itemsize
            else self._encoded(array)
            for port, array in zip(self._signature.outputs, arrays, strict=True)
        ]

    def _decoded(self, port: Port, memory: TensorMemory) -> Any:
        """An input as ONNX Runtime's Python interface takes it."""
        address = memory.address or EMPTY_ADDRESS
        view = memoryview((ctypes.c_char * memory.size).from_address(address)).cast("B")
        array = decode(port.datatype, memory.shape, view)
        if port.element == BFLOAT16:
            # Not a type of NumPy's own: ONNX Runtime must be told.
            return self._engine.ort.OrtValue.ortvalue_from_numpy_with_onnx_type(
                array.view(np.uint16), BFLOAT16
            )
        if port.itemsize:
            return array
        try:
            # As text: given bytes, ONNX Runtime would take their printed form, b'...'.
            text = [item.decode() for item in array.reshape(-1)]
        except UnicodeDecodeError as error:
            raise InvalidRequest(
                f"input '{port.name}' has an element that is not UTF-8 ({error.reason}); "
                "ONNX models take BYTES as text: send other bytes as UINT8, or in base64"
            ) from error
        return np.array(text, np.object_).reshape(memory.shape)


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelLoadError(
            f"ONNX Runtime is not installed ({error})",
            cure="Install it: pip install 'trtserve[cpu]', or 'trtserve[cuda]' for GPUs",
        ) from error
    return onnxruntime


def _threads(path: str, lanes: int, options: Mapping[str, str]) -> int:
    """Threads for one run. By default its lane's own and the cores that no other lane needs."""
    wanted = options.get(THREADS_OPTION)
    if wanted is None:
        return max(1, core_count() - lanes + 1)
    if not wanted.isdecimal() or int(wanted) == 0:
        raise ModelLoadError(
            f"parameter {THREADS_OPTION} is '{wanted}'", where=path,
            cure="Give a number of threads, 1 or more",
        )
    return int(wanted)


def _refuse_bfloat16(path: str, outputs: Sequence[Port]) -> None:
    """Runs with text inputs return NumPy arrays, and NumPy has no BF16."""
    for port in outputs:
        if port.element == BFLOAT16:
            raise ModelLoadError(
                f"output '{port.name}' is BF16 in a model that takes BYTES", where=path,
                cure="Cast that output to FP32 or FP16 in the model",
            )
