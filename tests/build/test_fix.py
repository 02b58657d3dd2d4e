import numpy as np
import onnx
import pytest
import tensorrt_rtx
from onnx import TensorProto, helper

from tests.build.graphs import (
    CLASSIFIER,
    DETECTOR,
    attention,
    builds,
    flattened,
    integers,
    make,
    relu,
    weights,
)
from trtserve.build.cpu_run import Session
from trtserve.build.fix import fix
from trtserve.build.graph import graph_of, read_graph
from trtserve.build.lint import lint, parser_findings
from trtserve.build.shapes import derive, parse_profile


def mend(graph, profiles=()):
    """The mended graph, what was done and what is left."""
    result = fix(graph, lint(graph, profiles))
    onnx.checker.check_model(result.model)
    return graph_of(result.model, graph.path), result.done, result.left


def run(graph, **inputs):
    with Session(graph.model) as session:
        return session.run(inputs)


def same_rows(before, after, shape):
    """Whether a batch gives what each row gave alone."""
    x = np.random.default_rng(5).standard_normal(shape, np.float32)
    together = run(after, x=x)["y"]
    alone = np.concatenate([run(before, x=x[at : at + 1])["y"] for at in range(len(x))])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)


def test_a_graph_without_findings_stays():
    graph = read_graph(DETECTOR)
    result = fix(graph, [])
    assert (result.done, result.left) == ([], [])
    assert result.model == graph.model


@pytest.mark.parametrize("target", [(1, -1), (1, 8), (-1, 8)])
def test_the_batch_is_opened_and_reshapes_with_it(tmp_path, target):
    before = flattened(tmp_path / "m.onnx", 1, target)
    after, done, left = mend(before)
    assert left == []
    assert lint(after) == []
    assert after.inputs[0].dims == ("batch", 3, 8, 8)
    assert after.outputs[0].dims == ("batch", 5)
    assert done[0] == "x FP32[1, 3, 8, 8]: dimension 0 is open now, as 'batch'"
    assert done[-1].startswith("proven with ONNX Runtime")
    same_rows(before, after, (5, 3, 8, 8))
    # The graph that came is as it was.
    assert before.inputs == read_graph(before.path).inputs
    assert before.model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1


def test_the_mended_graph_builds_for_batches(tmp_path):
    before = flattened(tmp_path / "m.onnx")
    after, _, _ = mend(before)
    profiles, _ = derive(after)
    assert profiles[0].shapes["x"].max == (32, 3, 8, 8)
    assert "static dimensions" in builds(tensorrt_rtx, before.model, profiles)
    assert builds(tensorrt_rtx, after.model, profiles) == ""


def test_a_real_model_for_one_image_becomes_one_for_many(tmp_path):
    model = onnx.load(DETECTOR)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    for dim, size in zip(dims, (1, 3, 64, 96), strict=True):
        dim.Clear()
        dim.dim_value = size
    after, done, left = mend(graph_of(model, DETECTOR))
    assert left == []
    assert len(done) == 2
    assert after.inputs[0].dims == ("batch", 3, 64, 96)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_batch_in_the_middle_of_a_target_is_found(tmp_path, batch):
    before = attention(tmp_path / "m.onnx", batch)
    after, done, left = mend(before)
    assert left == []
    assert f"Reshape q2: target [7, {4 * batch}, 6] is now [7, -1, 6]" in done
    if batch == 1:
        same_rows(before, after, (4, 7, 24))


def test_windows_of_an_image_are_found(tmp_path):
    before = make(
        tmp_path / "m.onnx",
        [
            ("Reshape", "x apart", "a"),
            ("Transpose", "a", "b", {"perm": [0, 1, 3, 2, 4, 5]}),
            ("Reshape", "b windows", "c"),
            ("MatMul", "c w", "d"),
            ("Reshape", "d joined", "y"),
        ],
        {"x": ("FP32", (1, 8, 8, 6))}, {"y": ("FP32", (1, 64, 6))},
        {
            "apart": integers(1, 2, 4, 2, 4, 6), "windows": integers(4, 16, 6),
            "joined": integers(1, -1, 6), "w": weights(6, 6),
        },
    )
    after, done, left = mend(before)
    assert left == []
    assert "Reshape c: target [4, 16, 6] is now [-1, 16, 6]" in done
    same_rows(before, after, (3, 8, 8, 6))


