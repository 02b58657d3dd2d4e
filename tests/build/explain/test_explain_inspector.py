import pytest

from tests.build.explain.reports import (
    CONV_KERNEL,
    conv_10,
    layer,
    metadata,
    reformat_10,
    report_10,
    report_11,
    tensor_10,
    tensor_11,
)
from trtserve.build.explain.explanation import Port
from trtserve.build.explain.inspector import is_report, read_report, read_times, sources


def only(report, profile=0):
    (found,) = read_report(report, profile).layers
    return found


def test_a_layer_of_tensorrt_10():
    found = only(report_10(conv_10()))
    assert (found.name, found.kind) == ("/conv1/Conv + /relu1/Relu", "CaskConvolution")
    assert found.fused == ("/conv1/Conv", "/relu1/Relu")
    assert found.tactic == CONV_KERNEL
    assert found.precision == "FP16"
    assert found.inputs == (Port("a", "FP16", "Row major linear FP16 format", "[8, 64, 56, 56]"),)
    assert not found.reformat
    assert found.time_share is None


def test_a_layer_of_tensorrt_11_has_format_and_datatype_apart():
    found = only(report_11(layer(
        "gemm", "gemm", [tensor_11("a", "FP8", "Row major linear FP8 format (kLINEAR)")],
        [tensor_11("b", "BFloat16", "Row major linear BF16 format (kLINEAR)", (-1, 16))],
        TacticName="sm90_xmma_gemm_e4m3e4m3_f32", Metadata=metadata("/fc/MatMul"),
    )))
    assert found.inputs[0].datatype == "FP8"
    assert found.outputs == (
        Port("b", "BF16", "Row major linear BF16 format (kLINEAR)", "[-1, 16]"),
    )
    assert found.precision == "FP8", "what it reads, not what it writes"
    assert found.fused == ("/fc/MatMul",)


@pytest.mark.parametrize(("description", "datatype"), [
    ("Row major linear FP32", "FP32"),
    ("Thirty-two wide channel vectorized row major Int8 format.", "INT8"),
    ("Channel major FP16 format where channel % 4 == 0", "FP16"),
    ("Half(64,1:8,448,8)", "FP16"),
    ("Float", "FP32"),
    ("BFloat16", "BF16"),
    ("Int64", "INT64"),
    ("Bool", "BOOL"),
    ("N/A due to dynamic shapes", ""),
    ("", ""),
])
def test_datatypes_in_both_spellings_of_tensorrt_10(description, datatype):
    found = only(report_10(layer("a", "NoOp", [tensor_10("x", description)], [])))
    assert found.inputs[0].datatype == datatype
    assert found.precision == datatype


@pytest.mark.parametrize(("tactic", "precision"), [
    ("sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32kcrs", "INT8"),
    ("sm80_xmma_gemm_tf32f32_tf32f32_f32_tn_n_tilesize32x32x64", "TF32"),
    ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n", "BF16"),
    ("sm80_xmma_gemm_f16f16_f16f16_f16_nn", "FP16"),
    ("sm80_xmma_gemm_f32f32_f32f32_f32_nn", "FP32"),
    ("0x0000000000000000", ""),
])
def test_where_shapes_are_open_the_kernel_s_name_tells_the_precision(tactic, precision):
    unknown = tensor_10("x", "N/A due to dynamic shapes")
    found = only(report_10(layer("a", "gemm", [unknown], [unknown], TacticName=tactic)))
    assert found.precision == precision
    assert found.inputs[0].format == ""


def test_fp32_tensors_may_be_multiplied_in_tf32():
    full = tensor_10("x", "Row major linear FP32")
    found = only(report_10(layer(
        "a", "CaskConvolution", [full], [full], TacticName="sm80_xmma_fprop_tf32f32_tf32f32_f32",
    )))
    assert found.precision == "TF32"


def test_a_reformat_is_nobody_s_work_and_has_the_datatype_that_it_gives():
    found = only(report_10(reformat_10()))
    assert found.reformat
    assert found.fused == ()
    assert found.precision == "FP16"


