"""What ONNX Runtime itself does with small models: asked for real, on the CPU."""

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from trtserve.build.explain import onnx_session
from trtserve.build.explain.onnx_file import explain_onnx, parse_shapes
from trtserve.build.explain.onnx_graph import read_nodes
from trtserve.build.explain.onnx_session import Sessions, read_profile
from trtserve.build.explain.report import tables
from trtserve.build.graph import GraphTensor
from trtserve.errors import ConfigurationError, ModelLoadError
from trtserve.testing.models import make_add, make_cast, make_matmul, make_nonzero, node, save


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def explain(path, run=""):
    return explain_onnx(path, run, cuda=False)


def make_conv_relu(path, names=("conv", "relu")):
    """y = relu(conv(x))."""
    weights = np.random.default_rng(0).standard_normal((8, 3, 3, 3)).astype(np.float32)
    save(
        str(path),
        [
            node("Conv", ["x", "w"], ["c"], name=names[0], pads=[1, 1, 1, 1]),
            node("Relu", ["c"], ["y"], name=names[1]),
        ],
        {"x": ("FP32", ("N", 3, 16, 16))}, {"y": ("FP32", ("N", 8, 16, 16))}, {"w": weights},
    )


def test_nodes_without_names_have_their_provider_where_there_is_one_only(path):
    make_add(str(path), 1.0)
    assert {layer.provider for layer in explain(path).after} == {"CPUExecutionProvider"}


def test_a_session_s_record_knows_the_provider_of_nodes_without_names(path, tmp_path):
    make_add(str(path), 1.0)
    found = Sessions(path, tmp_path, cuda=False).optimise("all", {})
    assert found.placed == {}
    assert found.only_provider == "CPUExecutionProvider"


def layers(explanation):
    return {layer.fused: layer for layer in explanation.after}


def test_two_nodes_become_one_layer(path):
    make_conv_relu(path)
    found = explain(path)
    assert [(one.name, one.kind, one.precision) for one in found.before] == [
        ("conv", "Conv", "FP32"), ("relu", "Relu", "FP32")
    ]
    fused = layers(found)["conv", "relu"]
    assert fused.kind in ("FusedConv", "NCHWc Conv"), "which of them the processor decides"
    assert fused.precision == "FP32"
    assert fused.provider == "CPUExecutionProvider"
    assert (found.totals.before, found.totals.fused, found.totals.gone) == (2, 2, 0)
    assert list(found.totals.fusions) == [f"Conv + Relu → {fused.kind}"]
    assert found.totals.after == len(found.after)
    assert found.totals.reformats == len(found.after) - 1
    assert found.weights == {"FP32": 8 * 3 * 3 * 3 * 4}


def test_its_facts(path):
    make_conv_relu(path)
    facts = explain(path).facts
    assert facts["runs with"].startswith("ONNX Runtime 1.")
    assert facts["providers"] == "CPUExecutionProvider"
    assert facts["opset"] == "17"
    assert facts["takes"] == "x FP32[N, 3, 16, 16]"
    assert facts["gives"] == "y FP32[N, 8, 16, 16]"
    assert facts["weights"] == "FP32 864 B"
    assert facts["precision"] == "as exported"
    assert facts["ONNX model"].startswith("model.onnx, SHA-256 ")


def test_each_level_has_its_nodes(path):
    make_conv_relu(path)
    found = {level.name: level for level in explain(path).levels}
    assert {"none", "basic", "extended", "all"} <= found.keys()
    assert found["none"].kinds == {"Conv": 1, "Relu": 1}
    assert found["basic"].nodes == 2
    assert found["extended"].kinds == {"FusedConv": 1}
    assert all(level.seconds > 0 for level in found.values())


def test_what_is_computed_ahead_is_gone(path):
    save(
        str(path),
        [
            node("Shape", ["x"], ["s"], name="shape"),
            node("ReduceProd", ["s"], ["p"], name="size", keepdims=0),
            node("Cast", ["p"], ["f"], name="cast", to=TensorProto.FLOAT),
            node("Mul", ["x", "f"], ["y"], name="mul"),
        ],
        {"x": ("FP32", (2, 3))}, {"y": ("FP32", (2, 3))},
    )
    found = explain(path)
    assert set(layers(found)) == {("mul",)}
    assert found.gone == ("shape", "size", "cast")
    assert found.totals.gone == 3


