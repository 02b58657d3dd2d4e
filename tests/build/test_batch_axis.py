import onnx
import pytest

from tests.build.graphs import attention, flattened, integers, make
from trtserve.build.batch_axis import baked_reshapes, reshaped, set_target


@pytest.mark.parametrize(
    ("data", "target", "expected"),
    [
        ((2, 3, 4), (0, -1), (2, 12)),
        ((2, 3, 4), (-1, 4), (6, 4)),
        ((2, 3, 4), (24,), (24,)),
        ((2, 3, 4), (1, 12), None),
        ((2, 3, 4), (5, -1), None),
        ((2, 3), (0, 0, 0), None),
        ((2, 3), (-1, -1), None),
    ],
)
def test_what_reshape_makes(data, target, expected):
    assert reshaped(data, target) == expected


def test_zero_may_be_a_size():
    assert reshaped((0, 3), (0, 7), zeros=False) == (0, 7)
    assert reshaped((2, 3), (0, 3), zeros=False) is None


def test_a_target_that_grows_is_not_baked(tmp_path):
    graph = flattened(tmp_path / "m.onnx", 1, (-1, 8))
    assert baked_reshapes(graph.model, {"x": (1, 3, 8, 8)}, other_sizes_open=False) == []


def test_the_place_of_the_batch_is_found(tmp_path):
    graph = attention(tmp_path / "m.onnx", batch=2)
    found = baked_reshapes(graph.model, {"x": (2, 7, 24)}, other_sizes_open=False)
    assert [(one.output, one.old, one.new) for one in found] == [
        ("q2", (7, 8, 6), (7, -1, 6)),
        ("k2", (7, 8, 6), (7, -1, 6)),
        ("o3", (7, 2, 24), (7, -1, 24)),
    ]


def test_a_new_dimension_of_one_is_not_the_batch(tmp_path):
    graph = make(
        tmp_path / "m.onnx", [("Reshape", "x target", "y")], {"x": ("FP32", (2, 4))},
        {"y": ("FP32", (1, 2, 4))}, {"target": integers(1, 2, 4)},
    )
    (found,) = baked_reshapes(graph.model, {"x": (2, 4)}, other_sizes_open=False)
    assert found.new == (1, -1, 4)


def rest_elsewhere(path):
    """A target whose -1 stands for another size than the batch, which moves into it."""
    return make(
        path, [("Transpose", "x", "t", {"perm": [1, 0, 2]}), ("Reshape", "t target", "y")],
        {"x": ("FP32", (1, 4, "W"))}, {"y": ("FP32", (4, 1, "W"))},
        {"target": integers(4, 1, 1, -1)},
    )


def test_no_size_is_fixed_that_is_open(tmp_path):
    graph, shapes = rest_elsewhere(tmp_path / "m.onnx"), {"x": (1, 4, 6)}
    (found,) = baked_reshapes(graph.model, shapes, other_sizes_open=True)
    assert found.new == (4, 0, 1, -1)
    model = onnx.load(graph.path)
    set_target(model, "y", (2, 2, 1, -1))
    assert baked_reshapes(model, shapes, other_sizes_open=True) == []
    (found,) = baked_reshapes(model, shapes, other_sizes_open=False)
    assert found.new == (2, 2, -1, 6)


def test_an_unknown_operator_in_between_ends_the_search(tmp_path):
    graph = flattened(tmp_path / "m.onnx")
    model = onnx.load(graph.path)
    model.graph.node[2].domain = "mine"
    assert baked_reshapes(model, {"x": (1, 3, 8, 8)}, other_sizes_open=False) == []


def test_a_shared_target_is_changed_for_one_reshape_only(tmp_path):
    graph = attention(tmp_path / "m.onnx")
    model = onnx.load(graph.path)
    set_target(model, "q2", (7, -1, 6))
    reshapes = [node for node in model.graph.node if node.op_type == "Reshape"]
    names = {node.output[0]: node.input[1] for node in reshapes}
    assert names["k2"] == "split"
    assert names["q2"] != "split"
    set_target(model, "q2", (7, 4, 6))
    tensors = [tensor.name for tensor in model.graph.initializer]
    assert len(tensors) == len(set(tensors))
