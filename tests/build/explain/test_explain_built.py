"""A plan that was really built, with TensorRT-RTX, which needs no GPU for that."""

import tensorrt_rtx

from tests.build.explain.test_explain_onnx import make_conv_relu
from trtserve.build.engine_cache import EngineCache
from trtserve.build.explain.plan import explain_plan
from trtserve.build.explain.report import summary, tables
from trtserve.build.make import PlanMaker, Target
from trtserve.build.progress import Silent
from trtserve.model.plan_manifest import PlanRequest


def test_without_a_gpu_it_is_the_network_that_tensorrt_parsed(tmp_path):
    make_conv_relu(tmp_path / "net.onnx")
    maker = PlanMaker(tensorrt_rtx, None, "no GPU here", EngineCache(tmp_path / "cache"), Silent())
    maker.make(
        PlanRequest(
            model=str(tmp_path / "net.onnx"),
            profiles=("x=1x3x16x16,4x3x16x16,8x3x16x16", "x=8x3x16x16,16x3x16x16,32x3x16x16"),
        ),
        Target(tmp_path / "models", "net", 1, force=False),
    )
    (plan,) = (tmp_path / "models").rglob("*.plan")
    found = explain_plan(plan)
    assert found.after is None
    assert [(one.name, one.kind, one.precision, one.shape) for one in found.before] == [
        ("conv", "Convolution", "FP32", "[-1, 8, 16, 16]"),
        ("relu", "Activation", "FP32", "[-1, 8, 16, 16]"),
    ]
    assert [one.shapes["x"].opt for one in found.profiles] == [(4, 3, 16, 16), (16, 3, 16, 16)]
    assert found.facts["built with"].startswith("TensorRT-RTX 1.")
    assert summary(found)[0].startswith("Before building: 2 nodes")
    assert "The network before building" in [one.title for one in tables(found)]
    assert "TensorRT-RTX chooses its kernels" in found.notes[-1].problem