def test_twins_are_said(path):
    save(
        str(path),
        [
            node("Exp", ["x"], ["a"], name="first"), node("Exp", ["x"], ["b"], name="second"),
            node("Sin", ["a"], ["s"], name="sin"), node("Mul", ["s", "b"], ["y"], name="mul"),
        ],
        {"x": ("FP32", ("N",))}, {"y": ("FP32", ("N",))},
    )
    found = explain(path)
    assert set(layers(found)) == {("first",), ("sin",), ("mul",)}
    assert found.gone == ("second",)
    assert "1 node computes what another one does" in " ".join(n.problem for n in found.notes)


def test_a_model_of_constants_leaves_nothing_to_run(path):
    save(str(path), [node("Add", ["a", "a"], ["y"], name="add")], {}, {"y": ("FP32", (2,))},
         {"a": np.ones(2, np.float32)})
    found = explain(path)
    assert found.totals.before == 1
    assert found.totals.gone + sum(len(layer.fused) for layer in found.after) == 1


def test_nodes_without_names_are_told_apart_by_what_they_give(path):
    make_conv_relu(path, names=("", ""))
    found = explain(path)
    assert [one.name for one in found.before] == ["Conv#0", "Relu#1"]
    assert ("Conv#0", "Relu#1") in layers(found)


def test_inner_graphs_are_one_node_that_takes_what_they_take(path):
    inner = [
        helper.make_graph([node(kind, ["m"], ["o"])], kind, [],
                          [helper.make_tensor_value_info("o", TensorProto.FLOAT, None)])
        for kind in ("Neg", "Abs")
    ]
    save(
        str(path),
        [
            node("Exp", ["x"], ["m"], name="exp"),
            node("If", ["c"], ["y"], name="if", then_branch=inner[0], else_branch=inner[1]),
        ],
        {"x": ("FP32", ("N",)), "c": ("BOOL", ())}, {"y": ("FP32", ("N",))},
    )
    found = explain(path)
    assert [one.inputs for one in found.before] == [("x",), ("c", "m")]
    assert set(layers(found)) == {("exp",), ("if",)}


@pytest.mark.parametrize(("source", "target", "wanted"), [
    ("FP32", "FP16", "FP16"), ("INT32", "FP64", "FP64"), ("FP32", "INT64", "INT64"),
])
def test_precision_is_what_a_node_gives(path, source, target, wanted):
    make_cast(str(path), source, target)
    assert explain(path).totals.precision == {wanted: 1}


def test_weights_are_counted_by_datatype_wherever_they_lie(path):
    save(
        str(path), [node("Add", ["x", "a"], ["t"]), node("Cast", ["t"], ["h"], to=10),
                    node("Add", ["h", "b"], ["y"])],
        {"x": ("FP32", (1024,))}, {"y": ("FP16", (1024,))},
        {"a": np.ones(1024, np.float32), "b": np.ones(1024, np.float16)},
    )
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert explain(path).weights == {"FP32": 4096, "FP16": 2048}
    assert read_nodes(path).nodes[-1].precision == "FP16"


def test_bf16_weights_have_their_size(path):
    save(str(path), [node("Cast", ["b"], ["f"], to=1), node("Add", ["x", "f"], ["y"])],
         {"x": ("FP32", (4,))}, {"y": ("FP32", (4,))}, {"b": np.ones(4, ml_dtypes.bfloat16)})
    assert read_nodes(path).weights == {"BF16": 8}


def test_quantized_graphs_say_so(path):
    scale: dict[str, np.ndarray] = {"s": np.array(0.1, np.float32), "z": np.array(0, np.int8)}
    save(
        str(path),
        [node("QuantizeLinear", ["x", "s", "z"], ["q"], name="q"),
         node("DequantizeLinear", ["q", "s", "z"], ["y"], name="dq")],
        {"x": ("FP32", ("N",))}, {"y": ("FP32", ("N",))}, scale,
    )
    found = explain(path)
    assert found.facts["precision"] == "carries Q/DQ"
    assert {one.kind: one.precision for one in found.before}["QuantizeLinear"] == "INT8"


