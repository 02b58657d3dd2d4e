from pathlib import Path

import msgspec
import pytest

from trtserve.errors import ModelLoadError
from trtserve.model.plan_manifest import (
    FORMAT,
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
    PrecisionError,
    decode_manifest,
    encode_manifest,
    manifest_path,
    read_manifest,
)
from trtserve.model.spec import ShapeRange

FULL = PlanManifest(
    created="2026-11-22T20:00:00Z",
    request=PlanRequest(
        model="/onnx/m.onnx", sizes=("160", "224"), batches=(1, 8, 32), split=True,
        precision="fp16", fix=True, options=PlanOptions(level=5, workspace_mib=512),
    ),
    place=PlanPlace("/models", "m", 3, "224.plan"),
    plan_sha256="ab" * 32,
    plan_bytes=1234,
    onnx_file="m.onnx",
    onnx_sha256="cd" * 32,
    fixes=("dimension 0 is open",),
    findings=(PlanFinding("fixed-batch", "warning", "one image", "open it", "x"),),
    precision_errors=(PrecisionError("y", 0.01, 0.001, 1.0),),
    module="tensorrt",
    module_version="11.4.0.106",
    versions={"onnx": "1.22.0"},
    gpu=PlanGpu("NVIDIA H200", "9.0", "13.0", "13.3"),
    profiles=(
        PlanProfile("224", {"x": ShapeRange((1, 3, 224), (32, 3, 224), (8, 3, 224))}),
    ),
    timing_cache="ef" * 32,
    build_seconds=12.5,
    network=Network(
        ("x",), ("y",), (NetworkLayer("a", "CONVOLUTION", ("x",), ("y",)),),
        {"x": NetworkTensor("FP16", (-1, 3, 224)), "y": NetworkTensor("FP16", ())},
    ),
    engine=EngineReport({"Layers": [{"Name": "a"}]}, (4096,), 0),
)


def test_a_manifest_reads_as_it_was_written():
    assert decode_manifest(encode_manifest(FULL), "here") == FULL


def test_it_lies_beside_its_plan(tmp_path):
    plan = tmp_path / "224.plan"
    assert manifest_path(Path("a/224.plan")) == Path("a/224.plan.json")
    assert read_manifest(plan) is None
    manifest_path(plan).write_bytes(encode_manifest(FULL))
    assert read_manifest(plan) == FULL


def test_a_field_that_a_later_version_adds_is_passed_over():
    written = msgspec.json.decode(encode_manifest(FULL))
    written["colour"] = "blue"
    assert decode_manifest(msgspec.json.encode(written), "here") == FULL


def test_a_later_format_is_not_guessed_at():
    data = msgspec.json.encode({"format": FORMAT + 1, "everything": "else"})
    with pytest.raises(ModelLoadError, match=f"format {FORMAT + 1}") as raised:
        decode_manifest(data, "m/1/224.plan.json")
    assert raised.value.where == "m/1/224.plan.json"
    assert "Update trtserve" in raised.value.cure


@pytest.mark.parametrize("data", [b"", b"{", b'{"format": "one"}', b'{"format": 1}', b"[]"])
def test_what_is_no_manifest_is_an_error_with_a_cure(data):
    with pytest.raises(ModelLoadError, match="not a plan's manifest") as raised:
        decode_manifest(data, "here")
    assert "Build the plan again" in raised.value.cure


def test_a_manifest_that_can_not_be_read_is_named(tmp_path):
    manifest_path(tmp_path / "x.plan").mkdir()
    with pytest.raises(ModelLoadError, match="can not be read") as raised:
        read_manifest(tmp_path / "x.plan")
    assert raised.value.where.endswith("x.plan.json")
