"""ONNX files that only make sense where there is a GPU."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 64
SCALE = 512
ROW_BYTES = (SIDE * SCALE) ** 2 * 4
"""What one row of `make_huge` needs for its largest tensor: 4 GiB."""


def make_huge(path: str) -> None:
    """`x` FP32[-1, 1, 64, 64] enlarged to 32768 x 32768 and averaged: small files, huge needs."""
    scales = numpy_helper.from_array(np.array([1, 1, SCALE, SCALE], np.float32), "scales")
    graph = helper.make_graph(
        [
            helper.make_node("Resize", ["x", "", "scales"], ["large"], mode="nearest"),
            helper.make_node("GlobalAveragePool", ["large"], ["y"]),
        ],
        "huge",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1, 1, 1])],
        [scales],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def make_convolutions(path: str) -> None:
    """`x` FP32[-1, 3, 64, 64] through three convolutions to `y` FP32[-1, 64, 64, 64]."""
    random = np.random.default_rng(3)
    nodes, weights = [], []
    source, channels = "x", 3
    for index, target in enumerate(("a", "b", "y")):
        weight = random.standard_normal((64, channels, 3, 3), np.float32) / 24
        weights.append(numpy_helper.from_array(weight, f"w{index}"))
        nodes.append(helper.make_node("Conv", [source, f"w{index}"], [target], pads=[1] * 4))
        source, channels = target, 64
    graph = helper.make_graph(
        nodes, "convolutions",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 64, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 64, 64, 64])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
