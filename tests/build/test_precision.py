import math

import numpy as np
import onnx
import pytest
import tensorrt_rtx
from onnx import TensorProto

from tests.build.graphs import CLASSIFIER, DETECTOR, builds, flattened, make, relu, weights
from trtserve.build.fix import fix
from trtserve.build.graph import border, graph_of, read_graph
from trtserve.build.lint import lint
from trtserve.build.precision import PRECISIONS, check_precision, compare, recipe, to_fp16
from trtserve.build.shapes import from_sizes, parse_profile
from trtserve.errors import ConfigurationError, ModelLoadError


@pytest.fixture
def matmul(tmp_path):
    return product(tmp_path / "matmul.onnx", weights(8, 5))


def product(path, w, batch="N"):
    return make(
        path, [("MatMul", "x w", "y")], {"x": ("FP32", (batch, w.shape[0]))},
        {"y": ("FP32", (batch, w.shape[1]))}, {"w": w},
    )


def quantized(path, zero):
    return make(
        path, [("QuantizeLinear", "x scale zero", "q"), ("DequantizeLinear", "q scale zero", "y")],
        {"x": ("FP32", ("N", 4))}, {"y": ("FP32", ("N", 4))},
        {"scale": np.array(0.1, np.float32), "zero": zero},
    )


@pytest.mark.parametrize("keep_io", [True, False])
def test_a_converted_model_is_sorted_and_nearly_the_same(matmul, keep_io):
    converted = to_fp16(matmul.model, keep_io=keep_io)
    onnx.checker.check_model(converted)
    (x,), (y,) = border(converted)
    assert x.datatype == y.datatype == ("FP32" if keep_io else "FP16")
    assert converted.graph.initializer[0].data_type == TensorProto.FLOAT16
    assert matmul.model.graph.initializer[0].data_type == TensorProto.FLOAT
    (error,) = compare(matmul.model, converted, None, from_sizes(matmul, ["8"]))
    assert error.output == "y"
    assert 0 < error.max_abs < 0.01
    assert 0 < error.relative_l2 < 0.001
    assert error.argmax_agreement == 1
    assert error.samples == "generated, normal, seed 0: x[4, 8]"


def test_a_real_model_stays_right_where_a_plain_conversion_breaks_it():
    # Its normalizations have variances of 10 million and more: FP16 ends at 65504.
    from onnxruntime.transformers.float16 import convert_float_to_float16

    graph = read_graph(DETECTOR)
    profiles = from_sizes(graph, ["64x96"], (1,))
    (plain,) = compare(graph.model, convert_float_to_float16(graph.model), None, profiles)
    (ours,) = compare(graph.model, to_fp16(graph.model, keep_io=True), None, profiles)
    assert plain.max_abs > 0.5
    assert ours.max_abs < 0.01


def test_a_normalization_that_fp16_can_not_hold_stays_in_fp32(tmp_path):
    graph = make(
        tmp_path / "m.onnx", [("Relu", "x", "z"), ("BatchNormalization", "z w b b variance", "y")],
        {"x": ("FP32", ("N", 4, 8, 8))}, {"y": ("FP32", ("N", 4, 8, 8))},
        {
            "w": np.full(4, 1000, np.float32), "b": np.zeros(4, np.float32),
            "variance": np.full(4, 1e7, np.float32),
        },
    )
    (error,) = compare(
        graph.model, to_fp16(graph.model, keep_io=True), None, from_sizes(graph, ["8"])
    )
    assert error.relative_l2 < 0.001


def test_a_converted_real_model_builds():
    graph = read_graph(CLASSIFIER)
    profile = parse_profile("x=1x3x48x192,2x3x48x192,4x3x48x192", graph)
    mended = graph_of(fix(graph, lint(graph, [profile])).model, graph.path)
    converted = to_fp16(mended.model, keep_io=True)
    (error,) = compare(mended.model, converted, None, [profile])
    assert error.argmax_agreement == 1
    assert error.max_abs < 0.05
    assert builds(tensorrt_rtx, converted, [profile]) == ""


