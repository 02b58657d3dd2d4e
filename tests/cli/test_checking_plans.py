import hashlib

import msgspec
import pytest

from tests.model.test_plan_manifest import FULL
from trtserve.cli.checking import Checker
from trtserve.cli.checking_plans import PlanChecker, installed_runtimes, variants
from trtserve.device.host import HostDevice
from trtserve.device.probe import CudaFacts
from trtserve.engine.onnxruntime import OnnxRuntime
from trtserve.model.plan_manifest import (
    Network,
    NetworkTensor,
    PlanGpu,
    PlanOptions,
    PlanProfile,
    encode_manifest,
    manifest_path,
)
from trtserve.model.spec import ShapeRange
from trtserve.testing.models import make_identity

PLAN = b"a plan"
H200 = CudaFacts(0, "NVIDIA H200", "9.0", 150 << 30, 0, "0000:01:00.0")
L4 = CudaFacts(1, "NVIDIA L4", "8.9", 24 << 30, 0, "0000:02:00.0")
HERE = {"tensorrt": "11.4.0.106"}


@pytest.fixture
def put(tmp_path):
    """Puts a plan with a manifest into a version's folder."""
    def put(**fields):
        plan = tmp_path / "m" / "1" / "224.plan"
        plan.parent.mkdir(parents=True, exist_ok=True)
        plan.write_bytes(PLAN)
        plan.chmod(0o644)
        if "manifest" not in fields:
            manifest = msgspec.structs.replace(
                FULL, **{"plan_sha256": hashlib.sha256(PLAN).hexdigest(), **fields}
            )
            manifest_path(plan).write_bytes(encode_manifest(manifest))
        return plan
    return put


def told(plan, gpus=(H200,), runtimes=HERE):
    checked = PlanChecker(gpus, runtimes).check(plan)
    return [(finding.severity, finding.problem, finding.cure) for finding in checked.findings]


def test_a_plan_that_fits_has_nothing_to_tell(put):
    plan = put()
    assert told(plan) == []
    (variant,) = PlanChecker((H200,), HERE).check(plan).variants
    assert variant.name == "224.plan"


def test_without_a_gpu_it_says_what_the_plan_is_for(put):
    ((severity, problem, _),) = told(put(), ())
    assert severity == "warning"
    assert "NVIDIA H200 (compute capability 9.0) with TensorRT 11.4.0.106" in problem
    ((_, problem, _),) = told(put(module="tensorrt_rtx", module_version="1.7.1"), (), {})
    assert "SM120 and later with TensorRT-RTX 1.7.1" in problem


def test_without_a_gpu_the_version_here_says_nothing(put):
    assert "not loaded" in told(put(), (), {"tensorrt": "10.0"})[0][1]
    assert "not loaded" in told(put(), (), {"tensorrt_rtx": "1.7"})[0][1]


def test_another_gpu_or_version_is_an_error_with_the_command(put):
    plan = put(gpu=PlanGpu("NVIDIA L4", "8.9"), module_version="11.3.0.1")
    ((severity, problem, cure),) = told(plan)
    assert severity == "error"
    assert "NVIDIA L4 (compute capability 8.9)" in problem
    assert "11.3.0.1" in problem
    assert f"trtserve build /onnx/m.onnx --repository {plan.parents[2]} --name m" in cure


def test_every_gpu_counts(put):
    ((severity, problem, _),) = told(put(), (H200, L4))
    assert severity == "error"
    assert "NVIDIA L4 has compute capability 8.9" in problem


def test_a_runtime_is_needed_where_there_is_a_gpu(put):
    ((severity, problem, cure),) = told(put(), runtimes={"tensorrt_rtx": "1.7"})
    assert (severity, problem) == ("error", "TensorRT is not installed here")
    assert "11.4.0.106" in cure


def test_the_lean_runtime_runs_version_compatible_plans(put):
    options = PlanOptions(version_compatible=True)
    plan = put(request=msgspec.structs.replace(FULL.request, options=options))
    ((_, problem, _),) = told(plan, runtimes={"tensorrt_lean": "11.5"})
    assert "daemon's rights" in problem  # it has to be allowed, and otherwise it fits
    ((_, problem, _),) = told(put(), runtimes={"tensorrt_lean": "11.4.0.106"})
    assert "version-compatible plans only" in problem


