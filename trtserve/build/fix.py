"""Mends a graph: only what is proven, by running it, to give the same results as before.

The batch that a graph is fixed to becomes open, dimensions that share one symbol get their own,
inputs of INT64 and FP64 become INT32 and FP32.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trtserve.build.batch_axis import FACTOR, baked_reshapes, set_target
from trtserve.build.cpu_run import Arrays, Inputs, Session
from trtserve.build.graph import PROTOBUF_LIMIT, Graph, all_nodes, copied, graph_of, import_onnx
from trtserve.build.guess import PLACEHOLDERS, guess_sizes, open_dims, whole_shapes
from trtserve.build.lint import EXPORT_OPEN, LintFinding, fixed_batch, symbol_places
from trtserve.errors import ConfigurationError, ModelLoadError
from trtserve.model.spec import Shape

_BATCH_CODES = ("fixed-batch", "baked-reshape", "output-batch")

_TOLERANCE = {"float16": (1e-2, 1e-2), "float32": (1e-3, 1e-4), "float64": (1e-3, 1e-4)}
"""How far a row may be from what it was: sums are taken in another order in a larger batch.
Relative, and of the largest number of the output. Other types have to be the same."""

_NARROW = {"INT64": ("INT32", "INT32", "INT64"), "FP64": ("FP32", "FLOAT", "DOUBLE")}
"""Datatype: what it becomes, by our name; both by ONNX's."""


@dataclass(frozen=True, slots=True)
class FixResult:
    """A mended copy of the model; what was done, and what was not, with the reason."""

    model: Any
    done: list[str]
    left: list[LintFinding]


class _NotProven(Exception):
    """Why a rewrite is not kept."""


def fix(graph: Graph, findings: Sequence[LintFinding]) -> FixResult:
    """Mend what these findings name, where that can be. The graph itself stays as it is."""
    if graph.bytes > PROTOBUF_LIMIT:
        return FixResult(graph.model, [], [
            replace(one, problem=f"{one.problem}. Larger than 2 GiB: not mended", fixable=False)
            for one in findings
        ])
    done: list[str] = []
    left: list[LintFinding] = []
    current = graph
    batch = [one for one in findings if one.code in _BATCH_CODES and one.fixable]
    if batch:
        try:
            model, changes = open_batch(current)
        except (_NotProven, ConfigurationError, ModelLoadError) as error:
            left += [
                replace(
                    one, problem=f"{one.problem}. It was not mended: {error}",
                    cure=EXPORT_OPEN, fixable=False,
                )
                for one in batch
            ]
        else:
            current = graph_of(model, graph.path)
            done += changes
    for finding in findings:
        if finding in batch:
            continue
        if not finding.fixable or _passed_through(graph, finding.subject):
            left.append(finding)
            continue
        model = copied(current.model)
        if finding.code == "shared-symbol":
            done.append(_split_symbol(model, current, finding.subject))
        else:
            done.append(_narrow(model, current, finding.subject))
        current = graph_of(model, graph.path)
    return FixResult(copied(current.model), done, left)


