from pathlib import Path

import msgspec
import pytest

from tests.build.explain.plans import FULL, but, engine, fc, options, profile
from tests.build.explain.reports import CONV_KERNEL, conv_10, layer, reformat_10, tensor_10
from trtserve.build.explain.compare import Comparison, Difference, LayerDifference, compare
from trtserve.build.explain.plan import explain_manifest
from trtserve.build.explain.report import comparison_line
from trtserve.model.plan_manifest import PlanGpu


def compared(other, this=FULL) -> Comparison:
    return compare(
        explain_manifest(this, Path("this.plan")), explain_manifest(other, Path("other.plan"))
    )


def differences(other, this=FULL) -> dict[str, Difference]:
    return {one.what: one for one in compared(other, this).differences}


def test_what_is_alike_has_no_differences():
    found = compared(FULL)
    assert (found.this, found.other) == ("this.plan", "other.plan")
    assert found.differences == ()
    assert found.layers == ()
    assert found.alike == 2, "what was added is not compared"


@pytest.mark.parametrize(("changes", "what", "this", "other", "why"), [
    ({"gpu": PlanGpu("NVIDIA L4", "8.9", "13.0", "13.3")}, "GPU",
     "NVIDIA H200 (compute capability 9.0)", "NVIDIA L4 (compute capability 8.9)", "timed on"),
    ({"module_version": "10.16.0"}, "built with", "TensorRT 11.4.0.106", "TensorRT 10.16.0",
     "other kernels"),
    ({"onnx_sha256": "00" * 32}, "ONNX model", "m.onnx, SHA-256 cdcdcdcdcdcd",
     "m.onnx, SHA-256 000000000000", "other weights"),
    ({"fixes": ()}, "mended", "dimension 0 of x is open now", "not known", "rewritten"),
    ({"timing_cache": ""}, "timing cache", "efefefefefef", "none", "close decisions"),
    ({"request": options(level=5)}, "optimization level", "the builder's own choice", "5",
     "how many kernels"),
    ({"request": msgspec.structs.replace(FULL.request, precision="")}, "precision", "fp16",
     "as exported", "Fewer bits"),
    ({"profiles": (profile(opt=16),)}, "profile 0, x opt", "8x3x224x224", "16x3x224x224",
     "at the opt shape only"),
    ({"profiles": (profile(high=64),)}, "profile 0, x range",
     "[1..32, 3, 224, 224]", "[1..64, 3, 224, 224]", "wider one leaves fewer"),
    ({"profiles": (profile(), profile())}, "profiles", "1", "2", "variant of its own"),
    ({"engine": engine(scratch=(1 << 20,))}, "profile 0, scratch memory", "3.0 MiB", "1.0 MiB",
     "not their sum"),
])
def test_what_differs_is_named_with_why_it_matters(changes, what, this, other, why):
    found = differences(but(**changes))
    assert list(found) == [what]
    assert (found[what].this, found[what].other) == (this, other)
    assert why in found[what].meaning


def test_another_tactic_without_a_cause_is_noise():
    changed = but(engine=engine(reformat_10(), conv_10(tactic="other_f16f16"), fc()))
    found = compared(changed)
    (difference,) = found.differences
    assert (difference.what, difference.this) == ("other tactic", "1 layer")
    assert "close decisions" in difference.meaning
    assert found.layers == (LayerDifference(
        ("/conv1/Conv", "/relu1/Relu"), "tactic", CONV_KERNEL, "other_f16f16",
    ),)
    assert found.alike == 1


def test_another_tactic_on_another_gpu_follows_from_it():
    changed = but(
        engine=engine(reformat_10(), conv_10(tactic="sm89_f16f16"), fc()),
        gpu=PlanGpu("NVIDIA L4", "8.9", "13.0", "13.3"),
    )
    assert differences(changed)["other tactic"].meaning == "It follows from the differences above"
    opt = but(engine=changed.engine, profiles=(profile(opt=1),))
    assert differences(opt)["other tactic"].meaning == "It follows from the differences above"


def test_a_timing_cache_alone_explains_nothing():
    changed = but(engine=engine(reformat_10(), conv_10(tactic="other"), fc()), timing_cache="")
    assert "close decisions" in differences(changed)["other tactic"].meaning


def test_other_fusions_are_layers_of_one_side():
    apart = engine(
        conv_10("/conv1/Conv"),
        layer("/relu1/Relu", "PointWise", [tensor_10("b")], [tensor_10("c")]), fc(),
    )
    found = compared(but(engine=apart))
    named = {one.what: one for one in found.differences}
    assert (named["fused otherwise"].this, named["fused otherwise"].other) == (
        "1 layer", "2 layers")
    assert (named["nodes fused into others"].this, named["nodes fused into others"].other) == (
        "2", "0")
    assert (named["changes of layout"].this, named["changes of layout"].other) == ("1", "0")
    assert "layers that run" not in named, "there are three on both sides"
    assert {(one.nodes, bool(one.this)) for one in found.layers} == {
        (("/conv1/Conv", "/relu1/Relu"), True), (("/conv1/Conv",), False),
        (("/relu1/Relu",), False),
    }


def test_precision_is_compared_by_layer_and_in_sum():
    full = tensor_10("a", "Row major linear FP32")
    changed = but(engine=engine(
        reformat_10(), conv_10(),
        layer("/fc/MatMul", "gemm", [full], [full], TacticName="sm90_f32f32"),
    ))
    found = differences(changed)
    assert (found["layers by precision"].this, found["layers by precision"].other) == (
        "3 FP16", "2 FP16, 1 FP32")
    assert {"other precision", "other tactic", "other formats"} < found.keys()


def test_a_plan_that_tells_nothing_is_said():
    found = differences(but(engine=None))
    assert (found["layers that run"].this, found["layers that run"].other) == (
        "known", "not known")
    assert found["profile 0, scratch memory"].other == "not known"


def test_where_one_tells_nothing_no_layer_is_called_other():
    found = compared(but(engine=None))
    assert (found.layers, found.alike) == ((), 0)
    assert "other.plan has no report" in comparison_line(found)


def test_two_that_tell_nothing_are_not_called_alike():
    found = compared(but(engine=None), but(engine=None))
    line = comparison_line(found)
    assert "none to compare" in line
    assert "nothing differs in how they were built" in line
    assert "keeps the report" in line
    assert "alike" not in line