@pytest.mark.parametrize(("name", "text", "wanted"), [
    ("conv", "", ("conv",)),
    ("a + b + c", "", ("a", "b", "c")),
    ("conv + PWN(PWN(sigmoid), mul)", "", ("conv", "sigmoid", "mul")),
    ("{ForeignNode[first...last]}", "", ("{ForeignNode[first...last]}",)),
    ("__myl_FcAdd_myl0_3", "", ()),
    ("__myl_FcAdd_myl0_3", metadata("/fc/MatMul", "/fc/Add"), ("/fc/MatMul", "/fc/Add")),
    ("a + b", metadata("q", "k", "q", separator="\x1e"), ("q", "k")),
    ("a", metadata("q", "k", separator=""), ("q", "k")),
    ("a", metadata("list[0]", "b"), ("list[0]", "b")),
])
def test_what_was_fused_is_in_the_metadata_or_else_in_the_name(name, text, wanted):
    assert sources(name, text) == wanted


def test_layers_of_each_profile_are_told_apart_by_their_names():
    report = report_10(
        conv_10(tactic="small"), conv_10("/conv1/Conv + /relu1/Relu [profile 1]", tactic="large"),
    )
    assert read_report(report).profiles == 2
    assert only(report, 0).tactic == "small"
    assert only(report, 1).tactic == "large"
    assert only(report, 1).fused == ("/conv1/Conv", "/relu1/Relu")
    assert only(report, 1).name.endswith("[profile 1]"), "times have this name"


def test_layers_without_a_number_are_those_of_all_profiles():
    report = report_10(conv_10())
    assert read_report(report).profiles == 1
    assert only(report, 1).tactic == CONV_KERNEL


def test_names_only_is_said_with_the_flag_that_gives_more():
    found = read_report(report_10(
        "Reformatting CopyNode for Input Tensor 0 to conv + relu", "conv + relu", "fc"
    ))
    assert not found.detailed
    assert [(one.fused, one.reformat) for one in found.layers] == [
        ((), True), (("conv", "relu"), False), (("fc",), False)
    ]
    (note,) = found.notes
    assert "only names" in note.problem
    assert "--profilingVerbosity=detailed" in note.cure
    assert "trtserve build" in note.cure


def test_no_layers_at_all_is_said_too():
    found = read_report(report_11())
    assert found.layers == ()
    assert "to tell nothing" in found.notes[0].problem
    assert "DETAILED" in found.notes[0].cure


def test_open_formats_are_said_with_what_closes_them():
    unknown = tensor_10("x", "N/A due to dynamic shapes")
    (note,) = read_report(report_10(layer("a", "gemm", [unknown], [unknown]))).notes
    assert "no context with known shapes" in note.problem
    assert not read_report(report_10(conv_10())).notes


def test_a_report_that_was_not_parsed_is_said():
    (note,) = read_report({"unparsed": "Layers: ..."}).notes
    assert "no JSON that is known here" in note.problem


def test_odd_values_are_passed_over():
    found = only({"Layers": [{"Name": "a", "Inputs": "none", "Outputs": [3], "Weights": 4}]})
    assert (found.name, found.kind, found.inputs, found.outputs) == ("a", "", (), ())


def test_reports_are_known_by_their_layers():
    assert is_report({"Layers": []})
    assert not is_report({"layers": []})
    assert not is_report([])


def test_times_as_trtexec_writes_them():
    # Made up after trtexec's documentation: a first entry that counts, then a layer each.
    assert read_times([
        {"count": 200},
        {"name": "a", "timeMs": 30.0, "averageMs": 0.15, "medianMs": 0.14, "percentage": 75},
        {"name": "b", "timeMs": 10.0, "averageMs": 0.05, "percentage": 25},
    ]) == {"a": 0.15, "b": 0.05}


@pytest.mark.parametrize(("content", "reason"), [
    ({}, "no list"), ([{"count": 3}], "no entry"), ([{"name": "a"}], "layer 'a' has no averageMs"),
])
def test_what_are_no_times_is_said(content, reason):
    with pytest.raises(ValueError, match=reason):
        read_times(content)