def test_equal_models_have_no_error(matmul):
    (error,) = compare(matmul.model, matmul.model, None, from_sizes(matmul, ["8"]))
    assert (error.max_abs, error.relative_l2, error.argmax_agreement) == (0, 0, 1)


def test_errors_are_measured(tmp_path, matmul):
    other = product(tmp_path / "other.onnx", -weights(8, 5))
    doubled = make(
        tmp_path / "doubled.onnx", [("MatMul", "x w", "z"), ("Add", "z z", "y")],
        {"x": ("FP32", ("N", 8))}, {"y": ("FP32", ("N", 5))},
        {"w": onnx.numpy_helper.to_array(matmul.model.graph.initializer[0])},
    )
    profiles = from_sizes(matmul, ["8"])
    (error,) = compare(matmul.model, doubled.model, None, profiles)
    assert error.relative_l2 == pytest.approx(1)
    assert error.argmax_agreement == 1
    (error,) = compare(matmul.model, other.model, None, profiles)
    assert error.argmax_agreement != 1


def test_what_overflows_is_infinitely_far_away(tmp_path):
    large = product(tmp_path / "large.onnx", np.full((8, 5), 60000, np.float32))
    (error,) = compare(
        large.model, to_fp16(large.model, keep_io=True), None, from_sizes(large, ["8"])
    )
    assert error.max_abs == error.relative_l2 == math.inf


def test_rows_of_one_number_have_no_largest(tmp_path):
    graph = product(tmp_path / "m.onnx", weights(8, 1))
    (error,) = compare(graph.model, graph.model, None, from_sizes(graph, ["8"]))
    assert error.argmax_agreement is None


def test_another_shape_is_no_conversion(tmp_path, matmul):
    wider = product(tmp_path / "wider.onnx", weights(8, 6))
    with pytest.raises(ModelLoadError, match="another shape"):
        compare(matmul.model, wider.model, None, from_sizes(matmul, ["8"]))


def test_samples_are_used_all_of_them(tmp_path, matmul):
    samples = tmp_path / "samples.npz"
    np.savez(samples, x=np.zeros((10, 8)), unused=np.zeros(3))
    doubled = to_fp16(matmul.model, keep_io=False)
    (error,) = compare(matmul.model, doubled, samples, [])
    assert error.samples == "samples.npz: x[4, 8], 3 runs"
    assert error.max_abs == 0


def test_samples_come_in_the_batches_that_the_model_takes(tmp_path):
    graph = product(tmp_path / "m.onnx", weights(8, 5), batch=2)
    samples = tmp_path / "samples.npz"
    np.savez(samples, x=np.zeros((6, 8), np.float32))
    (error,) = compare(graph.model, graph.model, samples, [])
    assert error.samples == "samples.npz: x[2, 8], 3 runs"
    np.savez(samples, x=np.zeros((5, 8), np.float32))
    with pytest.raises(ConfigurationError, match="5 samples, and the model takes exactly 2"):
        compare(graph.model, graph.model, samples, [])


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"z": np.zeros((2, 8))}, "'x' is missing"),
        ({"x": np.zeros((2, 7))}, r"'x' is float64\[2, 7\], which is not x FP32\[N, 8\]"),
        ({"x": np.zeros(8)}, r"float64\[8\]"),
        ({"x": np.zeros((2, 8), complex)}, "complex128"),
        ({"x": np.zeros((0, 8))}, "0 rows"),
    ],
)
def test_samples_that_do_not_fit_are_refused(tmp_path, matmul, arrays, problem):
    samples = tmp_path / "samples.npz"
    np.savez(samples, **arrays)
    with pytest.raises(ConfigurationError, match=problem):
        compare(matmul.model, matmul.model, samples, [])


