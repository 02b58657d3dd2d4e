"""The network as TensorRT parsed it: what there is before the builder fuses layers."""

from collections.abc import Iterator
from typing import Any

from trtserve.model.plan_manifest import Network, NetworkLayer, NetworkTensor

DATATYPES = {"FLOAT": "FP32", "HALF": "FP16"}
"""TensorRT's names for datatypes that the protocol calls otherwise."""


def describe_network(network: Any) -> Network:
    """All layers and tensors of an INetworkDefinition."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    tensors = {tensor.name: _tensor(tensor) for tensor in (*inputs, *outputs)}
    layers = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        taken, given = list(_inputs(layer)), list(_outputs(layer))
        for tensor in (*taken, *given):
            if tensor.name not in tensors:
                tensors[tensor.name] = _tensor(tensor)
        layers.append(NetworkLayer(
            layer.name, layer.type.name,
            tuple(tensor.name for tensor in taken), tuple(tensor.name for tensor in given),
        ))
    return Network(
        tuple(tensor.name for tensor in inputs), tuple(tensor.name for tensor in outputs),
        tuple(layers), tensors,
    )


def _inputs(layer: Any) -> Iterator[Any]:
    for index in range(layer.num_inputs):
        tensor = layer.get_input(index)
        if tensor is not None:  # an optional input that is not used
            yield tensor


def _outputs(layer: Any) -> Iterator[Any]:
    for index in range(layer.num_outputs):
        yield layer.get_output(index)


def _tensor(tensor: Any) -> NetworkTensor:
    name = tensor.dtype.name
    try:
        shape = tuple(int(dim) for dim in tensor.shape)
    except ValueError:  # the rank is not known before the build
        shape = ()
    return NetworkTensor(DATATYPES.get(name, name), shape)
