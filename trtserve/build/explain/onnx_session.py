"""Asks ONNX Runtime: the graph at each level of optimisation, where nodes run, how long they take.

ONNX Runtime writes its optimised graph into a file when it is told to; where a node runs and how
long it takes, it says in a session's own records.
"""

import contextlib
import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from trtserve.build.cpu_run import Inputs, readable
from trtserve.build.explain.onnx_graph import OnnxNodes, read_nodes
from trtserve.build.graph import GraphTensor
from trtserve.clock import NS_PER_S, now_ns
from trtserve.errors import ConfigurationError, ModelLoadError
from trtserve.model.spec import Shape

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

LEVELS = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "layout": "ORT_ENABLE_LAYOUT",
    "all": "ORT_ENABLE_ALL",
}
"""ONNX Runtime's levels by our names. Older versions lack some."""

HIGHEST = "all"
"""What sessions have if they are told nothing: the daemon's too."""

RUNS = 10
"""How often a model is run to measure it. Of each node the median counts: the first run is slow."""

_ERRORS, _FATAL = 3, 4
"""Levels of ONNX Runtime's log. What a session can not do is raised."""

_TIME_SUFFIX = "_kernel_time"


@dataclass(frozen=True, slots=True)
class Optimised:
    """A model at one level. `placed` is the provider by the name of a node, as far as told;
    `only_provider` the one that all nodes are on, those without a name too, if that is so."""

    nodes: OnnxNodes
    providers: tuple[str, ...]
    placed: dict[str, str]
    only_provider: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Measured:
    """Median seconds and providers by the name of a node."""

    seconds: dict[str, float]
    placed: dict[str, str]


class Sessions:
    """Makes sessions of one file. `folder` is for what they write, and nobody else's."""

    def __init__(self, path: Path, folder: Path, *, cuda: bool = True) -> None:
        self.ort = _import_onnxruntime()
        self._path = path
        self._folder = folder
        available = self.ort.get_available_providers()
        self.wanted = (CUDA, CPU) if cuda and CUDA in available else (CPU,)
        if self.wanted[0] == CUDA:
            # It warns of each session, and prints what libraries it misses: both say nothing here.
            self.ort.set_default_logger_severity(_ERRORS)
            with contextlib.redirect_stdout(io.StringIO()):
                self.ort.preload_dlls()

    def levels(self) -> tuple[str, ...]:
        """The levels that the installed version has."""
        known = self.ort.GraphOptimizationLevel
        return tuple(name for name, its in LEVELS.items() if hasattr(known, its))

    def optimise(self, level: str, known: dict[str, str]) -> Optimised:
        """The graph at a level. `known` are datatypes of tensors. Raises ModelLoadError."""
        target = self._folder / f"{level}.onnx"
        settings = self._settings(level)
        settings.optimized_model_filepath = str(target)
        # Weights in a file of their own: one file can not hold more than 2 GiB.
        for key, value in (
            ("file_name", f"{level}.weights"), ("min_size_in_bytes", "1024"),
        ):
            settings.add_session_config_entry(
                f"session.optimized_model_external_initializers_{key}", value
            )
        settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        begin = now_ns()
        session = self._make(settings)
        seconds = (now_ns() - begin) / NS_PER_S
        providers = tuple(session.get_providers())
        placed, used = _placed(session)
        del session
        nodes = read_nodes(target, known)
        only = next(iter(used or providers)) if len(used or providers) == 1 else ""
        return Optimised(nodes, providers, placed, only, seconds)

    def measure(
        self, tensors: Sequence[GraphTensor], shapes: Mapping[str, Shape]
    ) -> Measured:
        """Run it on made-up inputs of these shapes. Raises ModelLoadError, ConfigurationError."""
        settings = self._settings(HIGHEST)
        settings.enable_profiling = True
        settings.profile_file_prefix = str(self._folder / "profile")
        session = self._make(settings)
        inputs = Inputs().make(tensors, shapes)
        try:
            for _ in range(RUNS):
                session.run(None, inputs)
        except Exception as error:  # ONNX Runtime's exceptions have no base
            given = ", ".join(f"{name}{list(shape)}" for name, shape in shapes.items())
            raise ModelLoadError(
                f"does not run with {given}: {readable(error)}", where=str(self._path),
                cure="Give --run other shapes",
            ) from error
        finally:
            record = Path(session.end_profiling())
        return read_profile(record.read_bytes())

    def _settings(self, level: str) -> Any:
        settings = self.ort.SessionOptions()
        settings.log_severity_level = _FATAL
        settings.graph_optimization_level = getattr(
            self.ort.GraphOptimizationLevel, LEVELS[level]
        )
        return settings

    def _make(self, settings: Any) -> Any:
        try:
            return self.ort.InferenceSession(
                str(self._path), settings, providers=list(self.wanted), enable_fallback=0
            )
        except Exception as error:
            raise ModelLoadError(
                f"ONNX Runtime does not load it: {readable(error)}", where=str(self._path),
                cure="Check the model with onnx.checker, or export it again",
            ) from error


def read_profile(data: bytes) -> Measured:
    """Read what a session recorded: a list of events, those of category Node among them."""
    durations: dict[str, list[float]] = {}
    placed: dict[str, str] = {}
    for event in msgspec.json.decode(data, type=list[dict[str, Any]]):
        name = str(event.get("name", ""))
        if event.get("cat") != "Node" or not name.endswith(_TIME_SUFFIX):
            continue
        node = name.removesuffix(_TIME_SUFFIX)
        durations.setdefault(node, []).append(float(event.get("dur", 0)))
        provider = (event.get("args") or {}).get("provider")
        if provider:
            placed[node] = str(provider)
    medians = {node: statistics.median(times) / 1e6 for node, times in durations.items()}
    return Measured(medians, placed)


def _placed(session: Any) -> tuple[dict[str, str], set[str]]:
    """Where each node with a name runs, and all providers that have nodes, without one too. It is
    recorded before nodes of one provider are fused."""
    ask = getattr(session, "get_provider_graph_assignment_info", None)
    if ask is None:
        return {}, set()
    nodes = [(node.name, subgraph.ep_name) for subgraph in ask() for node in subgraph.get_nodes()]
    return {name: provider for name, provider in nodes if name}, {one for _, one in nodes}


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigurationError(
            "ONNX Runtime, which is asked what it makes of the model, is not installed",
            cure="Install it: pip install 'trtserve[cpu]'",
        ) from error
    return onnxruntime
