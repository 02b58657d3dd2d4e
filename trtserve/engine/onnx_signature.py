"""What an .onnx file takes and gives, read from ONNX Runtime's descriptions of its tensors.

Each description (a NodeArg) has a name, a type such as `tensor(float)` and a shape whose
dimensions are sizes, symbols (strings) or None.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trtserve.errors import ModelLoadError
from trtserve.model.spec import ANY, ShapeRange, TensorSpec, VariantSpec
from trtserve.model.tensor import DATATYPES, Shape

log = logging.getLogger(__name__)

DEFAULT_MAX_BATCH = 32
"""Rows, where a model's dimension 0 is open: ONNX has no upper end to read. At 32 what a run costs
besides its rows (about 10 us) is spread thin; more would only add waiting and memory."""

# ONNX Runtime's name of a type: ours, and ONNX's number for it.
_TYPES = {
    "tensor(float)": ("FP32", 1),
    "tensor(uint8)": ("UINT8", 2),
    "tensor(int8)": ("INT8", 3),
    "tensor(uint16)": ("UINT16", 4),
    "tensor(int16)": ("INT16", 5),
    "tensor(int32)": ("INT32", 6),
    "tensor(int64)": ("INT64", 7),
    "tensor(string)": ("BYTES", 8),
    "tensor(bool)": ("BOOL", 9),
    "tensor(float16)": ("FP16", 10),
    "tensor(double)": ("FP64", 11),
    "tensor(uint32)": ("UINT32", 12),
    "tensor(uint64)": ("UINT64", 13),
    "tensor(bfloat16)": ("BF16", 16),
}
BFLOAT16 = 16
"""ONNX's number for the type that NumPy lacks."""

Dims = tuple[int | str | None, ...]
"""Dimensions as a file declares them: sizes, symbols or nothing."""

OutputDim = tuple[int, int]
"""(input, dimension) whose size this dimension has, or (-1, its fixed size)."""


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output as bindings need it."""

    name: str
    datatype: str
    element: int
    itemsize: int


class Signature:
    """What a file takes and gives. All contexts of an engine share it.

    Raises ModelLoadError for tensors that no request can carry.
    """

    def __init__(self, path: str, session: Any) -> None:
        inputs, outputs = session.get_inputs(), session.get_outputs()
        self.inputs = tuple(read_port(path, "input", node) for node in inputs)
        self.outputs = tuple(read_port(path, "output", node) for node in outputs)
        self.dims: tuple[Dims, ...] = tuple(tuple(node.shape) for node in inputs)
        """Each input's dimensions as the file has them."""
        self.variant = describe(os.path.basename(path), inputs, outputs)
        self._plan = plan_outputs(inputs, outputs)

    def output_shapes(self, inputs: Sequence[Shape]) -> list[Shape | None]:
        """The outputs' whole shapes for these whole input shapes; None: not known before."""
        return [
            None
            if dims is None
            else tuple([at if index < 0 else inputs[index][at] for index, at in dims])
            for dims in self._plan
        ]

    def distrust_shapes(self) -> None:
        """From now on let the runtime place all outputs: a declared shape proved wrong."""
        log.warning(
            "%s declares output shapes that it does not keep; its outputs are copied",
            self.variant.name,
        )
        self._plan = (None,) * len(self.outputs)


def read_port(path: str, kind: str, node: Any) -> Port:
    """`kind` is input or output. Raises ModelLoadError for a type that no request can carry."""
    if node.type not in _TYPES:
        raise ModelLoadError(
            f"{kind} '{node.name}' has type {node.type}, which the protocol can not carry",
            where=path,
            cure=f"Export the model with tensors of {', '.join(DATATYPES)} at its border",
        )
    datatype, element = _TYPES[node.type]
    return Port(node.name, datatype, element, DATATYPES[datatype].itemsize)


def describe(name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> VariantSpec:
    """The variant that a file is. Sizes with a symbol, or none, are the request's to choose."""

    def spec(node: Any) -> TensorSpec:
        shape = tuple(dim if isinstance(dim, int) and dim >= 0 else ANY for dim in node.shape)
        return TensorSpec(node.name, _TYPES[node.type][0], shape)

    takes, gives = tuple(map(spec, inputs)), tuple(map(spec, outputs))
    ranges = tuple(
        ShapeRange(tuple(1 if dim == ANY else dim for dim in tensor.shape), tensor.shape)
        for tensor in takes
    )
    batched = all(tensor.shape[:1] == (ANY,) for tensor in takes + gives)
    return VariantSpec(name, takes, gives, ranges, DEFAULT_MAX_BATCH if batched else 0)


def plan_outputs(
    inputs: Sequence[Any], outputs: Sequence[Any]
) -> tuple[tuple[OutputDim, ...] | None, ...]:
    """Where each output's sizes are declared: fixed, or by a symbol that an input has too."""
    symbols: dict[str, OutputDim] = {}
    for index, node in enumerate(inputs):
        for at, dim in enumerate(node.shape):
            if isinstance(dim, str) and dim and dim != "?":
                symbols.setdefault(dim, (index, at))
    names = {node.name for node in inputs}

    def plan(node: Any) -> tuple[OutputDim, ...] | None:
        if node.type == "tensor(string)" or node.name in names:
            # An output that is an input is never written where it is bound, without an error.
            return None
        dims = [
            (-1, dim) if isinstance(dim, int) and dim >= 0 else symbols.get(dim)
            for dim in node.shape
        ]
        known = tuple(dim for dim in dims if dim is not None)
        return known if len(known) == len(dims) else None

    return tuple(map(plan, outputs))
