"""ResNet50 as an ONNX file with random weights: nothing to download, the same bytes every time.

The network of torchvision's `resnet50` (bottlenecks of 3, 4, 6, 3; stride in the 3x3; batch
normalisation folded into the convolutions), in FP16, on UINT8 pixels that it normalises itself.
Weights are He-initialised; each block's last convolution is scaled down so that activations
neither vanish nor overflow FP16. Speed does not depend on what the weights are.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MEAN = (123.675, 116.28, 103.53)
DEVIATION = (58.395, 57.12, 57.375)
BLOCKS = (3, 4, 6, 3)
CLASSES = 1000
_SEED = 50


class _Graph:
    """Nodes and weights under construction."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(_SEED)

    def constant(self, name: str, values: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(values.astype(np.float16), name))
        return name

    def node(self, kind: str, inputs: list[str], name: str, **attributes) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def conv(
        self, source: str, name: str, channels: tuple[int, int], kernel: int, stride: int,
        gain: float = 1.0,
    ) -> str:
        taken, given = channels
        spread = gain * np.sqrt(2 / (taken * kernel * kernel))
        weight = self._random.normal(0, spread, (given, taken, kernel, kernel))
        bias = self._random.normal(0, 0.01, given)
        pad = kernel // 2
        return self.node(
            "Conv",
            [source, self.constant(f"{name}.weight", weight), self.constant(f"{name}.bias", bias)],
            name, kernel_shape=[kernel, kernel], strides=[stride, stride], pads=[pad] * 4,
        )

    def relu(self, source: str) -> str:
        return self.node("Relu", [source], f"{source}.relu")

    def bottleneck(self, source: str, name: str, taken: int, width: int, stride: int) -> str:
        given = 4 * width
        inner = self.relu(self.conv(source, f"{name}.conv1", (taken, width), 1, 1))
        inner = self.relu(self.conv(inner, f"{name}.conv2", (width, width), 3, stride))
        inner = self.conv(inner, f"{name}.conv3", (width, given), 1, 1, gain=0.3)
        if taken != given or stride != 1:
            source = self.conv(source, f"{name}.downsample", (taken, given), 1, stride, gain=0.7)
        return self.relu(self.node("Add", [inner, source], f"{name}.add"))


def build(path: Path, size: int) -> None:
    """Write the network for square images of `size` pixels: `image` UINT8[-1, 3, size, size] to
    `logits` FP16[-1, 1000]."""
    graph = _Graph()
    mean = graph.constant("mean", np.array(MEAN).reshape(1, 3, 1, 1))
    scale = graph.constant("scale", 1 / np.array(DEVIATION).reshape(1, 3, 1, 1))
    pixels = graph.node("Cast", ["image"], "pixels", to=TensorProto.FLOAT16)
    centred = graph.node("Sub", [pixels, mean], "centred")
    normal = graph.node("Mul", [centred, scale], "normalised")
    value = graph.relu(graph.conv(normal, "conv1", (3, 64), 7, 2))
    value = graph.node(
        "MaxPool", [value], "maxpool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4
    )
    taken = 64
    for stage, count in enumerate(BLOCKS):
        width = 64 << stage
        for block in range(count):
            stride = 2 if stage and not block else 1
            value = graph.bottleneck(value, f"layer{stage + 1}.{block}", taken, width, stride)
            taken = 4 * width
    value = graph.node("GlobalAveragePool", [value], "pooled")
    value = graph.node("Flatten", [value], "features", axis=1)
    weight = graph.constant(
        "fc.weight", np.random.default_rng(_SEED).normal(0, 0.02, (taken, CLASSES))
    )
    bias = graph.constant("fc.bias", np.zeros(CLASSES))
    graph.node("Gemm", [value, weight, bias], "logits")
    model = helper.make_model(
        helper.make_graph(
            graph.nodes, f"resnet50-{size}",
            [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 3, size, size])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT16, ["n", CLASSES])],
            graph.weights,
        ),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
    )
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
