"""Folds batch normalization into the convolution before it, which FP16 needs.

Its variances may be far beyond FP16's 65504, and what the convolution gives before they divide it
too. Folded, both are gone: the weights carry the factor. TensorRT does the same in FP32 by
itself, but of weights that are in FP16 already nothing can be saved.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from trtserve.build.graph import all_nodes

FP16_MAX = 65504.0

_EPSILON = 1e-5
"""ONNX's, where the node says nothing."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class _Chain:
    """A convolution, perhaps the addition of a constant, and its normalization."""

    conv: Any
    norm: Any
    add: Any = None


def fold_batch_norms(model: Any) -> int:
    """Change the model; how many normalizations are gone."""
    graph = model.graph
    values = _constants(graph)
    producers = {name: node for node in graph.node for name in node.output}
    uses = Counter(name for node in all_nodes(graph.node) for name in node.input)
    # What an output or an inner graph shows has to stay.
    uses.update(value.name for value in graph.output)
    chains = [
        chain
        for node in graph.node
        if node.op_type == "BatchNormalization"
        and (chain := _chain(node, producers, uses, values)) is not None
    ]
    for chain in chains:
        _fold(graph, chain, values)
    gone = {id(node) for chain in chains for node in (chain.add, chain.norm) if node is not None}
    if chains:
        _keep(graph, [node for node in graph.node if id(node) not in gone])
    return len(chains)


def beyond_fp16(model: Any) -> list[str]:
    """The normalizations that are left and have numbers beyond FP16's. Each has a name then."""
    values = _constants(model.graph)
    found = []
    for node in model.graph.node:
        if node.op_type == "BatchNormalization" and any(
            np.abs(values[name]).max(initial=0) > FP16_MAX
            for name in node.input[1:]
            if name in values
        ):
            node.name = node.name or f"{node.output[0]}_norm"
            found.append(node.name)
    return found


def _chain(
    norm: Any, producers: dict[str, Any], uses: Counter[str], values: dict[str, Array]
) -> _Chain | None:
    """What to fold a normalization into; None: it can not be."""
    training = any(one.name == "training_mode" and one.i for one in norm.attribute)
    others = [name for name in norm.output[1:] if name]
    if training or others or any(name not in values for name in norm.input[1:5]):
        return None
    before, add = producers.get(norm.input[0]), None
    if before is not None and before.op_type == "Add" and uses[before.output[0]] == 1:
        add = before
        constants = [name for name in add.input if name in values]
        if len(constants) != 1:
            return None
        data = next(name for name in add.input if name not in values)
        before = producers.get(data)
    if before is None or before.op_type not in ("Conv", "ConvTranspose"):
        return None
    if uses[before.output[0]] != 1 or any(
        name and name not in values for name in before.input[1:]
    ):
        return None
    chain = _Chain(before, norm, add)
    return chain if add is None or _bias_of(chain, values) is not None else None


def _bias_of(chain: _Chain, values: dict[str, Array]) -> Array | None:
    """What the addition adds to each channel; None: it adds something else."""
    constant = next(values[name] for name in chain.add.input if name in values)
    rank = values[chain.conv.input[1]].ndim
    channels = values[chain.norm.input[1]].size
    if constant.ndim > rank:
        return None
    shape = (1,) * (rank - constant.ndim) + constant.shape
    if shape not in ((1, channels, *(1,) * (rank - 2)), (1,) * rank):
        return None
    return np.broadcast_to(constant.reshape(-1), (channels,))


def _fold(graph: Any, chain: _Chain, values: dict[str, Array]) -> None:
    from onnx import numpy_helper

    weights = values[chain.conv.input[1]]
    gamma, beta, mean, variance = (
        values[name].astype(np.float64) for name in chain.norm.input[1:5]
    )
    epsilon = next((a.f for a in chain.norm.attribute if a.name == "epsilon"), _EPSILON)
    factor = gamma / np.sqrt(variance + epsilon)
    bias = np.zeros_like(factor)
    if len(chain.conv.input) > 2 and chain.conv.input[2]:
        bias = bias + values[chain.conv.input[2]]
    if chain.add is not None:
        added = _bias_of(chain, values)
        bias = bias + (0 if added is None else added)
    bias = (bias - mean) * factor + beta
    name = chain.norm.output[0]
    parts = {
        f"{name}_weights": _scaled(chain.conv, weights, factor),
        f"{name}_bias": bias.astype(weights.dtype),
    }
    graph.initializer.extend(numpy_helper.from_array(one, key) for key, one in parts.items())
    del chain.conv.input[1:]
    chain.conv.input.extend(parts)
    chain.conv.output[0] = name


def _keep(graph: Any, nodes: list[Any]) -> None:
    """Leave only these nodes, and the constants that somebody still uses."""
    used = {name for node in all_nodes(nodes) for name in node.input}
    used |= {value.name for value in graph.output}
    copies = [
        type(node).FromString(node.SerializeToString())
        for node in nodes
        if node.op_type != "Constant" or node.output[0] in used
    ]
    del graph.node[:]
    graph.node.extend(copies)
    unused = {tensor.name for tensor in graph.initializer} - used
    # Old files have weights among their inputs too.
    for things in (graph.initializer, graph.input):
        for at in reversed(range(len(things))):
            if things[at].name in unused:
                del things[at]


def _scaled(conv: Any, weights: Array, factor: Array) -> Array:
    """The weights with each output channel's factor."""
    ones = (1,) * (weights.ndim - 2)
    if conv.op_type == "Conv":
        scaled = weights * factor.reshape(-1, 1, *ones)
    else:
        # Here the inputs come first, split into groups, and then the outputs of one group.
        groups = next((a.i for a in conv.attribute if a.name == "group"), 1)
        split = weights.reshape(groups, -1, *weights.shape[1:])
        scaled = (split * factor.reshape(groups, 1, -1, *ones)).reshape(weights.shape)
    return np.ascontiguousarray(scaled.astype(weights.dtype))


def _constants(graph: Any) -> dict[str, Array]:
    """The values of weights and constants."""
    from onnx import numpy_helper

    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    values[node.output[0]] = numpy_helper.to_array(attribute.t)
    return values
