import numpy as np
import onnx
import pytest
import tensorrt_rtx
from onnx import TensorProto, helper

from tests.build.graphs import (
    CLASSIFIER,
    DETECTOR,
    RECOGNIZER,
    builds,
    flattened,
    integers,
    make,
    relu,
)
from trtserve.build.graph import graph_of, read_graph
from trtserve.build.lint import fixed_batch, lint, parser_findings
from trtserve.build.shapes import from_sizes, parse_profile


def codes(findings):
    return [finding.code for finding in findings]


def one(findings, code):
    (found,) = [finding for finding in findings if finding.code == code]
    return found


@pytest.mark.parametrize("path", [DETECTOR, RECOGNIZER], ids=["detector", "recognizer"])
def test_good_models_have_no_findings(path):
    graph = read_graph(path)
    size = "48x320" if path == RECOGNIZER else "224"
    assert lint(graph, from_sizes(graph, [size])) == []
    assert parser_findings(tensorrt_rtx, graph) == []


def test_one_image_is_explained(tmp_path):
    found = one(lint(relu(tmp_path / "m.onnx", (1, 3, 224, 224))), "fixed-batch")
    assert found.severity == "warning"
    assert found.fixable
    assert found.where == "x"
    for words in ("takes one image", "implicit batch", "max_batch_size", "gone"):
        assert words in found.problem
    assert "dynamic_axes" in found.cure
    assert "--fix" in found.cure


def test_a_batch_of_several_is_fixed_too(tmp_path):
    found = one(lint(relu(tmp_path / "m.onnx", (4, 3))), "fixed-batch")
    assert "exactly 4 rows" in found.problem


def test_a_number_for_the_whole_request_is_no_batch_of_one(tmp_path):
    def scaled(batch):
        return make(
            tmp_path / "m.onnx", [("Mul", "x scale", "y")],
            {"x": ("FP32", (batch, 3)), "scale": ("FP32", (1,))}, {"y": ("FP32", (batch, 3))},
        )

    assert codes(lint(scaled("N"))) == []
    assert fixed_batch(scaled("N")) is None
    found = one(lint(scaled(1)), "fixed-batch")
    assert found.where == "x"
    assert "the batch of 'x' is fixed" in found.problem
    assert fixed_batch(relu(tmp_path / "m.onnx", (1,))) == 1  # nothing else can be a batch


def test_an_open_batch_whose_output_is_fixed(tmp_path):
    found = one(lint(relu(tmp_path / "m.onnx", ("N", 4), output=(1, 4))), "output-batch")
    assert "'y' always has 1 row:" in found.problem


def test_a_reshape_with_a_batch_in_it_is_found(tmp_path):
    graph = flattened(tmp_path / "m.onnx", "N", (1, 8))
    found = one(lint(graph), "baked-reshape")
    assert found.where == "flat"
    assert "[1, 8]" in found.problem
    assert found.fixable


@pytest.mark.parametrize("target", [(-1, 8), (0, -1), (0, 8)])
def test_a_reshape_that_grows_is_not(tmp_path, target):
    assert lint(flattened(tmp_path / "m.onnx", "N", target)) == []


def test_a_reshape_of_weights_is_not(tmp_path):
    graph = make(
        tmp_path / "m.onnx", [("Reshape", "w target", "v"), ("Add", "x v", "y")],
        {"x": ("FP32", ("N", 2, 2))}, {"y": ("FP32", ("N", 2, 2))},
        {"w": np.ones(4, np.float32), "target": integers(1, 2, 2)},
    )
    assert lint(graph) == []


def test_a_symbol_for_two_sizes_fails_the_build_and_lint_says_so_before():
    graph = read_graph(CLASSIFIER)
    profile = parse_profile("x=1x3x48x192,8x3x48x192,32x3x48x192", graph, "lines")
    assert "with this name" in builds(tensorrt_rtx, graph.model, [profile])
    found = one(lint(graph, [profile]), "shared-symbol")
    assert found.severity == "error"
    assert found.where == "x[2] and x[3]"
    assert found.subject == "?"
    assert "profile lines has them differ: the build fails" in found.problem


def test_a_symbol_for_two_sizes_that_are_equal_is_a_warning():
    graph = read_graph(CLASSIFIER)
    for profiles in ([], from_sizes(graph, ["48"])):
        found = one(lint(graph, profiles), "shared-symbol")
        assert found.severity == "warning"
        assert "requests where they differ are refused" in found.problem


def test_a_symbol_of_several_inputs_is_a_promise_that_may_hold(tmp_path):
    graph = make(
        tmp_path / "m.onnx", [("Add", "a b", "y")],
        {"a": ("FP32", ("N", "S")), "b": ("FP32", ("N", "S"))}, {"y": ("FP32", ("N", "S"))},
    )
    assert lint(graph, from_sizes(graph, ["8"])) == []
    clash = parse_profile("a=1x8,2x8,4x8;b=1x8,2x9,4x9", graph)
    assert one(lint(graph, [clash]), "shared-symbol").severity == "error"


def test_the_batch_of_all_inputs_is_one_whatever_it_is_called(tmp_path):
    graph = make(
        tmp_path / "m.onnx", [("Add", "a b", "y")],
        {"a": ("FP32", ("?", 4)), "b": ("FP32", ("?", 4))}, {"y": ("FP32", ("?", 4))},
    )
    assert lint(graph) == []


