"""A session of ONNX Runtime that runs on one stream, plainly or as a captured graph."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from trtserve.device.interface import Stream
from trtserve.engine.interface import TensorMemory
from trtserve.engine.onnx_signature import Signature
from trtserve.engine.onnxruntime_errors import FileErrors, device_lost, shortage
from trtserve.engine.onnxruntime_session import EMPTY_ADDRESS, making
from trtserve.errors import ExecutionFailed
from trtserve.model.tensor import Shape


@dataclass(frozen=True, slots=True)
class Target:
    """Where sessions run, in ONNX Runtime's words: a provider, a kind of memory, a device."""

    provider: str
    memory: str
    index: int


@dataclass(frozen=True, slots=True)
class CudaModel:
    """What all contexts of one file share. `ort` is the module."""

    ort: Any
    target: Target
    signature: Signature
    errors: FileErrors


class CudaOnnxContext:
    """A session, driven by the thread that made it only."""

    def __init__(
        self, model: CudaModel, session: Any, graph_problem: str, *, pinned: bool
    ) -> None:
        self._signature = model.signature
        self._target = model.target
        self._errors = model.errors
        self._ort = model.ort
        self._session = session
        self._binding = session.io_binding()
        self._graph_problem = graph_problem
        self._thread = threading.get_ident()
        self._options = self._plain = self._run_options(-1)
        self._places: list[TensorMemory] = []
        """Where a captured run reads and writes: inputs, then outputs."""
        self._captured: list[TensorMemory] | None = None
        """The outputs of a captured run; None: runs are not captured."""
        self._graph = 0
        self._first = pinned
        self._kept: Any = None  # the memory of the outputs that the session placed

    def output_shapes(self, inputs: Sequence[Shape]) -> list[Shape | None]:
        """The outputs' whole shapes for these whole input shapes; None: not known before."""
        return self._signature.output_shapes(inputs)

    def enqueue(
        self,
        stream: Stream,
        inputs: Sequence[TensorMemory],
        outputs: Sequence[TensorMemory | None],
    ) -> Sequence[TensorMemory]:
        """Queue a run. An output whose declared shape proves wrong comes back elsewhere.

        Raises ExecutionFailed with ONNX Runtime's cause in one line, DeviceError if the device is
        lost, ModelLoadError if memory does not suffice for the first run of a context that was
        made for its shapes, and RuntimeError if the caller has mixed up threads or places.
        """
        self._check_thread()
        if self._captured is not None:
            return self._replay(inputs, outputs)
        try:
            self._bind_inputs(inputs)
            results = self._run_bound(outputs)
        except Exception as error:
            if not any(outputs) or device_lost(error) or shortage(error) is not None:
                raise self._errors.run(error, first=self._first) from error
            results = self._run_unplaced(outputs)
        self._first = False
        return results

    def capture(
        self, stream: Stream, inputs: Sequence[TensorMemory], outputs: Sequence[TensorMemory]
    ) -> None:
        """Record one run as a graph; its work is done when this returns.

        Raises ExecutionFailed where the run can not be captured, DeviceError if the device fails.
        """
        self._check_thread()
        if self._graph_problem:
            raise ExecutionFailed(self._graph_problem)
        self.release_graph()
        # A number is never used again: ONNX Runtime may still hold what an old one recorded.
        self._graph += 1
        options = self._run_options(self._graph)
        try:
            self._bind_inputs(inputs)
            self._bind_outputs(outputs)
            with making:
                # One call: it runs twice to take all memory, records, and replays once.
                self._session.run_with_iobinding(self._binding, options)
        except Exception as error:
            raise self._errors.run(error, first=False) from error
        stream.synchronize()
        self._options = options
        self._places = [*inputs, *outputs]
        self._captured = list(outputs)

    def release_graph(self) -> None:
        """Run one by one again. Twice is harmless."""
        if self._captured is not None:
            self._captured = None
            self._places = []
            self._options = self._plain
            self._session.release_captured_graph(self._graph)

    def close(self) -> None:
        """Free the session, its weights and its memory. Twice is harmless."""
        self._captured = None
        self._binding = self._kept = self._session = None

    def _replay(
        self, inputs: Sequence[TensorMemory], outputs: Sequence[TensorMemory | None]
    ) -> Sequence[TensorMemory]:
        """Run the graph, which the bindings and their addresses are part of."""
        assert self._captured is not None
        if [*inputs, *outputs] != self._places:
            raise RuntimeError("a captured run was given other places than it was captured with")
        try:
            self._session.run_with_iobinding(self._binding, self._options)
        except Exception as error:
            raise self._errors.run(error, first=False) from error
        return self._captured

    def _run_unplaced(self, outputs: Sequence[TensorMemory | None]) -> Sequence[TensorMemory]:
        """After a failure with placed outputs: was it their shapes?"""
        try:
            results = self._run_bound([None] * len(outputs))
        except Exception as error:
            raise self._errors.run(error, first=self._first) from error
        if any(given and given.shape != found.shape
               for given, found in zip(outputs, results, strict=True)):
            self._signature.distrust_shapes()
        return results

    def _run_bound(self, outputs: Sequence[TensorMemory | None]) -> Sequence[TensorMemory]:
        """Run with the inputs that are bound."""
        self._bind_outputs(outputs)
        self._session.run_with_iobinding(self._binding, self._options)
        self._kept = None
        if None not in outputs:
            return [memory for memory in outputs if memory]
        values = self._kept = self._binding.get_outputs()
        results = []
        for given, port, value in zip(outputs, self._signature.outputs, values, strict=True):
            shape = tuple(value.shape())
            results.append(
                given or TensorMemory(value.data_ptr(), prod(shape) * port.itemsize, shape)
            )
        return results

    def _bind_inputs(self, inputs: Sequence[TensorMemory]) -> None:
        kind, index = self._target.memory, self._target.index
        for port, memory in zip(self._signature.inputs, inputs, strict=True):
            self._binding.bind_input(
                port.name, kind, index, port.element, memory.shape,
                memory.address or EMPTY_ADDRESS,
            )

    def _bind_outputs(self, outputs: Sequence[TensorMemory | None]) -> None:
        kind, index = self._target.memory, self._target.index
        for port, memory in zip(self._signature.outputs, outputs, strict=True):
            # Each time anew: what is bound after a run is that run's memory and its shape.
            if memory is None:
                self._binding.bind_output(port.name, kind, index)
            else:
                self._binding.bind_output(
                    port.name, kind, index, port.element, memory.shape,
                    memory.address or EMPTY_ADDRESS,
                )

    def _run_options(self, graph: int) -> Any:
        """Options for a run that is captured, or replayed, under a number; -1: for a plain run."""
        options = self._ort.RunOptions()
        # Fatal only: what fails is raised, and logged with its batch by whoever knows that.
        options.log_severity_level = 4
        options.add_run_config_entry("gpu_graph_id", str(graph))
        # The lane waits for its copies out, which wait for the run.
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        return options

    def _check_thread(self) -> None:
        if threading.get_ident() != self._thread:
            raise RuntimeError("a session on CUDA was used by another thread than made it")
