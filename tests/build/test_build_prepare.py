import numpy as np
import pytest

from tests.build.test_builder import OCR, Watcher
from trtserve.build.graph import read_graph
from trtserve.build.prepare import choose_profiles, converter_versions, prepare
from trtserve.errors import ConfigurationError
from trtserve.model.plan_manifest import PlanRequest
from trtserve.testing.models import make_add, make_matmul, make_product, node, save


def prepared(path, tmp_path, module=None, observer=None, **request):
    folder = tmp_path / "work"
    folder.mkdir()
    return prepare(
        read_graph(path), PlanRequest(model=str(path), **request), module, folder,
        observer or Watcher(),
    )


@pytest.fixture
def matmul(tmp_path):
    path = tmp_path / "matmul.onnx"
    make_matmul(str(path), 64, 32)
    return path


@pytest.fixture
def fixed(tmp_path):
    """Its batch is fixed to 1."""
    path = tmp_path / "fixed.onnx"
    make_add(str(path), 1.0, (1, 16))
    return path


def profiles(path, **request):
    found, notes = choose_profiles(read_graph(path), PlanRequest(model=str(path), **request))
    return [(one.name, str(one.shapes["x"]), one.shapes["x"].opt) for one in found], notes


def test_written_profiles_are_taken(matmul):
    assert profiles(matmul, profiles=("x=1x64,2x64,4x64", "x=8x64")) == (
        [("", "[1..4, 64]", (2, 64)), ("", "[8, 64]", (8, 64))], ()
    )


def test_sizes_make_a_profile_each(tmp_path):
    path = tmp_path / "open.onnx"
    make_add(str(path), 1.0, ("N", 3, "H", "W"))
    assert profiles(path, sizes=("160", "224x320"), batches=(1, 4, 16)) == (
        [
            ("160", "[1..16, 3, 160, 160]", (4, 3, 160, 160)),
            ("224x320", "[1..16, 3, 224, 320]", (4, 3, 224, 320)),
        ],
        (),
    )
    assert profiles(path, sizes=("160",))[0] == [("160", "[1..32, 3, 160, 160]", (8, 3, 160, 160))]


def test_nothing_asked_for_is_derived_and_explained(matmul):
    found, notes = profiles(matmul)
    assert found == [("", "[1..32, 64]", (8, 64))]
    assert "1 to 32, tuned for 8" in notes[0]


def test_batches_alone_change_what_is_derived(matmul):
    assert profiles(matmul, batches=(2, 4, 64))[0] == [("", "[2..64, 64]", (4, 64))]
    assert profiles(matmul, batches=(16,))[0] == [("", "[16, 64]", (16, 64))]
    with pytest.raises(ConfigurationError, match="not a range of batches"):
        profiles(matmul, batches=(8, 1))


def test_batches_leave_a_fixed_dimension_alone(fixed):
    assert profiles(fixed, batches=(2, 4, 64))[0] == [("", "[1, 16]", (1, 16))]


def test_what_is_derived_for_other_batches_is_explained_for_them(matmul):
    assert profiles(matmul, batches=(2, 4, 64))[1][0] == "x: batches of 2 to 64, tuned for 4"
    assert profiles(matmul, batches=(16,))[1][0] == "x: batches of 16"


def test_a_fixed_batch_is_an_error_if_others_are_asked_for(fixed, tmp_path):
    found = prepared(fixed, tmp_path, batches=(1, 8, 32)).preparation
    (finding,) = found.findings
    assert (finding.code, finding.severity) == ("fixed-batch", "error")
    assert finding.problem.startswith("--batch asks for up to 32, but the batch of 'x'")


@pytest.mark.parametrize("asked", [{"batches": (1,)}, {"batches": (1, 8, 32), "fix": True}])
def test_a_fixed_batch_is_no_error_if_it_is_asked_for_or_mended(fixed, tmp_path, asked):
    assert prepared(fixed, tmp_path, **asked).preparation.ok


def test_inputs_without_a_batch_stand_in_nobody_s_way(tmp_path):
    path = tmp_path / "scaled.onnx"
    save(str(path), [node("Mul", ["x", "scale"], ["y"])],
         {"x": ("FP32", ("N", 16)), "scale": ("FP32", (1,))}, {"y": ("FP32", ("N", 16))})
    assert prepared(path, tmp_path, batches=(1, 8, 32)).preparation.ok


def test_a_graph_that_is_left_alone_is_built_from_its_own_file(matmul, tmp_path):
    found = prepared(matmul, tmp_path)
    assert found.graph == matmul
    assert found.preparation.ok
    assert found.preparation.fixes == ()
    assert [profile.name for profile in found.preparation.profiles] == ["profile-0"]


