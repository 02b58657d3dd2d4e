import json
from pathlib import Path

import msgspec
import pytest

from tests.build.explain.plans import FULL, but, engine, fc, options, profile, write_plan
from tests.build.explain.reports import conv_10, reformat_10, report_10, report_11
from trtserve.build.explain.explanation import Totals
from trtserve.build.explain.plan import explain_layers, explain_manifest, explain_plan
from trtserve.errors import ConfigurationError, ModelLoadError
from trtserve.model.spec import ShapeRange


@pytest.fixture
def plan(tmp_path):
    return write_plan(tmp_path / "m.plan")


def problems(explanation):
    return [note.problem for note in explanation.notes]


def test_a_plan_with_a_report_is_explained_layer_by_layer(plan):
    found = explain_plan(plan)
    assert (found.name, found.kind) == ("m.plan", "plan")
    assert [one.fused for one in found.after or ()] == [
        (), ("/conv1/Conv", "/relu1/Relu"), ("/fc/MatMul",)
    ]
    assert found.gone == ("/shape/Shape",)
    assert found.totals == Totals(
        before=4, constants=1, after=3, fused=2, gone=1,
        fusions={"Convolution + Activation → CaskConvolution": 1}, reformats=1,
        added={"Reformat": 1}, precision={"FP16": 3},
    )


def test_its_facts_are_what_decides_the_builder_s_choice(plan):
    facts = explain_plan(plan).facts
    assert facts == {
        "built with": "TensorRT 11.4.0.106",
        "GPU": "NVIDIA H200 (compute capability 9.0)",
        "driver": "for CUDA 13.0",
        "CUDA": "13.3",
        "ONNX model": "m.onnx, SHA-256 cdcdcdcdcdcd",
        "mended": "dimension 0 of x is open now",
        "precision": "fp16",
        "optimization level": "the builder's own choice",
        "workspace": "all memory",
        "loads in": "this very version",
        "timing cache": "efefefefefef",
        "built": "2026-11-22T20:00:00Z, in 12.5 s",
        "plan": "6 B",
        "auxiliary streams": "0",
    }


def test_options_are_facts_too(plan):
    request = options(level=5, workspace_mib=512, version_compatible=True,
                      hardware_compatibility="ampere_plus")
    facts = explain_manifest(but(request=request), plan).facts
    assert facts["optimization level"] == "5"
    assert facts["workspace"] == "512 MiB"
    assert facts["loads in"] == "later versions too"
    assert facts["hardware compatibility"] == "ampere_plus"


def test_each_profile_has_its_shapes_and_its_scratch_memory(plan):
    manifest = but(
        profiles=(profile(1, 1, 1, "one"), profile(2, 16, 32, "many")),
        engine=engine(conv_10(tactic="a"), conv_10("b [profile 1]", tactic="b"),
                      scratch=(100, 200)),
    )
    found = explain_manifest(manifest, plan, 1)
    assert [(one.name, one.scratch_bytes) for one in found.profiles] == [("one", 100),
                                                                        ("many", 200)]
    assert found.profiles[1].shapes["x"] == ShapeRange(
        (2, 3, 224, 224), (32, 3, 224, 224), (16, 3, 224, 224)
    )
    assert [one.tactic for one in found.after or ()] == ["b"]
    with pytest.raises(ConfigurationError, match="no profile 2") as error:
        explain_manifest(manifest, plan, 2)
    assert error.value.cure == "Give --profile 0 to 1"


def test_without_a_report_there_is_the_network_before_building(plan):
    found = explain_manifest(but(engine=None), plan)
    assert found.after is None
    assert found.totals == Totals(before=4, constants=1, after=None,
                                  precision={"FP16": 3, "INT64": 1})
    assert [(one.name, one.kind, one.precision) for one in found.before] == [
        ("/conv1/Conv", "Convolution", "FP16"), ("/relu1/Relu", "Activation", "FP16"),
        ("/shape/Shape", "Shape", "INT64"), ("/fc/MatMul", "MatrixMultiply", "FP16"),
    ]
    assert found.before[0].shape == "[-1, 64, 112, 112]"
    *_, note = found.notes
    assert "no GPU could load the plan" in note.problem
    assert "trtserve build m.onnx" in note.cure


def test_plans_for_rtx_tell_where_kernels_are_chosen(plan):
    found = explain_manifest(
        but(engine=None, module="tensorrt_rtx", module_version="1.7.1.116", gpu=None,
            timing_cache="", request=options(compute_capabilities=("SM86", "SM120"))), plan,
    )
    assert found.facts["built with"] == "TensorRT-RTX 1.7.1.116"
    assert found.facts["built for"] == "SM86, SM120"
    assert found.facts["timing cache"] == "none"
    assert "GPU" not in found.facts
    assert "on the machine that runs the plan" in found.notes[-1].problem
    assert "--module tensorrt_rtx" in found.notes[-1].cure


def test_what_was_said_at_the_build_is_said_again(plan):
    assert "warning: a wide range" in problems(explain_plan(plan))


def test_a_plan_that_was_exchanged_is_said(plan):
    plan.write_bytes(b"another plan")
    found = explain_plan(plan)
    assert "not the one that its manifest describes" in problems(found)[0]
    assert found.facts["plan"] == "12 B", "the size is the file's"