def open_batch(graph: Graph) -> tuple[Any, list[str]]:
    """A copy whose batch is open, and what was changed.

    Proven on generated inputs: several rows together give what the graph gives for each alone.
    Raises _NotProven, or what running the graph raises.
    """
    batch = fixed_batch(graph) or 1
    for tensor in graph.inputs:
        if not tensor.dims or (isinstance(tensor.dims[0], int) and tensor.dims[0] != batch):
            raise _NotProven(f"input {tensor} has no batch of {batch} in dimension 0")
    if not graph.inputs:
        raise _NotProven("it has no inputs")
    sizes, _ = guess_sizes(graph)
    usual = {place: size for place, (_, size, _) in sizes.items()}
    shapes = whole_shapes(graph, usual, rows=batch)
    symbol = _batch_symbol(graph)
    model = copied(graph.model)
    changes = baked_reshapes(
        model, shapes, other_sizes_open=any(map(open_dims, graph.inputs))
    )
    for change in changes:
        set_target(model, change.output, change.new)
    del model.graph.value_info[:]
    named = {tensor.name for tensor in graph.inputs}
    for value in (*(v for v in model.graph.input if v.name in named), *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        if dims:
            dims[0].Clear()
            dims[0].dim_param = symbol
    _prove(graph, model, shapes)
    done = [
        f"{tensor}: dimension 0 is open now, as '{symbol}'"
        for tensor in (*graph.inputs, *graph.outputs)
        if tensor.dims and isinstance(tensor.dims[0], int)
    ]
    done += [
        f"Reshape {one.node or one.output}: target {list(one.old)} is now {list(one.new)}"
        for one in changes
    ]
    return model, [*done, f"proven with ONNX Runtime: {batch * FACTOR} rows at once and one row "
                          "alone give what the model gave before"]


def _prove(graph: Graph, model: Any, shapes: Mapping[str, Shape]) -> None:
    """Compare row by row with the original. Raises _NotProven."""
    differ = False
    with ExitStack() as stack:
        before = stack.enter_context(Session(graph.model))
        after = stack.enter_context(Session(model))
        batch = next(iter(shapes.values()))[0]
        grown = {name: (batch * FACTOR, *shape[1:]) for name, shape in shapes.items()}
        for inputs in (Inputs(), Inputs(pixels=True)):
            rows = inputs.make(graph.inputs, grown)
            parts = [
                before.run(_rows(rows, at * batch, batch)) for at in range(FACTOR)
            ]
            for name in before.outputs:
                if any(not part[name].shape or len(part[name]) != batch for part in parts):
                    raise _NotProven(f"output '{name}' has no row for each row of the inputs")
            wanted = {
                name: np.concatenate([part[name] for part in parts]) for name in before.outputs
            }
            _compare(after.run(rows), wanted, "all rows at once")
            _compare(after.run(_rows(rows, 0, 1)), _rows(wanted, 0, 1), "one row alone")
            differ |= any((one != one[:1]).any() for one in wanted.values())
    if not differ:
        raise _NotProven(
            "it gives the same for all generated inputs, which proves nothing about its rows"
        )


def _rows(arrays: Arrays, start: int, count: int) -> Arrays:
    return {name: one[start : start + count] for name, one in arrays.items()}


def _compare(found: Arrays, wanted: Arrays, what: str) -> None:
    for name, expected in wanted.items():
        one = found[name]
        if one.shape != expected.shape:
            raise _NotProven(
                f"with {what}, output '{name}' is {list(one.shape)} and not "
                f"{list(expected.shape)}"
            )
        relative, absolute = _TOLERANCE.get(expected.dtype.name, (0, 0))
        if relative:
            largest = float(np.abs(expected[np.isfinite(expected)]).max(initial=0))
            same = np.allclose(
                one, expected, rtol=relative, atol=absolute * largest, equal_nan=True
            )
        else:
            same = bool((one == expected).all())
        if not same:
            raise _NotProven(f"with {what}, the rows of output '{name}' are others")


def _batch_symbol(graph: Graph) -> str:
    """The batch's symbol where an input has one, else a new one."""
    places = symbol_places(graph)
    for symbol, found in places.items():
        if all(at == 0 for _, at in found) and symbol.lower() not in PLACEHOLDERS:
            return symbol
    return _unused("batch", graph)


def _split_symbol(model: Any, graph: Graph, symbol: str) -> str:
    """Give each dimension with that symbol its own; those of the batch stay one."""
    names: list[str] = []
    for value in model.graph.input:
        for at, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_param == symbol:
                dim.dim_param = _unused(f"{value.name}_{at}" if at else "batch", graph)
                names.append(f"{value.name}[{at}] '{dim.dim_param}'")
    # Which of them an output meant nobody knows.
    for value in model.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == symbol:
                dim.Clear()
    del model.graph.value_info[:]
    return f"symbol '{symbol}' is split: {', '.join(names)}"


def _narrow(model: Any, graph: Graph, name: str) -> str:
    """Make an INT64 or FP64 tensor at the border narrower, with a Cast behind or before it."""
    onnx = import_onnx()
    tensor = next(t for t in (*graph.inputs, *graph.outputs) if t.name == name)
    ours, narrow, wide = _NARROW[tensor.datatype]
    inner = _unused(f"{name}_{wide.lower()}", graph)
    is_input = tensor in graph.inputs
    values = [*model.graph.input, *model.graph.output]
    value = next(one for one in values if one.name == name)
    value.type.tensor_type.elem_type = getattr(onnx.TensorProto, narrow)
    for node in all_nodes(model.graph.node):
        for names in (node.input, node.output):
            for at, one in enumerate(names):
                if one == name:
                    names[at] = inner
    source, target, kind = (name, inner, wide) if is_input else (inner, name, narrow)
    cast = onnx.helper.make_node(
        "Cast", [source], [target], name=f"{inner}_cast", to=getattr(onnx.TensorProto, kind)
    )
    model.graph.node.insert(0 if is_input else len(model.graph.node), cast)
    del model.graph.value_info[:]
    verb = "send" if is_input else "get"
    return f"{tensor} is {ours} now: clients {verb} {ours}"


def _passed_through(graph: Graph, name: str) -> bool:
    """Whether an input is an output as it is: then there is no place for a Cast."""
    return any(t.name == name for t in graph.inputs) and any(t.name == name for t in graph.outputs)


def _unused(wanted: str, graph: Graph) -> str:
    """A name like this one that the graph has not."""
    taken = set(symbol_places(graph)) | {
        name for node in all_nodes(graph.model.graph.node) for name in (*node.input, *node.output)
    }
    taken |= {dim for t in graph.outputs for dim in t.dims if isinstance(dim, str)}
    while wanted in taken:
        wanted += "_"
    return wanted
