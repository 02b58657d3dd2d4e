"""Manifests of plans that nobody built, for explaining."""

import hashlib

import msgspec

from tests.build.explain.reports import conv_10, layer, reformat_10, report_10, tensor_10
from trtserve.model.plan_manifest import (
    EngineReport,
    Network,
    NetworkLayer,
    NetworkTensor,
    PlanFinding,
    PlanGpu,
    PlanManifest,
    PlanOptions,
    PlanPlace,
    PlanProfile,
    PlanRequest,
    encode_manifest,
    manifest_path,
)
from trtserve.model.spec import ShapeRange

PLAN = b"a plan"
IMAGE = (3, 224, 224)

NETWORK = Network(
    ("x",), ("y",),
    (
        NetworkLayer("weights", "CONSTANT", (), ("w",)),
        NetworkLayer("/conv1/Conv", "CONVOLUTION", ("x", "w"), ("c",)),
        NetworkLayer("/relu1/Relu", "ACTIVATION", ("c",), ("r",)),
        NetworkLayer("/shape/Shape", "SHAPE", ("x",), ("s",)),
        NetworkLayer("/fc/MatMul", "MATRIX_MULTIPLY", ("r",), ("y",)),
    ),
    {
        "x": NetworkTensor("FP16", (-1, *IMAGE)), "c": NetworkTensor("FP16", (-1, 64, 112, 112)),
        "r": NetworkTensor("FP16", (-1, 64, 112, 112)), "s": NetworkTensor("INT64", (4,)),
        "y": NetworkTensor("FP16", (-1, 10)),
    },
)


def shape_range(low, opt, high):
    return ShapeRange((low, *IMAGE), (high, *IMAGE), (opt, *IMAGE))


def profile(low=1, opt=8, high=32, name="0"):
    return PlanProfile(name, {"x": shape_range(low, opt, high)})


def fc(tactic="sm90_xmma_gemm_f16f16_f16f32_f32_tn_n"):
    return layer("/fc/MatMul", "gemm", [tensor_10("b")], [tensor_10("y", dims=(8, 10))],
                 TacticName=tactic)


def engine(*layers, scratch=(3 << 20,)):
    return EngineReport(report_10(*(layers or (reformat_10(), conv_10(), fc()))), scratch, 0)


FULL = PlanManifest(
    created="2026-11-22T20:00:00Z",
    request=PlanRequest(model="m.onnx", sizes=("224",), batches=(1, 8, 32), precision="fp16"),
    place=PlanPlace("models", "m", 3, "m.plan"),
    plan_sha256=hashlib.sha256(PLAN).hexdigest(),
    plan_bytes=len(PLAN),
    onnx_file="m.onnx",
    onnx_sha256="cd" * 32,
    fixes=("dimension 0 of x is open now",),
    findings=(PlanFinding("wide-range", "warning", "a wide range", "narrow it", "x"),),
    module="tensorrt",
    module_version="11.4.0.106",
    gpu=PlanGpu("NVIDIA H200", "9.0", "13.0", "13.3"),
    profiles=(profile(),),
    timing_cache="ef" * 32,
    build_seconds=12.5,
    network=NETWORK,
    engine=engine(),
)


def write_plan(path, manifest=FULL):
    """A plan and its manifest, on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(PLAN)
    manifest_path(path).write_bytes(encode_manifest(manifest))
    return path


def but(**changes):
    """The full manifest with some fields changed."""
    return msgspec.structs.replace(FULL, **changes)


def options(**changes):
    return msgspec.structs.replace(FULL.request, options=PlanOptions(**changes))