def test_samples_with_different_numbers_of_rows_are_refused(tmp_path):
    graph = make(
        tmp_path / "m.onnx", [("Add", "a b", "y")],
        {"a": ("FP32", ("N", 2)), "b": ("FP32", ("N", 2))}, {"y": ("FP32", ("N", 2))},
    )
    samples = tmp_path / "samples.npz"
    np.savez(samples, a=np.zeros((2, 2)), b=np.zeros((3, 2)))
    with pytest.raises(ConfigurationError, match="2 and 3 rows"):
        compare(graph.model, graph.model, samples, [])


@pytest.mark.parametrize("content", [None, b"", b"not a zip"])
def test_samples_that_can_not_be_read_are_refused(tmp_path, matmul, content):
    samples = tmp_path / "samples.npz"
    if content is not None:
        samples.write_bytes(content)
    with pytest.raises(ConfigurationError, match="can not be read"):
        compare(matmul.model, matmul.model, samples, [])


def test_without_samples_and_profiles_nothing_can_be_compared(matmul):
    with pytest.raises(ConfigurationError, match="no samples, and no profile"):
        compare(matmul.model, matmul.model, None, [])


def test_fp32_takes_every_graph_and_fp16_converts_what_is_fp32(tmp_path, matmul):
    assert not check_precision(matmul, "fp32")
    assert check_precision(matmul, "fp16")
    half = relu(tmp_path / "half.onnx", ("N", 4), "FP16")
    assert not check_precision(half, "fp16")


@pytest.mark.parametrize("precision", ["bf16", "int8", "fp8"])
def test_other_precisions_explain_how_to_get_them(matmul, precision):
    with pytest.raises(ConfigurationError, match=f"not in {precision.upper()}") as caught:
        check_precision(matmul, precision)
    assert caught.value.cure == recipe(precision)
    assert f"model.{precision}.onnx" in caught.value.cure


def test_graphs_that_carry_the_precision_are_taken(tmp_path):
    assert not check_precision(relu(tmp_path / "b.onnx", ("N", 4), "BF16"), "bf16")
    assert not check_precision(quantized(tmp_path / "q.onnx", np.array(0, np.int8)), "int8")


def test_fp8_is_told_by_its_zero_point(tmp_path):
    path = tmp_path / "q.onnx"
    quantized(path, np.array(0, np.int8))
    model = onnx.load(path)
    zero = next(one for one in model.graph.initializer if one.name == "zero")
    zero.data_type = TensorProto.FLOAT8E4M3FN
    graph = graph_of(model, path)
    assert not check_precision(graph, "fp8")
    with pytest.raises(ConfigurationError, match="quantized to FLOAT8E4M3FN and not to INT8"):
        check_precision(graph, "int8")


def test_unsigned_quantization_is_refused(tmp_path):
    graph = quantized(tmp_path / "q.onnx", np.array(128, np.uint8))
    with pytest.raises(ConfigurationError, match="quantized to UINT8 and not to INT8"):
        check_precision(graph, "int8")


def test_quantized_graphs_are_not_converted_afterwards(tmp_path):
    graph = quantized(tmp_path / "q.onnx", np.array(0, np.int8))
    with pytest.raises(ConfigurationError, match="the model is quantized"):
        check_precision(graph, "fp16")


def test_an_unknown_precision_is_refused(matmul):
    with pytest.raises(ConfigurationError, match="'fp12' is not a precision"):
        check_precision(matmul, "fp12")


def test_there_is_a_recipe_for_each():
    assert all(map(recipe, PRECISIONS))
    assert "autocast" in recipe("bf16")
    assert "--quantize_mode fp8" in recipe("fp8")


def test_reshapes_survive_the_conversion(tmp_path):
    graph = flattened(tmp_path / "m.onnx", "N", (0, 8))
    (error,) = compare(
        graph.model, to_fp16(graph.model, keep_io=True), None, from_sizes(graph, ["8"])
    )
    assert error.relative_l2 < 0.01
