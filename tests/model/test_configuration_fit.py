"""Configurations against engines: what is agreed, what is narrowed, what is refused."""

import msgspec
import pytest
from google.protobuf import text_format

from trtserve.errors import ConfigurationError, RepositoryError
from trtserve.model.configuration import ModelConfiguration, apply, read_configuration
from trtserve.model.spec import ANY, ShapeRange, TensorSpec, VariantSpec
from trtserve.proto.model_config_pb2 import ModelConfig


def variant(name="a.onnx", shape=(-1, 3, -1, -1), out=(-1, 4), max_batch=32, **more):
    low = tuple(1 if dim == ANY else dim for dim in shape)
    limits = more.pop("limits", ShapeRange(low, tuple(shape)))
    return VariantSpec(
        name, (TensorSpec("x", "FP32", shape),), (TensorSpec("y", "INT64", out),), (limits,),
        max_batch,
    )


def fit(text, *variants, platform="onnxruntime_onnx"):
    configuration = ModelConfiguration(text_format.Parse(text, ModelConfig()))
    return apply(configuration, "det", 2, platform, variants or (variant(),))


def config_of(spec):
    return ModelConfig.FromString(spec.config)


def test_without_configuration_the_engine_decides():
    engine = variant()
    spec = fit("", engine)
    assert spec.variants == (engine,)
    assert (spec.model, spec.version, spec.platform) == ("det", 2, "onnxruntime_onnx")


def test_max_batch_size_limits_a_dynamic_batch():
    (fitted,) = fit("max_batch_size: 8").variants
    assert fitted.max_batch == 8
    assert fitted.ranges == (ShapeRange((1, 3, 1, 1), (8, 3, -1, -1)),)
    assert fitted.inputs == (TensorSpec("x", "FP32", (-1, 3, -1, -1)),)


@pytest.mark.parametrize(("size", "expected"), [(2, 2), (4, 4), (64, 4)])
def test_the_engines_own_limit_holds(size, expected):
    profile = ShapeRange((1, 3, 64, 64), (4, 3, 512, 512), (3, 3, 224, 224))
    (fitted,) = fit(f"max_batch_size: {size}", variant(limits=profile)).variants
    assert fitted.max_batch == expected
    assert fitted.ranges[0].max[0] == expected
    assert fitted.ranges[0].opt == (min(3, expected), 3, 224, 224)


def test_max_batch_size_makes_a_batch_of_what_the_engine_was_unsure_about():
    assert fit("max_batch_size: 8", variant(max_batch=0)).variants[0].max_batch == 8


def test_an_engine_of_one_image_can_not_batch():
    with pytest.raises(ConfigurationError) as caught:
        fit("max_batch_size: 8", variant(shape=(1, 3, 224, 224), out=(1, 4)))
    assert "a.onnx was built for one image" in caught.value.problem
    assert "dynamic batch dimension" in caught.value.cure


def test_an_engine_of_one_image_takes_batches_of_one():
    (fitted,) = fit("max_batch_size: 1", variant(shape=(1, 3, 9, 9), out=(1, 4))).variants
    assert fitted.max_batch == 1


def test_an_engine_of_a_fixed_batch():
    eight = variant(shape=(8, 3, 9, 9), out=(8, 4))
    assert fit("max_batch_size: 8", eight).variants[0].max_batch == 8
    with pytest.raises(ConfigurationError, match="takes batches of 8 or more"):
        fit("max_batch_size: 4", eight)


@pytest.mark.parametrize(("engine", "problem"), [
    (variant(out=(1, 4)), "dimension 0 of output 'y' of a.onnx is not a batch"),
    (variant(out=()), "dimension 0 of output 'y' of a.onnx is not a batch"),
    (variant(shape=()), "'x' of a.onnx is a single value"),
])
def test_what_has_no_batch_dimension_can_not_batch(engine, problem):
    with pytest.raises(ConfigurationError, match=problem):
        fit("max_batch_size: 8", engine)


def test_max_batch_size_0_turns_batches_off():
    spec = fit("max_batch_size: 0 input { name: 'x' dims: [-1, 3, 9, -1] }")
    assert spec.variants[0].max_batch == 0
    assert spec.variants[0].ranges == (ShapeRange((1, 3, 9, 1), (-1, 3, 9, -1)),)
    assert config_of(spec).input[0].dims == [-1, 3, 9, -1]


@pytest.mark.parametrize(("text", "max_batch"), [
    ("input { name: 'x' dims: [1, 3, -1, -1] }", 0),
    ("input { name: 'x' dims: [3, -1, -1] }", 32),
    ("input { name: 'x' }", 32),
    ("output { name: 'y' dims: [-1, 4] }", 0),
    ("output { name: 'y' dims: [4] }", 32),
])
def test_without_max_batch_size_the_rank_of_dims_decides(text, max_batch):
    assert fit(text).variants[0].max_batch == max_batch


def test_fixed_dims_narrow_the_range_and_the_shapes():
    spec = fit("""
        max_batch_size: 4
        input { name: 'x' data_type: TYPE_FP32 dims: [-1, 48, -1] } output { name: 'y' dims: 4 }
    """, variant(out=(-1, -1)))
    (fitted,) = spec.variants
    assert fitted.ranges == (ShapeRange((1, 3, 48, 1), (4, 3, 48, -1)),)
    assert fitted.inputs[0].shape == (-1, 3, 48, -1)
    assert fitted.outputs[0].shape == (-1, 4)


