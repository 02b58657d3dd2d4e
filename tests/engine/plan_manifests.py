"""Manifests for plans of the stand-in."""

import hashlib
from pathlib import Path

from trtserve.model.plan_manifest import (
    EngineReport,
    Network,
    PlanGpu,
    PlanManifest,
    PlanOptions,
    PlanPlace,
    PlanRequest,
    encode_manifest,
    manifest_path,
)
from trtserve.testing.tensorrt_plan import VERSIONS


def write_manifest(
    plan: str, *, module: str = "tensorrt", version: str = "", capability: str = "9.0",
    gpu: str = "Fake GPU", sha256: str = "", options: PlanOptions | None = None,
    scratch: tuple[int, ...] = (),
) -> None:
    """Write the manifest of a plan that was asked for with `--batch 1,8`."""
    path = Path(plan)
    data = path.read_bytes()
    manifest = PlanManifest(
        created="2026-11-01T00:00:00Z",
        request=PlanRequest(
            model="net.onnx", batches=(1, 8), options=options or PlanOptions()
        ),
        place=PlanPlace("/models", "net", 1, path.name),
        plan_sha256=sha256 or hashlib.sha256(data).hexdigest(), plan_bytes=len(data),
        onnx_file="net.onnx", onnx_sha256="0" * 64, module=module,
        module_version=version or VERSIONS[module], gpu=PlanGpu(gpu, capability),
        build_seconds=1.0, network=Network((), (), (), {}),
        engine=EngineReport({}, scratch, 0) if scratch else None,
    )
    manifest_path(path).write_bytes(encode_manifest(manifest))
