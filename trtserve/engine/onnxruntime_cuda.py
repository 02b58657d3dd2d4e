"""ONNX Runtime on CUDA: each context has a session of its own, on its lane's stream.

A session runs on the stream that it was made with, breaks when several threads run it, and plans
its convolutions anew whenever a run has another shape than the last one. So sessions are not
shared, and those made for one shape (Engine.pins) are worth the weights that each of them holds.
"""

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from trtserve.device.interface import Device, Stream
from trtserve.engine.file_stamp import FileStamp
from trtserve.engine.onnx_signature import Signature
from trtserve.engine.onnxruntime_context import CudaModel, CudaOnnxContext, Target
from trtserve.engine.onnxruntime_errors import (
    FileErrors,
    device_lost,
    lacks_kernel,
    readable,
    refuses_graphs,
    shortage,
)
from trtserve.engine.onnxruntime_installed import CPU, CUDA
from trtserve.engine.onnxruntime_session import (
    free_dimensions,
    graph_problem,
    left_behind,
    make_session,
    provider_options,
    read_parameters,
)
from trtserve.engine.scratch import Scratch
from trtserve.errors import ModelLoadError
from trtserve.model.tensor import Shape

_ERRORS_ONLY = 3
"""Severity of ONNX Runtime's own logger. At 2 it says at every session that CUDA is no plugin."""

_CPU_GROUP = "instance_group { kind: KIND_CPU }"


def load_on_cuda(
    ort: Any, path: str, device: Device, options: Mapping[str, str]
) -> "CudaOnnxEngine":
    """Load a file onto a device `cuda:N`. Raises ModelLoadError."""
    if CUDA not in ort.get_available_providers():
        raise ModelLoadError(
            f"the installed ONNX Runtime {ort.__version__} has no {CUDA}", where=path,
            cure="Install the one for CUDA: pip uninstall onnxruntime, which holds the same "
            "files, then pip install 'trtserve[cuda]'",
        )
    _preload(ort)
    ort.set_default_logger_severity(_ERRORS_ONLY)
    device.enter_thread()
    index = int(device.name.partition(":")[2])
    return CudaOnnxEngine(ort, path, device, options, Target(CUDA, "cuda", index))


