"""ONNX Runtime on the CPU: the embedded default engine.

One session for each file, shared by all lanes: its Run may be called from many threads, and a
second session would hold the weights twice. Each lane's context keeps a binding of its own.
"""

import ctypes
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from trtserve.device.interface import Device, Stream
from trtserve.engine.interface import TensorMemory
from trtserve.engine.onnx_signature import BFLOAT16, Port, describe, plan_outputs, read_port
from trtserve.engine.onnxruntime_errors import load_error, readable
from trtserve.errors import ExecutionFailed, InvalidRequest, ModelLoadError
from trtserve.model.tensor import Shape, decode, encode

log = logging.getLogger(__name__)

THREADS_OPTION = "intra_op_thread_count"
"""The model configuration's parameter for the threads of one run, under Triton's name for it."""

_EMPTY = ctypes.create_string_buffer(256)
_EMPTY_ADDRESS = ctypes.addressof(_EMPTY)  # bindings refuse 0, even for a tensor of no elements

class OnnxRuntime:
    """Loads .onnx files for the CPU. Raises ModelLoadError where ONNX Runtime is missing."""

    suffixes = (".onnx",)

    def __init__(self) -> None:
        self._ort = _import_onnxruntime()
        # Making sessions at the same time is not documented as safe.
        self._loading = threading.Lock()

    def load(self, path: str, device: Device, options: Mapping[str, str]) -> "OnnxEngine":
        """Load one file; `intra_op_thread_count` is the only option.

        Raises ModelLoadError that names the file, the cause and the cure.
        """
        if not os.path.isfile(path):
            raise ModelLoadError("there is no such file", where=path, cure="Put the model there")
        if not device.unified:
            raise ModelLoadError(
                f"ONNX models are not served on {device.name}", where=path,
                cure="Serve it on the device cpu",
            )
        settings = self._ort.SessionOptions()
        # A pool for each session, of which only as many threads wake as lanes have work for.
        # The process-wide pool would save idle threads, but its spinning can not be switched
        # off: short runs with pauses cost seven times the CPU, taken from the front ends.
        settings.intra_op_num_threads = _threads(path, device.default_lanes, options)
        settings.inter_op_num_threads = 1
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        settings.log_severity_level = 2
        try:
            with self._loading:
                session = self._ort.InferenceSession(
                    path, settings, providers=["CPUExecutionProvider"], enable_fallback=0
                )
        except Exception as error:
            # Its exceptions have no base of their own.
            raise load_error(path, error, self._ort.__version__) from error
        return OnnxEngine(self._ort, session, path)


class OnnxEngine:
    """One .onnx file and its session: one variant, as ONNX has no profiles."""

    platform = "onnxruntime_onnx"

    def __init__(self, ort: Any, session: Any, path: str) -> None:
        self.ort = ort
        self.session = session
        inputs, outputs = session.get_inputs(), session.get_outputs()
        self.inputs = tuple(read_port(path, "input", node) for node in inputs)
        self.outputs = tuple(read_port(path, "output", node) for node in outputs)
        self.takes_text = any(port.datatype == "BYTES" for port in self.inputs)
        if self.takes_text:
            _refuse_bfloat16(path, self.outputs)
        self.variants = (describe(os.path.basename(path), inputs, outputs),)
        self.output_plan = plan_outputs(inputs, outputs)
        """Each output's dimensions; None: known after the run only."""

    def create_context(self, variant: int) -> "OnnxContext":
        """A context for the only variant, 0."""
        if self.session is None or variant != 0:
            raise IndexError(f"no variant {variant}: an open ONNX engine has variant 0 only")
        return OnnxContext(self)

    def distrust_shapes(self) -> None:
        """From now on let the runtime place all outputs: a declared shape proved wrong."""
        log.warning(
            "%s declares output shapes that it does not keep; its outputs are copied",
            self.variants[0].name,
        )
        self.output_plan = (None,) * len(self.outputs)

    def close(self) -> None:
        """Free the weights. Twice is harmless."""
        self.session = None


class OnnxContext:
    """One lane's binding to the shared session."""

    def __init__(self, engine: OnnxEngine) -> None:
        self._engine = engine
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
        return [
            None
            if dims is None
            else tuple([at if index < 0 else inputs[index][at] for index, at in dims])
            for dims in self._engine.output_plan
        ]

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
            for port, memory in zip(self._engine.inputs, inputs, strict=True):
                self._binding.bind_input(
                    port.name, "cpu", 0, port.element, memory.shape,
                    memory.address or _EMPTY_ADDRESS,
                )
            return self._run_bound(outputs)
        except Exception as error:
            if not any(outputs):
                raise ExecutionFailed(readable(error)) from error
        return self._run_unplaced(outputs)

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
            self._engine.distrust_shapes()
        return results

    def _run_bound(self, outputs: Sequence[TensorMemory | None]) -> Sequence[TensorMemory]:
        """Run with the inputs that are bound."""
        binding, ports = self._binding, self._engine.outputs
        for port, memory in zip(ports, outputs, strict=True):
            # Each time anew: what is bound after a run is that run's memory and its shape.
            if memory is None:
                binding.bind_output(port.name)
            else:
                binding.bind_output(
                    port.name, "cpu", 0, port.element, memory.shape,
                    memory.address or _EMPTY_ADDRESS,
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
            for port, memory in zip(self._engine.inputs, inputs, strict=True)
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
            for port, array in zip(self._engine.outputs, arrays, strict=True)
        ]

    def _decoded(self, port: Port, memory: TensorMemory) -> Any:
        """An input as ONNX Runtime's Python interface takes it."""
        address = memory.address or _EMPTY_ADDRESS
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
            cure="Install it: pip install 'trtserve[cpu]'",
        ) from error
    return onnxruntime


def _threads(path: str, lanes: int, options: Mapping[str, str]) -> int:
    """Threads for one run. By default its lane's own and the cores that no other lane needs."""
    wanted = options.get(THREADS_OPTION)
    if wanted is None:
        return max(1, len(os.sched_getaffinity(0)) - lanes + 1)
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