def test_nothing_is_left_behind(path, tmp_path):
    make_matmul(str(path), 8, 4)
    explain(path, "x=2x8")
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]


# --- measured -----------------------------------------------------------------------------


def test_a_model_that_is_run_has_shares_of_the_time(path):
    make_conv_relu(path)
    found = explain(path, "x=4x3x16x16")
    shares = [layer.time_share for layer in found.after]
    assert sum(share or 0 for share in shares) == pytest.approx(1)
    assert None not in shares
    assert "Where the time goes" in [table.title for table in tables(found)]
    assert any("medians of 10 runs" in note.problem for note in found.notes)


def test_without_a_run_it_says_how(path):
    make_conv_relu(path)
    (note,) = (note for note in explain(path).notes if "nobody measured" in note.problem)
    assert note.cure == (
        f'Give shapes to run it on: trtserve explain {path} --run "x=1x3x16x16"'
    )


def test_the_shapes_that_it_proposes_are_likely_ones(path):
    save(str(path), [node("GlobalMaxPool", ["x"], ["y"])],
         {"x": ("FP32", ("N", 3, "H", "W"))}, {"y": ("FP32", ("N", 3, 1, 1))})
    (note,) = (note for note in explain(path).notes if "nobody measured" in note.problem)
    assert note.cure.endswith('--run "x=1x3x224x224"')


def test_nodes_without_names_have_no_time_and_that_is_said(path):
    make_add(str(path), 1.0)
    found = explain(path, "x=2x16")
    assert [layer.time_share for layer in found.after] == [None]
    assert any("without a name" in note.problem for note in found.notes)


def test_a_shape_that_it_does_not_run_with_is_an_error(path):
    make_conv_relu(path)
    with pytest.raises(ModelLoadError, match=r"does not run with x\[1, 4, 16, 16\]"):
        explain(path, "x=1x4x16x16")


def test_a_record_is_read_by_the_node_and_its_median_counts():
    # As ONNX Runtime writes it: microseconds, one event for each run of a node.
    events = [
        b'{"cat":"Session","name":"model_run","dur":900}',
        b'{"cat":"Node","name":"a_kernel_time","dur":500,"args":{"provider":"CUDAX"}}',
        b'{"cat":"Node","name":"a_kernel_time","dur":10,"args":{"provider":"CUDAX"}}',
        b'{"cat":"Node","name":"a_kernel_time","dur":12,"args":{"provider":"CUDAX"}}',
        b'{"cat":"Node","name":"a_fence_before","dur":99,"args":{}}',
        b'{"cat":"Node","name":"b_kernel_time","dur":4}',
    ]
    found = read_profile(b"[" + b",".join(events) + b"]")
    assert found.seconds == {"a": pytest.approx(12e-6), "b": pytest.approx(4e-6)}
    assert found.placed == {"a": "CUDAX"}


X, Y = GraphTensor("x", "FP32", ("N", 3)), GraphTensor("y", "INT64", ())


def test_shapes_to_run_with():
    assert parse_shapes("x=4x3", [X], "x=1x3") == {"x": (4, 3)}
    odd = GraphTensor("a=b", "FP32", (1, 2))
    assert parse_shapes("a=b=1x2", [odd], "") == {"a=b": (1, 2)}
    assert parse_shapes("y=1; x=2x3", [X, Y], "") == {"x": (2, 3), "y": (1,)}
    assert parse_shapes("x=2x3;y=", [X, Y], "") == {"x": (2, 3), "y": ()}


@pytest.mark.parametrize(("text", "problem"), [
    ("4x3", "'4x3' is no shape"), ("x=4xN", "'x=4xN' is no shape"), ("x=", "'x=' is no shape"),
    ("z=1;x=1x3", "the model has no input 'z'"), ("x=1x3", "there is no shape for y"),
])
def test_wrong_shapes_are_said_with_what_to_give(text, problem):
    with pytest.raises(ConfigurationError) as error:
        parse_shapes(text, [X, Y], "x=1x3;y=")
    assert error.value.problem == problem
    assert error.value.cure == "Give a shape for each input: x=1x3;y="


