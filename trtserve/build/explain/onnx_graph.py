"""ONNX files read as nodes, for explaining: the file itself, and what ONNX Runtime makes of it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from trtserve.build.explain.explanation import Node
from trtserve.build.graph import all_nodes, attribute_graphs, import_onnx

_DATATYPES = {
    "FLOAT": "FP32", "FLOAT16": "FP16", "BFLOAT16": "BF16", "DOUBLE": "FP64", "STRING": "BYTES",
    "FLOAT8E4M3FN": "FP8", "FLOAT8E5M2": "FP8", "FLOAT4E2M1": "FP4",
}
"""ONNX's names where ours are others."""

_DOMAINS = {"": "", "ai.onnx": "", "com.microsoft": "", "com.microsoft.nchwc": "NCHWc "}
"""How the names of operators begin, by their domain. Others begin with the domain itself."""

_RANDOM = frozenset({
    "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial",
    "Bernoulli",
})

_GIVEN_BY_TYPE = "to"
"""The attribute of Cast that names the datatype of its result."""

_CONSTANT = "Constant"


@dataclass(frozen=True, slots=True)
class OnnxNodes:
    """A file's nodes, in the order in which they run. `attributes` are as find_twins takes them.

    `datatypes` is by tensor, where it is known; `weights` are bytes by datatype.
    """

    nodes: tuple[Node, ...]
    attributes: tuple[bytes, ...]
    constants: int
    weight_names: frozenset[str]
    datatypes: dict[str, str]
    weights: dict[str, int]


def read_nodes(path: Path, known: dict[str, str] | None = None) -> OnnxNodes:
    """Read a file that ONNX Runtime loads, without the weights that lie beside it.

    `known` are datatypes of tensors from elsewhere, such as from the graph before.
    """
    onnx = import_onnx()
    model = onnx.load(str(path), load_external_data=False)
    graph = model.graph
    nodes, attributes, taken = [], [], set()
    for at, proto in enumerate(graph.node):
        if proto.op_type == _CONSTANT:
            continue
        kind = f"{_DOMAINS.get(proto.domain, f'{proto.domain} ')}{proto.op_type}"
        name = proto.name if proto.name and proto.name not in taken else f"{kind}#{at}"
        taken.add(name)
        nodes.append(Node(name, kind, tuple(_inputs(proto)), tuple(proto.output)))
        attributes.append(_attributes(proto))
    weights = Counter[str]()
    datatypes = dict(known or {})
    for tensor in _constants(graph):
        weights[_name(tensor.data_type)] += _bytes(tensor)
    for tensor in graph.initializer:
        datatypes[tensor.name] = _name(tensor.data_type)
    datatypes.update(_inferred(model))
    _spread(graph, datatypes)
    typed = (msgspec.structs.replace(node, precision=_precision(node, datatypes)) for node in nodes)
    return OnnxNodes(
        tuple(typed), tuple(attributes), len(graph.node) - len(nodes),
        frozenset(tensor.name for tensor in graph.initializer), datatypes,
        dict(sorted(weights.items(), key=lambda item: -item[1])),
    )


def _inputs(node: Any) -> Iterator[str]:
    """What a node takes, and what its inner graphs take from outside."""
    yield from node.input
    captured: dict[str, None] = {}
    for graph in attribute_graphs(node):
        inside = list(all_nodes(graph.node))
        own = {tensor for each in inside for tensor in each.output}
        own.update(value.name for value in graph.input)
        own.update(tensor.name for tensor in graph.initializer)
        wanted = [tensor for each in inside for tensor in each.input]
        wanted += [value.name for value in graph.output]
        captured.update(dict.fromkeys(name for name in wanted if name and name not in own))
    yield from captured


def _attributes(node: Any) -> bytes:
    if node.op_type in _RANDOM or any(True for _ in attribute_graphs(node)):
        return b""
    parts = sorted(attribute.SerializeToString() for attribute in node.attribute)
    return b"|".join((str(len(node.output)).encode(), *parts))


def _constants(graph: Any) -> Iterator[Any]:
    """All tensors that are part of the graph: initialisers, and the values of Constants."""
    yield from graph.initializer
    for node in all_nodes(graph.node):
        if node.op_type == _CONSTANT:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t


def _bytes(tensor: Any) -> int:
    onnx = import_onnx()
    size = 1
    for dim in tensor.dims:
        size *= dim
    try:
        return int(size * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except (KeyError, TypeError):
        return len(tensor.raw_data)


def _inferred(model: Any) -> dict[str, str]:
    """The datatypes that follow from the operators that ONNX itself knows."""
    onnx = import_onnx()
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except Exception:  # what it raises for odd models differs; then less is known
        graph = model.graph
    return {
        value.name: _name(value.type.tensor_type.elem_type)
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.HasField("tensor_type") and value.type.tensor_type.elem_type
    }


def _spread(graph: Any, datatypes: dict[str, str]) -> None:
    """Fill in what ONNX does not know of other operators: they mostly give what they take."""
    for node in graph.node:
        found = _result(node, datatypes)
        if found:
            for name in node.output:
                datatypes.setdefault(name, found)


def _result(node: Any, datatypes: dict[str, str]) -> str:
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == _GIVEN_BY_TYPE:
            return _name(attribute.i)
    taken: Sequence[str] = node.input
    if node.op_type.startswith(("QLinear", "Quantize")):
        taken = node.input[::-1]  # the last one is the zero point, which has the result's type
    return next((datatypes[name] for name in taken if name in datatypes), "")


def _precision(node: Node, datatypes: dict[str, str]) -> str:
    return next((datatypes[name] for name in node.outputs if name in datatypes), "")


def _name(element: int) -> str:
    onnx = import_onnx()
    name = onnx.TensorProto.DataType.Name(element)
    return _DATATYPES.get(name, str(name))
