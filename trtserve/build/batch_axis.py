"""Where a graph has its batch baked in: the targets of Reshape that would not grow with it.

Found without running anything: the shapes of all tensors are inferred for the batch that the
graph was made for and for three times that, and each Reshape has to carry the factor on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from trtserve.build.graph import import_onnx
from trtserve.model.spec import Shape

FACTOR = 3
"""Not 2, which is often the size of something else."""

_SMALL = 1024
"""Elements: larger weights are no shapes, so shape inference can do without their values."""

_KEEP, _REST = 0, -1
"""What Reshape reads as "as it was" and as "whatever is left"."""


@dataclass(frozen=True, slots=True)
class BakedReshape:
    """A Reshape to change. `output` names it: names of nodes may be missing or double."""

    node: str
    output: str
    old: Shape
    new: Shape


def baked_reshapes(
    model: Any, shapes: Mapping[str, Shape], *, other_sizes_open: bool
) -> list[BakedReshape]:
    """What has to change so that the graph takes other batches than that of these input shapes.

    A Reshape that no new target mends is not among them. `other_sizes_open`: sizes other than
    the batch may change too, so that no new target may fix them.
    """
    bare = _without_weights(model)
    targets = _constant_targets(bare)
    if not targets:
        return []
    usual = _inferred(bare, shapes)
    grown = {name: (FACTOR * shape[0], *shape[1:]) for name, shape in shapes.items() if shape}
    nodes = [node for node in bare.graph.node if node.op_type == "Reshape"]
    found: list[BakedReshape] = []
    large = _inferred(bare, grown)
    for node in nodes:
        target, output = targets.get(node.output[0]), node.output[0]
        places = (usual.get(node.input[0]), usual.get(output), large.get(node.input[0]))
        if target is None or None in places:
            continue
        before, after, data = (shape or () for shape in places)
        wanted = _grown(before, after, data)
        zeros = not any(a.name == "allowzero" and a.i for a in node.attribute)
        if wanted is None or reshaped(data, target, zeros=zeros) == wanted:
            continue
        new = _mended(before, after, data, wanted, target, zeros, other_sizes_open)
        if new is not None:
            found.append(BakedReshape(node.name, output, target, new))
            set_target(bare, output, new)
            # What comes behind has other shapes now.
            large = _inferred(bare, grown)
    return found


def set_target(model: Any, output: str, target: Shape) -> None:
    """Give the Reshape with that output a target of its own."""
    from onnx import numpy_helper

    taken = {tensor.name for tensor in model.graph.initializer}
    name = f"{output}_target"
    while name in taken:
        name += "_"
    for node in model.graph.node:
        if node.op_type == "Reshape" and node.output[0] == output:
            node.input[1] = name
            model.graph.initializer.append(
                numpy_helper.from_array(np.array(target, np.int64), name)
            )


def reshaped(data: Shape, target: Shape, *, zeros: bool = True) -> Shape | None:
    """What Reshape makes of a shape; None where it fails. `zeros`: 0 stands for "as it was"."""
    shape = list(target)
    for at, dim in enumerate(shape):
        if dim == _KEEP and zeros:
            if at >= len(data):
                return None
            shape[at] = data[at]
    if shape.count(_REST) == 1:
        known = -prod(shape)
        if known <= 0 or prod(data) % known:
            return None
        shape[shape.index(_REST)] = prod(data) // known
    return tuple(shape) if prod(shape) == prod(data) and _REST not in shape else None


def _grown(before: Shape, after: Shape, data: Shape) -> Shape | None:
    """The output's shape for the larger batch; None where there is nothing to tell.

    `before` and `after` are the input's and the output's shape for the usual batch, `data` the
    input's for the larger one.
    """
    axes = [at for at, (one, other) in enumerate(zip(before, data, strict=False)) if one != other]
    if len(before) != len(data) or len(axes) != 1:
        return None
    axis = axes[0]
    if data[axis] != FACTOR * before[axis]:
        return None
    # Elements keep their order, so the factor stays behind as many elements as before.
    in_front = prod(before[:axis])
    places = [at for at in range(len(after)) if prod(after[:at]) == in_front]
    exact = [at for at in places if after[at] == before[axis]]
    if not places:
        return None
    at = (exact or places)[0]
    return (*after[:at], FACTOR * after[at], *after[at + 1 :])


def _mended(
    before: Shape, after: Shape, data: Shape, wanted: Shape, target: Shape, zeros: bool,
    other_sizes_open: bool,
) -> Shape | None:
    """A target that gives the wanted shape; None: there is none."""
    at = next(i for i, (one, other) in enumerate(zip(after, wanted, strict=True)) if one != other)
    choices = []
    if zeros and at < len(before) and before[at] == after[at] and data[at] == wanted[at]:
        choices.append((*target[:at], _KEEP, *target[at + 1 :]))
    rest = [
        after[i] if dim == _REST and i != at else dim for i, dim in enumerate(target)
    ]
    rest[at] = _REST
    if not other_sizes_open or _REST not in target:
        choices.append(tuple(rest))
    return next((one for one in choices if reshaped(data, one, zeros=zeros) == wanted), None)


def _constant_targets(model: Any) -> dict[str, Shape]:
    """The constant targets of Reshape, by the node's output."""
    from onnx import numpy_helper

    values = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.data_type == import_onnx().TensorProto.INT64
    }
    for node in model.graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    values[node.output[0]] = numpy_helper.to_array(attribute.t)
                elif attribute.name == "value_ints":
                    values[node.output[0]] = np.array(attribute.ints)
    return {
        node.output[0]: tuple(map(int, values[node.input[1]].reshape(-1)))
        for node in model.graph.node
        if node.op_type == "Reshape" and len(node.input) > 1 and node.input[1] in values
    }


def _without_weights(model: Any) -> Any:
    """A copy in which large weights are inputs: inferring shapes copies a model many times."""
    onnx = import_onnx()
    bare = onnx.ModelProto(
        ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions
    )
    bare.graph.name = model.graph.name
    bare.graph.input.extend(model.graph.input)
    named = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        if prod(tensor.dims) <= _SMALL and not tensor.data_location:
            bare.graph.initializer.append(tensor)
        elif tensor.name not in named:
            bare.graph.input.append(_as_input(tensor.name, tensor))
    for node in model.graph.node:
        value = next((a.t for a in node.attribute if a.name == "value"), None)
        if node.op_type == "Constant" and value is not None and prod(value.dims) > _SMALL:
            bare.graph.input.append(_as_input(node.output[0], value))
        else:
            bare.graph.node.append(node)
    # What the file says about outputs holds for its own batch only.
    for output in model.graph.output:
        bare.graph.output.append(onnx.helper.make_empty_tensor_value_info(output.name))
    return bare


def _as_input(name: str, tensor: Any) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims))


def _inferred(model: Any, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
    """The shapes that are known for these inputs."""
    onnx = import_onnx()
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    for value in sized.graph.input:
        if value.name in inputs:
            dims = value.type.tensor_type.shape.dim
            for dim, size in zip(dims, inputs[value.name], strict=True):
                dim.Clear()
                dim.dim_value = size
    try:
        inferred = onnx.shape_inference.infer_shapes(sized, data_prop=True)
    except Exception:  # onnx raises what it likes; then nothing is known
        return {}
    graph = inferred.graph
    found = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim):
            found[value.name] = tuple(int(dim.dim_value) for dim in tensor.shape.dim)
    return found