@pytest.mark.parametrize(("text", "problem", "cure"), [
    ("input { name: 'z' }", "a.onnx has no input 'z'", "It has x FP32[-1, 3, -1, -1]"),
    ("output { name: 'x' }", "a.onnx has no output 'x'", "It has y INT64[-1, 4]"),
    ("input { name: 'x' data_type: TYPE_STRING }", "is FP32, not BYTES", "TYPE_FP32"),
    ("input { name: 'x' dims: [1, 1] }", "do not have the rank", "write [3, -1, -1]"),
    ("max_batch_size: 4 input { name: 'x' dims: [-1, 3, 2, 2] }", "do not have the rank",
     "set max_batch_size: 0"),
    ("max_batch_size: 0 input { name: 'x' dims: [3, 2, 2] }", "do not have the rank",
     "There is no batch dimension: write [-1, 3, -1, -1]"),
    ("input { name: 'x' dims: [4, -1, -1] }", "[-1, 4, -1, -1] of 'x' does not fit a.onnx", "-1"),
    ("output { name: 'y' dims: 5 }", "[-1, 5] of 'y' does not fit", "-1"),
])
def test_disagreement_says_what_the_engine_has(text, problem, cure):
    with pytest.raises(ConfigurationError) as caught:
        fit(text)
    assert problem in caught.value.problem
    assert cure in caught.value.cure


def test_dims_outside_a_profile_are_refused():
    profile = ShapeRange((1, 3, 64, 64), (4, 3, 512, 512))
    for dim in (63, 513):
        with pytest.raises(ConfigurationError, match=r"\[1..4, 3, 64..512, 64..512\]"):
            fit(f"input {{ name: 'x' dims: [3, {dim}, -1] }}", variant(limits=profile))


def test_variants_of_different_sizes_make_one_version():
    small, large = (
        variant(f"{size}.onnx", shape=(-1, 3, size, size)) for size in (320, 640)
    )
    spec = fit("max_batch_size: 4 input { name: 'x' dims: [3, -1, -1] }", small, large)
    assert [entry.inputs[0].shape for entry in spec.variants] == [
        (-1, 3, 320, 320), (-1, 3, 640, 640)
    ]
    assert config_of(spec).input[0].dims == [3, -1, -1]


def test_variants_have_to_be_alike():
    first = variant("a")
    other_type = msgspec.structs.replace(first, name="b", inputs=(TensorSpec("x", "FP16", ()),))
    for second, problem in (
        (variant("a"), "two variants are named 'a'"),
        (other_type, r"a and b have different inputs: x FP32\[.*\]; and x FP16"),
        (variant("b", out=(-1, 4, 4)), "different outputs"),
        (variant("b", max_batch=0), "dimension 0 is a batch in a and not in b"),
    ):
        with pytest.raises(RepositoryError, match=problem) as caught:
            fit("", first, second)
        assert caught.value.where == "det/2"
        assert caught.value.cure
    assert fit("max_batch_size: 0", first, variant("b", max_batch=0)).variants[0].max_batch == 0
    assert len(fit("max_batch_size: 8", first, variant("b", max_batch=0)).variants) == 2


def test_no_variants_are_refused():
    with pytest.raises(RepositoryError, match="no engine"):
        apply(ModelConfiguration(), "det", 1, "onnxruntime_onnx", ())


def test_errors_name_the_line(tmp_path):
    (tmp_path / "config.pbtxt").write_text("input {\n name: 'x'\n dims: [\n4, 5, 6] }")
    with pytest.raises(ConfigurationError, match=r"config.pbtxt:4: the shape"):
        apply(read_configuration(tmp_path), "det", 1, "onnxruntime_onnx", (variant(),))


def test_the_complete_configuration_is_derived():
    message = config_of(fit("", variant(max_batch=16)))
    assert message == text_format.Parse("""
        name: "det" platform: "onnxruntime_onnx" backend: "onnxruntime" max_batch_size: 16
        version_policy { latest { num_versions: 1 } }
        input { name: "x" data_type: TYPE_FP32 dims: [3, -1, -1] }
        output { name: "y" data_type: TYPE_INT64 dims: [4] }
    """, ModelConfig())


def test_the_complete_configuration_keeps_what_was_written():
    message = config_of(fit("""
        platform: "something_else" max_batch_size: 64 version_policy { all {} }
        input { name: "x" format: FORMAT_NCHW dims: [3, 48, -1] }
        parameters { key: "k" value { string_value: "v" } }
        dynamic_batching { max_queue_delay_microseconds: 5 }
    """, variant(limits=ShapeRange((1, 3, 1, 1), (4, 3, 64, 64)))))
    assert message == text_format.Parse("""
        name: "det" platform: "onnxruntime_onnx" backend: "onnxruntime" max_batch_size: 4
        version_policy { all {} }
        input { name: "x" format: FORMAT_NCHW data_type: TYPE_FP32 dims: [3, 48, -1] }
        output { name: "y" data_type: TYPE_INT64 dims: [4] }
        parameters { key: "k" value { string_value: "v" } }
        dynamic_batching { max_queue_delay_microseconds: 5 }
    """, ModelConfig())


def test_the_written_message_stays_as_it_is():
    configuration = ModelConfiguration(text_format.Parse("max_batch_size: 64", ModelConfig()))
    apply(configuration, "det", 1, "onnxruntime_onnx", (variant(),))
    assert configuration.message == text_format.Parse("max_batch_size: 64", ModelConfig())


def test_unbatched_without_configuration():
    message = config_of(fit("", variant(shape=(1, 3), out=(1, 4), max_batch=0)))
    assert message.HasField("max_batch_size")
    assert message.max_batch_size == 0
    assert message.input[0].dims == [1, 3]
