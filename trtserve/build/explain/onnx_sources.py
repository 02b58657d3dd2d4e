"""Which nodes of a file stand behind each node of ONNX Runtime's optimised graph. Pure.

ONNX Runtime does not write down what it fused. The names of tensors mostly stay, though: what an
optimised node stands for are the nodes of the file on the way back from what it gives to what it
takes.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from trtserve.build.explain.explanation import Node

_TOKEN = re.compile(r"_token_\d+$")
"""What ONNX Runtime adds to a name that is taken."""

_BLOCKED = "_nchwc"
"""A node in the layout for CPUs is named after the tensor that its predecessor gave, and this."""


@dataclass(frozen=True, slots=True)
class _File:
    """The file's nodes, found by what they give and by their names."""

    nodes: Mapping[str, Node]
    producers: Mapping[str, Node] = field(default_factory=dict)
    order: Mapping[str, int] = field(default_factory=dict)


def find_sources(
    before: Sequence[Node], after: Sequence[Node], weights: Iterable[str] = ()
) -> list[tuple[str, ...]]:
    """For each optimised node the names of the file's nodes that it stands for, in their order.

    `weights` are the names of the constants that the optimised graph has: a node whose result
    is one of them was computed ahead.
    """
    file = _File(
        {node.name: node for node in before},
        {tensor: node for node in before for tensor in node.outputs if tensor},
        {node.name: at for at, node in enumerate(before)},
    )
    given = [_known_outputs(node, file) for node in after]
    # Whatever is still a tensor of its own belongs to the node that gives it.
    present = {tensor for tensors in given for tensor in tensors}
    present.update(weights)
    present.update(tensor for node in after for tensor in node.inputs)
    taken: set[str] = set()
    found = []
    for node, tensors in zip(after, given, strict=True):
        names = _walk_back(node, tensors, present, file) - taken
        taken |= names
        found.append(tuple(sorted(names, key=file.order.__getitem__)))
    return found


def find_twins(before: Sequence[Node], attributes: Sequence[bytes]) -> dict[str, str]:
    """Nodes that compute what an earlier one does, with that one's name.

    `attributes` are each node's, serialised, or empty bytes for a node that has no twin: one
    that draws random numbers.
    """
    first: dict[tuple[str, tuple[str, ...], bytes], Node] = {}
    same: dict[str, str] = {}
    twins: dict[str, str] = {}
    for node, extra in zip(before, attributes, strict=True):
        if not extra:
            continue
        key = (node.kind, tuple(same.get(name, name) for name in node.inputs), extra)
        twin = first.setdefault(key, node)
        if twin is not node:
            twins[node.name] = twin.name
            same.update(zip(node.outputs, twin.outputs, strict=False))
    return twins


def without_twins(before: Sequence[Node], twins: Mapping[str, str]) -> list[Node]:
    """The other nodes, taking the results of the first of the twins."""
    nodes = {node.name: node for node in before}
    same = {
        tensor: first
        for name, twin in twins.items()
        for tensor, first in zip(nodes[name].outputs, nodes[twin].outputs, strict=False)
    }
    return [
        Node(node.name, node.kind, tuple(same.get(t, t) for t in node.inputs), node.outputs)
        for node in before if node.name not in twins
    ]


def _known_outputs(node: Node, file: _File) -> tuple[str, ...]:
    """The tensors of the file that an optimised node gives, under whatever name."""
    own = tuple(tensor for tensor in node.outputs if tensor in file.producers)
    if own:
        return own
    name = _TOKEN.sub("", node.name)
    if name.endswith(_BLOCKED) and name.removesuffix(_BLOCKED) in file.producers:
        return (name.removesuffix(_BLOCKED),)
    # A fused node is named after one of its nodes, and how it was fused: Mul_3/GeluFusion/.
    source = file.nodes.get(name) or file.nodes.get(name.partition("/")[0])
    return source.outputs if source is not None else ()


def _walk_back(
    node: Node, given: Iterable[str], present: set[str], file: _File
) -> set[str]:
    names: set[str] = set()
    if set(given) & set(node.inputs):
        return names  # it takes what it gives: only its layout is another
    pending = list(given)
    while pending:
        source = file.producers.get(pending.pop())
        if source is None or source.name in names:
            continue
        names.add(source.name)
        pending += [tensor for tensor in source.inputs if tensor and tensor not in present]
    return names