def test_batches_that_differ_between_inputs_are_not_for_a_fix(tmp_path):
    graph = make(
        tmp_path / "m.onnx", [("Add", "a b", "y")],
        {"a": ("FP32", ("N", 4)), "b": ("FP32", ("N", 4))}, {"y": ("FP32", ("N", 4))},
    )
    found = one(lint(graph, [parse_profile("a=1x4,2x4,4x4;b=1x4", graph)]), "shared-symbol")
    assert (found.severity, found.fixable) == ("error", False)


def test_operators_that_are_not_taken(tmp_path):
    graph = make(
        tmp_path / "m.onnx", [("Unique", "x", "u"), ("Relu", "x", "y")],
        {"x": ("FP32", ("N", 4))}, {"y": ("FP32", ("N", 4)), "u": ("FP32", ("M",))},
    )
    found = one(lint(graph), "operator")
    assert found.severity == "error"
    assert found.where == "Unique"
    assert found.cure
    said = parser_findings(tensorrt_rtx, graph)
    assert codes(said) == ["parser"]
    assert "tensorrt_rtx" in said[0].problem
    assert "Unique: not supported (UNSUPPORTED_NODE)" in said[0].problem
    assert said[0].where == "node 0"


def test_operators_of_others_need_a_plugin(tmp_path):
    path = tmp_path / "m.onnx"
    relu(path, ("N", 4))
    model = onnx.load(path)
    model.graph.node[0].op_type, model.graph.node[0].domain = "Mine", "mine"
    model.graph.node[0].name = "special"
    model.opset_import.append(helper.make_opsetid("mine", 1))
    graph = graph_of(model, path)
    assert one(lint(graph), "custom-operator").where == "mine::Mine"
    (said,) = parser_findings(tensorrt_rtx, graph)
    assert said.where == "special"
    assert "Plugin not found" in said.problem
    assert "library" in said.cure


def test_a_datatype_that_tensorrt_lacks(tmp_path):
    graph = make(
        tmp_path / "m.onnx", [("Cast", "x", "y", {"to": TensorProto.FLOAT})],
        {"x": ("UINT16", ("N", 4))}, {"y": ("FP32", ("N", 4))},
    )
    assert one(lint(graph), "datatype").severity == "error"
    (said,) = parser_findings(tensorrt_rtx, graph)
    assert "data type" in said.problem


def test_wide_integers_and_floats(tmp_path):
    graph = make(
        tmp_path / "m.onnx",
        [("Cast", "i", "f", {"to": TensorProto.DOUBLE}), ("Add", "f d", "y")],
        {"i": ("INT64", ("N", 4)), "d": ("FP64", ("N", 4))}, {"y": ("FP64", ("N", 4))},
    )
    found = lint(graph)
    assert [(one.code, one.severity, one.where) for one in found] == [
        ("fp64", "warning", "d"), ("fp64", "warning", "y"), ("int64", "hint", "i"),
    ]


@pytest.mark.parametrize(
    ("opset", "expected"), [(8, ["opset"]), (9, []), (25, []), (26, ["opset"])]
)
def test_opsets(tmp_path, opset, expected):
    path = tmp_path / "m.onnx"
    relu(path, ("N", 4))
    model = onnx.load(path)
    model.opset_import[0].version = opset
    assert codes(lint(graph_of(model, path))) == expected


def test_an_input_without_a_shape(tmp_path):
    path = tmp_path / "m.onnx"
    relu(path, ("N", 4))
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    assert codes(lint(graph_of(model, path))) == ["no-shape"]


def test_an_open_batch_that_no_profile_uses(tmp_path):
    graph = relu(tmp_path / "m.onnx", ("N", 3, "H", "W"))
    single = from_sizes(graph, ["8", "16"], (1,))
    assert "one image at a time" in one(lint(graph, single), "no-dynamic-batch").problem
    several = from_sizes(graph, ["8"], (4,))
    assert "4 at most" in one(lint(graph, several), "no-dynamic-batch").problem
    assert lint(graph, [*single, *from_sizes(graph, ["8"], (1, 2))]) == []


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ("x=1x3x64x64,8x3x64x64,32x3x256x256", None),
        ("x=1x3x32x32,8x3x64x64,32x3x256x256", "64 times as large"),
        ("x=1x3x8x8,8x3x8x8,1024x3x8x8", "1024 rows for 1"),
    ],
)
def test_wide_ranges(tmp_path, shapes, words):
    graph = relu(tmp_path / "m.onnx", ("N", 3, "H", "W"))
    found = lint(graph, [parse_profile(shapes, graph)])
    if words is None:
        assert found == []
    else:
        assert words in one(found, "wide-range").problem


def test_errors_come_first(tmp_path):
    graph = make(
        tmp_path / "m.onnx", [("Unique", "x", "y")], {"x": ("INT64", (1, 4))},
        {"y": ("INT64", ("M",))},
    )
    assert [one.severity for one in lint(graph)] == ["error", "warning", "hint"]


def test_a_finding_reads_as_a_sentence(tmp_path):
    text = str(lint(relu(tmp_path / "m.onnx", (1, 4)))[0])
    assert text.startswith("x: the batch of 'x' is fixed to 1")
    assert text.endswith("[fixed-batch]")