# --- what can not be explained -------------------------------------------------------------


def test_a_broken_file_is_an_error(path):
    path.write_bytes(b"no model")
    with pytest.raises(ModelLoadError) as error:
        explain(path)
    assert error.value.where == str(path)


def test_a_model_that_onnx_runtime_refuses_is_an_error(path):
    save(str(path), [node("Unheard", ["x"], ["y"])], {"x": ("FP32", (1,))}, {"y": ("FP32", (1,))})
    with pytest.raises(ModelLoadError, match=r"ONNX Runtime does not load it: .*Unheard"):
        explain(path)


def test_the_highest_level_is_what_sessions_have_if_told_nothing(path):
    import onnxruntime

    default = onnxruntime.SessionOptions().graph_optimization_level
    assert default.name == onnx_session.LEVELS[onnx_session.HIGHEST]


# --- real models ----------------------------------------------------------------------------


def ocr_model(name):
    from importlib.util import find_spec

    spec = find_spec("rapidocr_onnxruntime")
    assert spec is not None, "pip install --no-deps rapidocr-onnxruntime"
    return Path(spec.origin or "").parent / "models" / name


@pytest.mark.parametrize(("name", "nodes", "constants", "fused"), [
    ("ch_PP-OCRv4_det_infer.onnx", 330, 342, ("Conv", "BatchNormalization", "Relu")),
    ("ch_PP-OCRv4_rec_infer.onnx", 440, 420, ("Conv", "BatchNormalization")),
    ("ch_ppocr_mobile_v2.0_cls_infer.onnx", 258, 308, ("Conv", "BatchNormalization", "Relu")),
])
def test_every_node_of_the_ocr_models_is_accounted_for(name, nodes, constants, fused):
    found = explain(ocr_model(name))
    assert (found.totals.before, found.totals.constants) == (nodes, constants)
    claimed = [node for layer in found.after or () for node in layer.fused]
    assert len(claimed) == len(set(claimed)), "no node stands in two layers"
    assert len(claimed) + len(found.gone) == nodes
    # A convolution that became another kind is still one layer, whatever the layout.
    kinds = {node.name: node.kind for node in found.before}
    patterns = {tuple(kinds[node] for node in layer.fused) for layer in found.after or ()}
    assert fused in patterns
    assert ("BatchNormalization", "Conv") not in patterns
    assert "unknown" not in found.totals.precision
    levels = {level.name: level for level in found.levels}
    assert levels["none"].nodes == nodes, "before and after are counted alike"
    assert levels["extended"].nodes < levels["none"].nodes


def test_normalisation_in_nine_nodes_is_one_layer():
    found = explain(ocr_model("ch_PP-OCRv4_rec_infer.onnx"))
    normalisations = [one for one in found.after or () if one.kind == "LayerNormalization"]
    assert len(normalisations) == 5
    kinds = {node.name: node.kind for node in found.before}
    assert sorted(kinds[name] for name in normalisations[0].fused) == sorted((
        "ReduceMean", "Sub", "Pow", "ReduceMean", "Add", "Sqrt", "Div", "Mul", "Add"
    ))


def test_no_plain_layer_is_said_to_be_something_else():
    """A layer of one node is of that node's kind, but for layouts and quicker equivalents."""
    found = explain(ocr_model("ch_PP-OCRv4_rec_infer.onnx"))
    kinds = {node.name: node.kind for node in found.before}
    for layer in found.after or ():
        if len(layer.fused) == 1:
            assert layer.kind.rpartition(" ")[2] == kinds[layer.fused[0]]


def test_cuda_that_is_not_installed_is_not_wanted(path, tmp_path):
    make_nonzero(str(path))
    sessions = Sessions(path, tmp_path)
    has_cuda = "CUDAExecutionProvider" in sessions.ort.get_available_providers()
    assert sessions.wanted[-1] == "CPUExecutionProvider"
    assert (len(sessions.wanted) == 2) == has_cuda