class CudaOnnxEngine:
    """One .onnx file: its signature, and how its sessions are made."""

    platform = "onnxruntime_onnx"
    pins = True
    captures = True

    def __init__(
        self, ort: Any, path: str, device: Device, options: Mapping[str, str], target: Target
    ) -> None:
        self._ort = ort
        self._path = path
        self._device = device
        self._target = target
        self._parameters = read_parameters(path, options)
        limit = self._parameters.memory_limit
        self._errors = FileErrors(path, ort.__version__, device, limit)
        self._graph_problem = ""
        self._open = True
        self._stamp = FileStamp(path)
        self._signature = signature = self._read_signature()
        for kind, ports in (("input", signature.inputs), ("output", signature.outputs)):
            for port in ports:
                if not port.itemsize:
                    raise ModelLoadError(
                        f"{kind} '{port.name}' is BYTES, which {device.name} can not hold",
                        where=path, cure=f"Serve the model on the CPU: {_CPU_GROUP}",
                    )
        self._model = CudaModel(ort, target, signature, self._errors)
        self.variants = (signature.variant,)

    def create_context(
        self, variant: int, stream: Stream, shapes: Sequence[Shape] | None = None,
        scratch: Scratch | None = None,
    ) -> CudaOnnxContext:
        """A context for the only variant, 0, with a session of its own.

        Raises ModelLoadError, also where the file is another one by now; DeviceError if the device
        is lost.
        """
        if not self._open or variant != 0:
            raise IndexError(f"no variant {variant}: an open ONNX engine has variant 0 only")
        session, sized, problem = self._make(stream.handle, shapes)
        model = self._model
        if sized:
            # From the sizes the session has worked out shapes that the file leaves open.
            model = replace(model, signature=Signature(self._path, session))
        return CudaOnnxContext(model, session, problem, pinned=shapes is not None)

    def close(self) -> None:
        """The weights went with the contexts. Twice is harmless."""
        self._open = False

    def _read_signature(self) -> Signature:
        """The file's signature, from a session that never runs.

        On the CPU, so that it takes no memory of the device and no time to optimise. It reads
        the weights, a gigabyte in about a second and a half.
        """
        settings = self._settings()
        settings.graph_optimization_level = self._ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        settings.add_session_config_entry("session.disable_prepacking", "1")
        try:
            return Signature(self._path, make_session(self._ort, self._path, settings, CPU))
        except ModelLoadError:
            raise
        except Exception as error:
            if not lacks_kernel(error):
                raise self._errors.load(error) from error
        # Some operators and types have kernels for CUDA only.
        return Signature(self._path, self._make(None, None)[0])

    def _make(
        self, stream: int | None, shapes: Sequence[Shape] | None
    ) -> tuple[Any, bool, str]:
        """A session, whether it knows its inputs' sizes, and why its runs can not be captured;
        empty if they can.

        What would make a session fail without need is left away: graphs where the model has
        nodes that none can hold, and sizes where they contradict what the file declares.
        """
        graphs = shapes is not None and not self._graph_problem
        sizes = free_dimensions(self._signature.dims, shapes) if shapes is not None else {}
        memory = self._device.memory()
        free = memory[0] if memory else None
        while True:
            options = provider_options(
                self._parameters, self._target.index, stream, free, graphs=graphs
            )
            try:
                session = self._try(options, sizes)
                break
            except Exception as error:
                if graphs and refuses_graphs(error):
                    self._graph_problem = readable(error)
                    graphs = False
                elif sizes and shortage(error) is None and device_lost(error) is None:
                    sizes = {}
                else:
                    raise self._errors.load(error) from error
        # Looked at afterwards: so nothing can have changed while the session read it.
        changed = self._stamp.changed()
        if changed:
            raise ModelLoadError(
                f"{changed} has changed since the model was loaded", where=self._path,
                cure="Load the model again",
            )
        self._check(session)
        if graphs:
            self._graph_problem = graph_problem(_placed(session), self._target.provider)
            graphs = not self._graph_problem
        problem = "" if graphs else self._graph_problem or "it was made for any shape"
        return session, bool(sizes), problem

    def _try(self, options: Mapping[str, str], sizes: Mapping[str, int]) -> Any:
        settings = self._settings()
        settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        for symbol, size in sizes.items():
            # Known sizes let what computes shapes be folded away before the first run.
            settings.add_free_dimension_override_by_name(symbol, size)
        return make_session(self._ort, self._path, settings, self._target.provider, **options)

    def _settings(self) -> Any:
        settings = self._ort.SessionOptions()
        # What is left to the CPU is a few integers: threads would only wait.
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        # Fatal only: what fails is raised.
        settings.log_severity_level = 4
        return settings

    def _check(self, session: Any) -> None:
        """Whether all of a new session is where it should be: it falls back to the CPU without a
        word. Raises ModelLoadError."""
        provider = self._target.provider
        if session.get_providers()[0] != provider:
            raise ModelLoadError(
                f"the {provider} of ONNX Runtime {self._ort.__version__} does not start: "
                f"{_preload(self._ort) or 'the lines above say why'}", where=self._path,
                cure="Install CUDA's libraries: pip install 'trtserve[cuda]'",
            )
        lacking = left_behind(_placed(session), provider)
        if lacking:
            raise ModelLoadError(
                f"ONNX Runtime {self._ort.__version__} can not run all of it on "
                f"{self._device.name}: it lacks {', '.join(lacking)}", where=self._path,
                cure=f"Export it without that, or serve it on the CPU: {_CPU_GROUP}",
            )


def _placed(session: Any) -> Iterator[tuple[str, str]]:
    """Each node's provider and operator."""
    for subgraph in session.get_provider_graph_assignment_info():
        for node in subgraph.get_nodes():
            yield subgraph.ep_name, node.op_type


@cache
def _preload(ort: Any) -> str:
    """Load CUDA's libraries from the packages that hold them. Returns what is said of missing
    ones, which would else be printed on the daemon's standard output."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        ort.preload_dlls()
    return "; ".join(line for line in said.getvalue().splitlines() if line.startswith("Failed"))
