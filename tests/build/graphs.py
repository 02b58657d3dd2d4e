"""Small graphs and three real models, for the tests of this folder."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from trtserve.build.graph import Graph, read_graph
from trtserve.build.messages import message_log
from trtserve.testing.models import node, save

OCR = Path(find_spec("rapidocr_onnxruntime").submodule_search_locations[0]) / "models"  # type: ignore[union-attr,index]

DETECTOR = OCR / "ch_PP-OCRv4_det_infer.onnx"
RECOGNIZER = OCR / "ch_PP-OCRv4_rec_infer.onnx"
CLASSIFIER = OCR / "ch_ppocr_mobile_v2.0_cls_infer.onnx"
"""Its height and width share the symbol `?`."""

RANDOM = np.random.default_rng(0)


def weights(*shape):
    return (RANDOM.standard_normal(shape) * 0.1).astype(np.float32)


def integers(*values):
    return np.array(values, np.int64)


def make(path, nodes, inputs, outputs, constants=None) -> Graph:
    """The graph of these nodes, each (operator, inputs, outputs, attributes)."""
    made = [
        node(operator, takes.split(), gives.split(), **(rest[0] if rest else {}))
        for operator, takes, gives, *rest in nodes
    ]
    save(str(path), made, inputs, outputs, constants)
    return read_graph(Path(path))


def relu(path, shape, datatype="FP32", output=None) -> Graph:
    return make(
        path, [("Relu", "x", "y")], {"x": (datatype, shape)}, {"y": (datatype, output or shape)}
    )


def flattened(path, batch=1, target=(1, -1)) -> Graph:
    """A small classifier, exported for one batch: its Reshape has it baked in."""
    return make(
        path,
        [
            ("Conv", "x k", "a", {"kernel_shape": [3, 3], "pads": [1] * 4}),
            ("Relu", "a", "b"),
            ("GlobalAveragePool", "b", "pooled"),
            ("Reshape", "pooled target", "flat"),
            ("MatMul", "flat w", "y"),
        ],
        {"x": ("FP32", (batch, 3, 8, 8))},
        {"y": ("FP32", (batch, 5))},
        {"k": weights(8, 3, 3, 3), "w": weights(8, 5), "target": integers(*target)},
    )


def attention(path, batch=1, length=7, width=24, heads=4) -> Graph:
    """Attention with the batch in the middle, where exporters often have it."""
    return make(
        path,
        [
            ("Transpose", "x", "t", {"perm": [1, 0, 2]}),
            ("MatMul", "t wq", "q"),
            ("MatMul", "t wk", "k"),
            ("Reshape", "q split", "q2"),
            ("Reshape", "k split", "k2"),
            ("Transpose", "q2", "q3", {"perm": [1, 0, 2]}),
            ("Transpose", "k2", "k3", {"perm": [1, 2, 0]}),
            ("Transpose", "k2", "v3", {"perm": [1, 0, 2]}),
            ("MatMul", "q3 k3", "scores"),
            ("Softmax", "scores", "shares", {"axis": -1}),
            ("MatMul", "shares v3", "o"),
            ("Transpose", "o", "o2", {"perm": [1, 0, 2]}),
            ("Reshape", "o2 joined", "o3"),
            ("Transpose", "o3", "y", {"perm": [1, 0, 2]}),
        ],
        {"x": ("FP32", (batch, length, width))},
        {"y": ("FP32", (batch, length, width))},
        {
            "wq": weights(width, width), "wk": weights(width, width),
            "split": integers(length, batch * heads, width // heads),
            "joined": integers(length, batch, width),
        },
    )


def builds(module, model, profiles) -> str:
    """Build a plan with TensorRT. What it says if that fails; empty: it worked."""
    log = message_log(module)
    builder = module.Builder(log)
    network = builder.create_network(0)
    parser = module.OnnxParser(network, log)
    assert parser.parse(model.SerializeToString()), log.errors
    config = builder.create_builder_config()
    for one in profiles:
        profile = builder.create_optimization_profile()
        for name, shapes in one.shapes.items():
            profile.set_shape(name, shapes.min, shapes.opt, shapes.max)
        config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    return "" if plan is not None else "\n".join(log.errors)