def test_a_plan_without_a_manifest_has_its_size_and_says_what_is_needed(tmp_path):
    path = tmp_path / "foreign.engine"
    path.write_bytes(bytes(3 << 20))
    found = explain_plan(path)
    assert found.facts == {"plan": "3.0 MiB"}
    assert found.after is None
    assert found.before == ()
    (note,) = found.notes
    assert "foreign.engine.json" in note.problem
    assert "trtserve build" in note.cure
    assert "--exportLayerInfo" in note.cure


def test_a_plan_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ModelLoadError, match="No such file"):
        explain_plan(tmp_path / "m.plan")


def test_a_report_of_names_only_still_tells_what_was_fused(plan):
    found = explain_manifest(but(engine=engine("/conv1/Conv + /relu1/Relu", "/fc/MatMul")), plan)
    assert found.totals.fused == 2
    assert any("only names" in problem for problem in problems(found))
    assert found.totals.precision == {"unknown": 2}


def test_a_report_that_tells_nothing_leaves_the_network(plan):
    found = explain_manifest(but(engine=msgspec.structs.replace(engine(), layers={})), plan)
    assert found.after is None
    assert len(found.before) == 4
    assert "to tell nothing" in found.notes[0].problem


def test_layers_of_one_name_stay_apart(plan):
    network = msgspec.structs.replace(FULL.network, layers=(
        *FULL.network.layers, FULL.network.layers[-1],
    ))
    names = [one.name for one in explain_manifest(but(network=network), plan).before]
    assert names[-2:] == ["/fc/MatMul", "/fc/MatMul#5"]


def times_file(folder, *entries):
    path = folder / "times.json"
    path.write_text(json.dumps([{"count": 100}, *entries]))
    return path


def test_times_become_shares(plan, tmp_path):
    times = times_file(
        tmp_path, {"name": "/conv1/Conv + /relu1/Relu", "averageMs": 3},
        {"name": "/fc/MatMul", "averageMs": 1},
    )
    found = explain_plan(plan, 0, times)
    assert [one.time_share for one in found.after or ()] == [None, 0.75, 0.25]
    assert not any("nobody measured" in problem for problem in problems(found))


def test_times_of_another_plan_are_said(plan, tmp_path):
    found = explain_plan(plan, 0, times_file(tmp_path, {"name": "other", "averageMs": 1}))
    assert any("other layers than these" in problem for problem in problems(found))


def test_without_times_it_says_how_to_measure(plan):
    (note,) = (note for note in explain_plan(plan).notes if "nobody measured" in note.problem)
    assert "--exportProfile" in note.cure


@pytest.mark.parametrize(("content", "reason"), [
    ("{", "no JSON|not JSON"), ("[]", "not what trtexec --exportProfile writes"),
])
def test_wrong_times_are_an_error(plan, tmp_path, content, reason):
    times = tmp_path / "times.json"
    times.write_text(content)
    with pytest.raises(ConfigurationError, match=reason):
        explain_plan(plan, 0, times)


def layer_file(folder, report):
    path = folder / "layers.json"
    path.write_text(json.dumps(report))
    return path


def test_what_an_inspector_wrote_into_a_file_is_explained_alone(tmp_path):
    path = layer_file(tmp_path, report_10(reformat_10(), conv_10(), fc()))
    found = explain_layers(path)
    assert found.kind == "layers"
    assert found.totals.after == 3
    assert found.totals.fusions == {"2 layers in one CaskConvolution": 1}
    assert found.totals.added == {}, "nobody knows what was there before"
    assert found.gone == ()
    assert any("before building is not known" in problem for problem in problems(found))


def test_tensorrt_11_tells_the_profiles_there(tmp_path):
    small, large = ((1, 3, 64, 64),) * 3, ((1, 3, 64, 64), (8, 3, 96, 96), (8, 3, 128, 128))
    found = explain_layers(layer_file(tmp_path, report_11(conv_10(), profiles=(small, large))))
    assert [one.shapes["x"] for one in found.profiles] == [
        ShapeRange((1, 3, 64, 64), (1, 3, 64, 64), (1, 3, 64, 64)),
        ShapeRange((1, 3, 64, 64), (8, 3, 128, 128), (8, 3, 96, 96)),
    ]


def test_any_other_json_is_an_error(tmp_path):
    with pytest.raises(ModelLoadError, match="not what TensorRT's engine inspector writes"):
        explain_layers(layer_file(tmp_path, {"layers": []}))
    with pytest.raises(ConfigurationError, match="no profile 1"):
        explain_layers(layer_file(tmp_path, report_10(conv_10())), 1)


def test_times_without_layers_are_not_passed_over_in_silence(tmp_path):
    path = tmp_path / "times.json"
    path.write_text('[{"count": 2}, {"name": "conv", "timeMs": 1.0, "averageMs": 0.5}]')
    found = explain_manifest(but(engine=None), Path("a.plan"), times=path)
    assert any("are not shown" in problem for problem in problems(found))
    with pytest.raises(ConfigurationError, match="can not be read"):
        explain_manifest(but(engine=None), Path("a.plan"), times=tmp_path / "nothing.json")