def test_rows_that_depend_on_each_other_are_left_alone(tmp_path):
    graph = make(
        tmp_path / "m.onnx", [("Softmax", "x", "y", {"axis": 0})],
        {"x": ("FP32", (1, 4))}, {"y": ("FP32", (1, 4))},
    )
    after, done, left = mend(graph)
    assert done == []
    assert after.inputs == graph.inputs
    assert "not mended: with all rows at once, the rows of output 'y' are others" in left[0].problem
    assert not left[0].fixable


def test_rows_that_come_in_pairs_are_left_alone(tmp_path):
    graph = make(
        tmp_path / "m.onnx",
        [("Reshape", "x pairs", "a"), ("MatMul", "a w", "b"), ("Reshape", "b rows", "y")],
        {"x": ("FP32", (2, 4))}, {"y": ("FP32", (2, 4))},
        {"pairs": integers(-1, 8), "rows": integers(-1, 4), "w": weights(8, 8)},
    )
    _, done, left = mend(graph)
    assert done == []
    assert "does not run with x[1, 4]" in left[0].problem


def test_shapes_that_held_for_one_row_are_forgotten(tmp_path):
    graph = flattened(tmp_path / "m.onnx")
    model = onnx.shape_inference.infer_shapes(graph.model)
    assert model.graph.value_info
    after, _, _ = mend(graph_of(model, graph.path))
    assert not after.model.graph.value_info


def test_a_constant_with_the_batch_in_it_is_left_alone(tmp_path):
    graph = make(
        tmp_path / "m.onnx", [("Concat", "token x", "y", {"axis": 1})],
        {"x": ("FP32", (1, 4, 3))}, {"y": ("FP32", (1, 5, 3))}, {"token": weights(1, 1, 3)},
    )
    _, done, left = mend(graph)
    assert done == []
    assert "Concat" in left[0].problem
    assert "--fix" not in left[0].cure


def test_the_same_answer_for_everything_proves_nothing(tmp_path):
    graph = make(
        tmp_path / "m.onnx", [("Mul", "x nothing", "y")],
        {"x": ("FP32", (1, 4))}, {"y": ("FP32", (1, 4))}, {"nothing": np.zeros(4, np.float32)},
    )
    _, done, left = mend(graph)
    assert done == []
    assert "proves nothing" in left[0].problem


def test_inputs_with_different_fixed_batches_are_left_alone(tmp_path):
    graph = make(
        tmp_path / "m.onnx", [("Add", "a b", "y")],
        {"a": ("FP32", (1, 4)), "b": ("FP32", (3, 4))}, {"y": ("FP32", (3, 4))},
    )
    _, done, left = mend(graph)
    assert done == []
    assert "input b FP32[3, 4] has no batch of 1" in left[0].problem


def test_an_open_batch_gets_its_reshapes_mended(tmp_path):
    before = make(
        tmp_path / "m.onnx", [("Reshape", "x target", "y")],
        {"x": ("FP32", ("N", 4, "W"))}, {"y": ("FP32", ("N", "M"))}, {"target": integers(1, -1)},
    )
    after, done, left = mend(before)
    assert left == []
    assert "Reshape y: target [1, -1] is now [0, -1]" in done
    assert after.inputs[0].dims == ("N", 4, "W")
    same_rows(before, after, (3, 4, 5))


def test_an_output_that_says_one_row_is_opened(tmp_path):
    after, done, left = mend(relu(tmp_path / "m.onnx", ("N", 4), output=(1, 4)))
    assert left == []
    assert after.outputs[0].dims == ("N", 4)
    assert done[0] == "y FP32[1, 4]: dimension 0 is open now, as 'N'"


def test_what_was_not_mended_once_is_not_tried_again(tmp_path):
    graph = make(
        tmp_path / "m.onnx", [("Softmax", "x", "y", {"axis": 0})],
        {"x": ("FP32", (1, 4))}, {"y": ("FP32", (1, 4))},
    )
    _, _, left = mend(graph)
    assert fix(graph, left).left == left


