"""What ONNX Runtime's sessions are made with, and what to look at once they are made.

Pure but for `make_session`; nothing here imports the runtime.
"""

import ctypes
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trtserve.engine.onnx_signature import Dims
from trtserve.errors import ModelLoadError
from trtserve.model.tensor import Shape

LIMIT_OPTION = "gpu_mem_limit"
"""The model configuration's parameter for the bytes that one session may take of the device."""

SEARCH_OPTION = "cudnn_conv_algo_search"
"""The parameter for how cuDNN chooses the algorithms of convolutions."""

LAYOUT_OPTION = "prefer_nhwc"
"""The parameter that has convolutions run channels last (1), which tensor cores prefer."""

HEURISTIC = "HEURISTIC"
"""The default. EXHAUSTIVE, ONNX Runtime's own, tries every algorithm for every new shape."""

# Triton's numbers for ONNX Runtime's names.
_SEARCHES = {"0": "EXHAUSTIVE", "1": HEURISTIC, "2": "DEFAULT"}

SHAPE_OPERATORS = frozenset({
    "Abs", "Add", "And", "Cast", "CastLike", "Ceil", "Clip", "Concat", "Constant",
    "ConstantOfShape", "Div", "Equal", "Expand", "Flatten", "Floor", "Gather", "GatherElements",
    "GatherND", "Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Max", "Min",
    "Mod", "Mul", "Neg", "Not", "Or", "Pow", "Range", "ReduceMax", "ReduceMin", "ReduceProd",
    "ReduceSum", "Reshape", "Round", "ScatterElements", "ScatterND", "Shape", "Sign", "Size",
    "Slice", "Split", "Sqrt", "Squeeze", "Sub", "Tile", "Transpose", "Unsqueeze", "Where", "Xor",
})
"""What shapes are computed with. ONNX Runtime leaves such nodes to the CPU on purpose: their few
integers are needed there, to launch the kernels of the others."""

HOST_WAITERS = frozenset({
    "Compress", "If", "Loop", "Multinomial", "NonMaxSuppression", "NonZero", "Scan",
    "SequenceAt", "SequenceLength", "SplitToSequence", "StringNormalizer", "Unique",
})
"""Operators whose outputs' sizes, or whose next step, the host learns while they run. Captured in
a graph they read what is not computed yet: seen to end in an illegal memory access, not in an
error."""

_EMPTY = ctypes.create_string_buffer(256)
EMPTY_ADDRESS = ctypes.addressof(_EMPTY)
"""For a tensor of no elements: bindings refuse 0 even there. No byte of it is ever touched."""

making = threading.Lock()
"""Held while a session is made, which is not documented as safe at the same time, and while a
graph is captured: CUDA may break a capture off when memory is allocated meanwhile."""


def make_session(ort: Any, path: str, settings: Any, provider: str, **options: str) -> Any:
    """A session on one provider. Raises ONNX Runtime's exceptions, which have no base."""
    with making:
        return ort.InferenceSession(
            path, settings, providers=[(provider, options)], enable_fallback=0
        )


@dataclass(frozen=True, slots=True)
class CudaParameters:
    """What a model configuration may choose. `memory_limit` None: all that is free."""

    memory_limit: int | None = None
    search: str = HEURISTIC
    channels_last: bool = False


def read_parameters(path: str, options: Mapping[str, str]) -> CudaParameters:
    """The parameters of a model configuration. Raises ModelLoadError."""
    limit = options.get(LIMIT_OPTION)
    if limit is not None and (not limit.isdecimal() or int(limit) == 0):
        raise ModelLoadError(
            f"parameter {LIMIT_OPTION} is '{limit}'", where=path,
            cure="Give a number of bytes, 1 or more",
        )
    search = options.get(SEARCH_OPTION, HEURISTIC).upper()
    search = _SEARCHES.get(search, search)
    if search not in _SEARCHES.values():
        raise ModelLoadError(
            f"parameter {SEARCH_OPTION} is '{options[SEARCH_OPTION]}'", where=path,
            cure=f"Give one of {', '.join(_SEARCHES.values())}",
        )
    layout = options.get(LAYOUT_OPTION, "0")
    if layout not in ("0", "1"):
        raise ModelLoadError(
            f"parameter {LAYOUT_OPTION} is '{layout}'", where=path, cure="Give 0 or 1"
        )
    return CudaParameters(None if limit is None else int(limit), search, layout == "1")


def provider_options(
    parameters: CudaParameters, index: int, stream: int | None, free: int | None, *, graphs: bool
) -> dict[str, str]:
    """The CUDA provider's options for a session on one stream of one device.

    `stream` None: one of its own. `free` is the device's memory that nobody has taken; None:
    unknown. `graphs`: runs may be captured.
    """
    options = {
        "device_id": str(index),
        # The copies that a model itself needs stay in order with its kernels.
        "do_copy_in_default_stream": "1",
        # Doubling, which is the default, would take memory that other sessions need.
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": parameters.search,
        "prefer_nhwc": "1" if parameters.channels_last else "0",
    }
    limit = free if parameters.memory_limit is None else parameters.memory_limit
    if limit is not None:
        options["gpu_mem_limit"] = str(limit)
    if stream is not None:
        options["user_compute_stream"] = str(stream)
    if graphs:
        options["enable_cuda_graph"] = "1"
    return options


def free_dimensions(declared: Sequence[Dims], shapes: Sequence[Shape]) -> dict[str, int]:
    """The size of each symbol, where inputs of the declared dimensions have these shapes.

    A symbol that would have two sizes is left out: exporters give one name to sizes that differ.
    """
    found: dict[str, set[int]] = {}
    for dims, shape in zip(declared, shapes, strict=True):
        for dim, size in zip(dims, shape, strict=True):
            if isinstance(dim, str) and dim:
                found.setdefault(dim, set()).add(size)
    return {symbol: min(sizes) for symbol, sizes in found.items() if len(sizes) == 1}


def left_behind(placed: Iterable[tuple[str, str]], provider: str) -> tuple[str, ...]:
    """The operators that did not get to the provider and should have.

    `placed` has each node's provider and operator.
    """
    nodes = list(placed)
    elsewhere = {operator for where, operator in nodes if where != provider}
    if all(where != provider for where, _ in nodes):
        return tuple(sorted(elsewhere))
    return tuple(sorted(elsewhere - SHAPE_OPERATORS))


def graph_problem(placed: Iterable[tuple[str, str]], provider: str) -> str:
    """Why runs of a model can not be captured in a graph; empty if they can."""
    nodes = list(placed)
    waiting = sorted({operator for _, operator in nodes} & HOST_WAITERS)
    if waiting:
        return f"its sizes are known while it runs only ({', '.join(waiting)})"
    elsewhere = sorted({operator for where, operator in nodes if where != provider})
    return f"it runs partly on the CPU ({', '.join(elsewhere)})" if elsewhere else ""
