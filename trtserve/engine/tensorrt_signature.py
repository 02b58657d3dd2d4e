"""What a plan takes and gives, read from its engine: tensors, profiles, and variants of them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from trtserve.engine.tensorrt_errors import PlanErrors
from trtserve.engine.tensorrt_variants import Profile, Variant, make_variants
from trtserve.model.finding import Finding
from trtserve.model.spec import ANY, ShapeRange, TensorSpec
from trtserve.model.tensor import DATATYPES, Shape

_DATATYPES = {
    "FLOAT": "FP32",
    "HALF": "FP16",
    "BF16": "BF16",
    "INT8": "INT8",
    "UINT8": "UINT8",
    "INT32": "INT32",
    "INT64": "INT64",
    "BOOL": "BOOL",
}
"""TensorRT's names of what requests can carry. It has FP8, INT4, FP4 and E8M0 too."""

_BORDER = "Cast it to FP16 or FP32 at the model's border, and build it again"


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output. `shape` is the engine's, -1 where profiles, or the data, decide;
    `on_host`: TensorRT reads or writes it in host memory."""

    name: str
    datatype: str
    itemsize: int
    shape: Shape
    on_host: bool

    @property
    def fixed(self) -> bool:
        """Whether its shape is always the same."""
        return ANY not in self.shape

    def size(self, shape: Shape) -> int:
        """Its bytes with that shape."""
        return prod(shape) * self.itemsize


@dataclass(frozen=True, slots=True)
class Signature:
    """What a plan takes and gives. `warnings` are for the operator; `profiles` how many the plan
    has, served or not."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    variants: tuple[Variant, ...]
    warnings: tuple[Finding, ...]
    profiles: int

    @property
    def reads_host(self) -> bool:
        """Whether shapes depend on an input's values, which TensorRT reads before the run."""
        return any(port.on_host for port in self.inputs)


def read_signature(module: Any, engine: Any, errors: PlanErrors) -> Signature:
    """Read it. Raises ModelLoadError for a plan that can not be served."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs: list[Port] = []
    outputs: list[Port] = []
    for name in names:
        taken = engine.get_tensor_mode(name) == module.TensorIOMode.INPUT
        (inputs if taken else outputs).append(_port(module, engine, name, errors))
    count = engine.num_optimization_profiles
    profiles = [_profile(engine, inputs, index) for index in range(count)]
    for port in (*inputs, *outputs):
        _check_layout(module, engine, port, count, errors)
    variants, warnings = make_variants(
        os.path.basename(errors.path), _specs(inputs), _specs(outputs), profiles
    )
    return Signature(tuple(inputs), tuple(outputs), variants, warnings, count)


def _specs(ports: Sequence[Port]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(port.name, port.datatype, port.shape) for port in ports)


def _port(module: Any, engine: Any, name: str, errors: PlanErrors) -> Port:
    kind = engine.get_tensor_dtype(name).name
    datatype = _DATATYPES.get(kind)
    if datatype is None:
        raise errors.refused(
            f"tensor '{name}' is {kind}, which the protocol can not carry", _BORDER
        )
    shape = tuple(engine.get_tensor_shape(name))
    on_host = engine.get_tensor_location(name) == module.TensorLocation.HOST
    return Port(name, datatype, DATATYPES[datatype].itemsize, shape, on_host)


def _profile(engine: Any, inputs: Sequence[Port], index: int) -> Profile:
    ranges = []
    values: list[tuple[tuple[int, ...], ...] | None] = []
    for port in inputs:
        if port.fixed:
            ranges.append(ShapeRange(port.shape, port.shape, port.shape))
        else:
            low, opt, high = map(tuple, engine.get_tensor_profile_shape(port.name, index))
            ranges.append(ShapeRange(low, high, opt))
        if port.on_host:
            # The index comes first, whatever the names of the parameters say.
            found = engine.get_tensor_profile_values(index, port.name)
            values.append(tuple(map(tuple, found)) if len(found) == 3 else None)
        else:
            values.append(None)
    scratch = engine.get_device_memory_size_for_profile_v2(index)
    return Profile(index, tuple(ranges), tuple(values), scratch)


def _check_layout(
    module: Any, engine: Any, port: Port, profiles: int, errors: PlanErrors
) -> None:
    """Raise ModelLoadError unless the tensor is a plain array of its own."""
    aliased = getattr(engine, "get_aliased_input_tensor", None)
    shared = aliased(port.name) if aliased is not None else None
    if shared:
        raise errors.refused(
            f"output '{port.name}' shares its memory with input '{shared}': it keeps a state "
            "between runs, and requests here know nothing of each other",
            "Export the model without it",
        )
    # The lean runtime has no names for formats: it only tells whether they are vectors.
    formats = getattr(module, "TensorFormat", None)
    for index in range(profiles):
        plain = engine.get_tensor_vectorized_dim(port.name, index) == -1
        if plain and formats is not None:
            plain = engine.get_tensor_format(port.name, index) == formats.LINEAR
        if not plain:
            described = engine.get_tensor_format_desc(port.name, index)
            raise errors.refused(
                f"tensor '{port.name}' is laid out as '{described}', and requests carry plain "
                "row-major arrays",
                "Build it again without input and output formats of its own",
            )