def test_a_placeholder_does_not_become_the_name_of_the_batch(tmp_path):
    after, _, left = mend(relu(tmp_path / "m.onnx", ("?", 4), output=(1, 4)))
    assert left == []
    assert after.inputs[0].dims == after.outputs[0].dims == ("batch", 4)


def test_a_new_symbol_is_one_that_nobody_has(tmp_path):
    graph = relu(tmp_path / "m.onnx", (1, "batch"))
    after, _, _ = mend(graph)
    assert after.inputs[0].dims == ("batch_", "batch")


def test_the_angle_classifier_builds_once_its_symbol_is_split():
    before = read_graph(CLASSIFIER)
    profile = parse_profile("x=1x3x48x192,8x3x48x192,32x3x48x192", before)
    assert builds(tensorrt_rtx, before.model, [profile])
    after, done, left = mend(before, [profile])
    assert left == []
    assert done == ["symbol '?' is split: x[2] 'x_2', x[3] 'x_3'"]
    assert after.inputs[0].dims == (None, 3, "x_2", "x_3")
    assert lint(after, [profile]) == []
    assert parser_findings(tensorrt_rtx, after) == []
    assert builds(tensorrt_rtx, after.model, [profile]) == ""


def test_wide_integers_become_narrow(tmp_path):
    before = make(
        tmp_path / "m.onnx", [("Gather", "table x", "y")],
        {"x": ("INT64", ("N", 4))}, {"y": ("FP32", ("N", 4, 3))}, {"table": weights(10, 3)},
    )
    after, done, left = mend(before)
    assert left == []
    assert done == ["x INT64[N, 4] is INT32 now: clients send INT32"]
    assert after.inputs[0].datatype == "INT32"
    x = np.array([[9, 0, 3, 3]])
    np.testing.assert_array_equal(
        run(before, x=x)["y"], run(after, x=x.astype(np.int32))["y"]
    )


def test_wide_floats_become_narrow_on_both_sides(tmp_path):
    before = make(
        tmp_path / "m.onnx", [("Add", "x one", "y")],
        {"x": ("FP64", ("N", 4))}, {"y": ("FP64", ("N", 4))}, {"one": np.ones(4)},
    )
    after, done, left = mend(before)
    assert left == []
    assert done[1] == "y FP64[N, 4] is FP32 now: clients get FP32"
    x = np.array([[0, 1, 2.5, -3]], np.float32)
    found = run(after, x=x)["y"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, x + 1)


def test_inner_graphs_see_the_narrow_input_too(tmp_path):
    def branch(name, operator):
        return helper.make_graph(
            [helper.make_node(operator, ["x"], [name])], name, [],
            [helper.make_tensor_value_info(name, TensorProto.INT64, ["N"])],
        )

    graph = helper.make_graph(
        [helper.make_node("If", ["c"], ["y"], then_branch=branch("t", "Abs"),
                          else_branch=branch("e", "Neg"))],
        "m",
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["N"]),
         helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, ["N"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    after, _, _ = mend(graph_of(model, tmp_path / "m.onnx"))
    found = run(after, x=np.array([3], np.int32), c=np.array(False))
    np.testing.assert_array_equal(found["y"], [-3])


def test_an_input_that_is_an_output_is_left_alone(tmp_path):
    graph = make(
        tmp_path / "m.onnx", [("Relu", "x", "y")], {"x": ("FP64", ("N",))},
        {"x": ("FP64", ("N",)), "y": ("FP64", ("N",))},
    )
    after, done, left = mend(graph)
    assert [one.where for one in left] == ["x", "x"]
    assert done == ["y FP64[N] is FP32 now: clients get FP32"]
    assert after.inputs[0].datatype == "FP64"


def test_what_no_fix_is_for_is_left(tmp_path):
    graph = make(
        tmp_path / "m.onnx", [("Unique", "x", "y")], {"x": ("FP32", ("N",))},
        {"y": ("FP32", ("M",))},
    )
    _, done, left = mend(graph)
    assert done == []
    assert [one.code for one in left] == ["operator"]