def test_a_changed_plan_is_found_without_a_gpu(put):
    plan = put()
    plan.write_bytes(b"another plan")
    ((severity, problem, _),) = told(plan, ())
    assert severity == "error"
    assert "SHA-256" in problem


def test_a_plan_that_others_can_write_is_an_error(put):
    plan = put()
    plan.chmod(0o666)
    ((severity, problem, cure),) = told(plan)
    assert severity == "error"
    assert "its group and everybody" in problem
    assert f"chmod go-w {plan}" in cure


def test_a_plan_without_a_manifest_is_a_warning(put):
    ((severity, problem, cure),) = told(put(manifest=None))
    assert severity == "warning"
    assert "no manifest" in problem
    assert "trtserve build" in cure


def test_what_can_not_be_read_is_an_error(put, tmp_path):
    plan = put()
    manifest_path(plan).write_text("{")
    assert told(plan)[0][0] == "error"
    ((severity, problem, _),) = told(tmp_path / "gone.plan")
    assert severity == "error"
    assert "can not be read" in problem


def of_rows(*rows):
    return PlanProfile("", {"x": ShapeRange((rows[0], 224), (rows[2], 224), (rows[1], 224))})


def network(rows):
    return Network(("x",), ("y",), (), {
        "x": NetworkTensor("FP16", (rows, 224)), "y": NetworkTensor("FP32", (rows, 10)),
    })


def test_variants_are_those_that_the_daemon_would_have(put):
    other = PlanProfile("", {"x": ShapeRange((1, 224), (32, 224), (8, 224))})
    manifest = msgspec.structs.replace(
        FULL, network=network(-1), profiles=(of_rows(1, 1, 1), of_rows(2, 8, 32), other)
    )
    found, warnings = variants(put(), manifest)
    # Two of the profiles only divide the batches among them.
    assert [spec.name for spec in found] == ["224.plan#0", "224.plan#2"]
    assert (found[0].inputs[0].datatype, found[0].outputs[0].shape) == ("FP16", (-1, 10))
    assert [str(spec.ranges[0]) for spec in found] == ["[1..32, 224]", "[1..32, 224]"]
    assert [spec.max_batch for spec in found] == [32, 32]
    assert warnings == ()


def test_a_plan_for_one_image_is_told_without_a_gpu(put):
    plan = put(
        network=Network(("x",), ("y",), (), {
            "x": NetworkTensor("FP32", (1, 3, 8, 8)), "y": NetworkTensor("FP32", (1, 10)),
        }),
        profiles=(PlanProfile("", {"x": ShapeRange((1, 3, 8, 8), (1, 3, 8, 8))}),),
    )
    ((severity, problem, cure),) = told(plan)
    assert severity == "warning"
    assert "one image" in problem
    assert "trtserve build" in cure


def test_the_installed_runtimes_are_found():
    assert installed_runtimes()["tensorrt_rtx"][0].isdecimal()


# --- on the CPU ---------------------------------------------------------------------------


def on_the_cpu(root, *, settled):
    checker = Checker(
        (OnnxRuntime(),), HostDevice(), ("cpu",), lambda _: None, PlanChecker((), HERE),
        settled=settled,
    )
    return checker.check(root)


def test_a_plan_that_the_cpu_is_to_serve_is_an_error(put, tmp_path):
    put()
    checked = on_the_cpu(tmp_path, settled=True)
    assert not checked.ok
    assert not checked.versions[0].ok
    (finding,) = checked.findings
    assert (finding.severity, finding.problem) == (
        "error", "a plan runs on GPUs only, and this version lives on the CPU"
    )
    assert ".onnx" in finding.cure


def test_beside_an_onnx_file_it_is_left_out_on_the_cpu(put, tmp_path):
    make_identity(str(put().with_name("224.onnx")), ("N", 3))
    checked = on_the_cpu(tmp_path, settled=True)
    assert checked.ok
    assert [variant.name for variant in checked.versions[0].variants] == ["224.onnx"]
    (finding,) = checked.findings
    assert (finding.severity, finding.where[-8:]) == ("warning", "224.plan")
    assert "left out" in finding.problem


def test_where_it_may_be_meant_for_another_machine_its_manifest_counts(put, tmp_path):
    make_identity(str(put().with_name("224.onnx")), ("N", 3))
    checked = on_the_cpu(tmp_path, settled=False)
    assert [variant.name for variant in checked.versions[0].variants] == ["224.plan", "224.onnx"]
    assert ["not loaded" in finding.problem for finding in checked.findings] == [True]
