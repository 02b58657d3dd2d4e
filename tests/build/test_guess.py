import numpy as np
import onnx
import pytest

from tests.build.graphs import integers, make, relu
from trtserve.build.graph import graph_of
from trtserve.build.guess import guess_sizes, one_name, usual_sizes, whole_shapes


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (("N", 3, "H", "W"), {2: 224, 3: 224}),
        (("N", "H", "W", 3), {1: 224, 2: 224}),
        (("N", 3, 64, "W"), {3: 224}),
        (("N", "S"), {1: 128}),
        (("N", "S", 80), {1: 128}),
        (("N", 3, 8, 8), {}),
    ],
)
def test_usual_sizes(tmp_path, shape, expected):
    graph = relu(tmp_path / "m.onnx", shape)
    assert usual_sizes(graph) == {("x", at): size for at, size in expected.items()}


def test_the_next_guess_is_tried_where_one_fails(tmp_path):
    # Heights other than 32 do not fit the weight.
    graph = make(
        tmp_path / "m.onnx", [("Add", "x w", "y")],
        {"x": ("FP32", ("N", 3, "H", "W"))}, {"y": ("FP32", ("N", 3, "H", "W"))},
        {"w": np.ones((1, 3, 32, 1), np.float32)},
    )
    sizes, lines = guess_sizes(graph)
    assert sizes == {("x", 2): (32, 32, 32), ("x", 3): (160, 320, 640)}
    assert lines[0] == "x: dimension 2 is 32"


def test_a_range_is_kept_only_if_its_ends_run_together(tmp_path):
    # Both lengths together may be 700, the size of the table: 640 is fine, 1024 is not.
    graph = make(
        tmp_path / "m.onnx",
        [
            ("Concat", "a b", "both", {"axis": 1}), ("Shape", "both", "shape"),
            ("Slice", "shape one two", "length"), ("Sub", "length one", "last"),
            ("Gather", "table last", "found"), ("Add", "both found", "y"),
        ],
        {"a": ("FP32", ("N", "K")), "b": ("FP32", ("N", "L"))}, {"y": ("FP32", ("N", "M"))},
        {"one": integers(1), "two": integers(2), "table": np.zeros(700, np.float32)},
    )
    sizes, _ = guess_sizes(graph)
    assert set(sizes.values()) == {(32, 128, 128)}


def test_placeholders_are_no_names(tmp_path):
    graph = relu(tmp_path / "m.onnx", ("N", 3, "?", "W"))
    assert one_name(graph, ("x", 2)) == ("x", 2)
    assert one_name(graph, ("x", 3)) == "W"


def test_whole_shapes(tmp_path):
    graph = relu(tmp_path / "m.onnx", ("N", 3, "H", 8))
    assert whole_shapes(graph, {("x", 2): 5}, rows=4) == {"x": (4, 3, 5, 8)}


def test_sizes_are_not_tried_with_a_model_that_does_not_load(tmp_path):
    path = tmp_path / "m.onnx"
    relu(path, ("N", "S"))
    model = onnx.load(path)
    model.graph.node[0].op_type = "Nonsense"
    sizes, lines = guess_sizes(graph_of(model, path))
    assert sizes == {("x", 1): (128, 128, 128)}
    assert "were not tried: ONNX Runtime does not load it" in lines[-1]