def test_what_is_wrong_is_told_and_mended_only_if_asked(fixed, tmp_path):
    found = prepared(fixed, tmp_path)
    assert [(f.code, f.severity) for f in found.preparation.findings] == [
        ("fixed-batch", "warning")
    ]
    assert found.graph == fixed


def test_a_mended_graph_lies_in_the_work_folder(fixed, tmp_path):
    watcher = Watcher()
    found = prepared(fixed, tmp_path, observer=watcher, fix=True)
    assert found.graph == tmp_path / "work" / "fixed.onnx"
    assert read_graph(found.graph).inputs[0].dims == ("batch", 16)
    assert found.preparation.findings == ()
    assert "dimension 0 is open now" in found.preparation.fixes[0]
    assert str(found.preparation.profiles[0].shapes["x"]) == "[1..32, 16]"
    assert watcher.notes == ["Mending fixed-batch"]


def test_what_only_profiles_show_is_mended_too(tmp_path):
    path = tmp_path / "product.onnx"
    save(str(path), [node("MatMul", ["a", "b"], ["y"])], {"a": ("FP32", ("N", "K")),
         "b": ("FP32", ("K", "N"))}, {"y": ("FP32", ("N", "M"))})
    found = prepared(path, tmp_path, profiles=("a=1x4,2x4,8x4;b=4x5",), fix=True)
    assert found.preparation.ok
    assert "symbol 'N' is split" in found.preparation.fixes[0]
    dims = {tensor.name: tensor.dims for tensor in read_graph(found.graph).inputs}
    assert dims["a"][0] != dims["b"][1]


def test_what_could_not_be_mended_says_why(tmp_path):
    # The sum over rows is another one for another batch.
    path = tmp_path / "sum.onnx"
    save(str(path), [node("ReduceMax", ["x"], ["y"], axes=[0], keepdims=1)],
         {"x": ("FP32", (1, 16))}, {"y": ("FP32", (1, 16))})
    watcher = Watcher()
    found = prepared(path, tmp_path, observer=watcher, fix=True)
    (finding,) = found.preparation.findings
    assert finding.code == "fixed-batch"
    assert watcher.notes == ["Mending fixed-batch"]  # once
    assert "not mended" in finding.problem
    assert found.graph == path


def test_errors_stand_in_the_way(tmp_path):
    found = prepared(
        OCR / "ch_ppocr_mobile_v2.0_cls_infer.onnx", tmp_path,
        profiles=("x=1x3x48x192,8x3x48x192,32x3x48x192",),
    )
    assert not found.preparation.ok
    assert {f.code for f in found.preparation.findings if f.severity == "error"} == {
        "shared-symbol"
    }


def test_fp16_is_made_and_compared(matmul, tmp_path):
    found = prepared(matmul, tmp_path, precision="fp16")
    (error,) = found.preparation.precision_errors
    assert error.output == "y"
    assert 0 < error.relative < 0.01
    assert "generated" in error.samples
    graph = read_graph(found.graph)
    assert found.graph != matmul
    assert graph.bytes < 0.6 * matmul.stat().st_size
    assert graph.inputs[0].datatype == "FP32"  # clients notice nothing


def test_an_overflow_is_a_finding(tmp_path):
    # y = x / (x * w - x), and w is 1 in FP16.
    path = tmp_path / "steep.onnx"
    save(str(path), [node("Mul", ["x", "w"], ["a"]), node("Sub", ["a", "x"], ["b"]),
                     node("Div", ["x", "b"], ["y"])],
         {"x": ("FP32", ("N", 16))}, {"y": ("FP32", ("N", 16))},
         {"w": np.array([1.0001], np.float32)})
    np.savez(tmp_path / "samples.npz", x=np.ones((4, 16), np.float32))
    found = prepared(path, tmp_path, precision="fp16", samples=str(tmp_path / "samples.npz"))
    (error,) = found.preparation.precision_errors
    assert (error.max_abs, error.relative) == (None, None)
    assert "samples.npz" in error.samples
    assert [(f.code, f.where) for f in found.preparation.findings] == [("fp16-overflow", "y")]


def test_other_precisions_come_from_elsewhere(matmul, tmp_path):
    with pytest.raises(ConfigurationError) as raised:
        prepared(matmul, tmp_path, precision="int8")
    assert "modelopt" in raised.value.cure


def test_the_parser_s_findings_are_told_if_it_is_asked(tmp_path):
    tensorrt_rtx = pytest.importorskip("tensorrt_rtx")
    path = tmp_path / "product.onnx"
    make_product(str(path))
    found = prepared(path, tmp_path, tensorrt_rtx, profiles=("a=1x4;b=4x5",))
    assert found.preparation.ok
    assert converter_versions()["trtserve"]
