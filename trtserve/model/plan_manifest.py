"""What a TensorRT plan is, and what it was built from: the JSON file beside it.

    ROOT/MODEL/VERSION/FILE.plan
    ROOT/MODEL/VERSION/FILE.plan.json

A plan runs only where it was built for: on that GPU, with that TensorRT. The plan itself says so
when it is loaded, in words that help nobody; the manifest says it before, without a GPU.
"""

from pathlib import Path

import msgspec

from trtserve.errors import ModelLoadError
from trtserve.model.spec import ShapeRange

FORMAT = 1
"""Raised when older programs would misread a manifest. Fields may be added without it."""

PLAN_SUFFIXES = (".plan", ".engine")
"""What TensorRT's tools write."""

MANIFEST_SUFFIX = ".json"


class PlanProfile(msgspec.Struct, frozen=True):
    """One optimization profile: the range of whole shapes of each input."""

    name: str
    shapes: dict[str, ShapeRange]


class PlanOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How the builder is set. None and empty: the builder's own choice.

    `hardware_compatibility` is `none`, `ampere_plus` or `same_compute_capability`, and
    `compute_capabilities` are names such as SM86, for TensorRT-RTX only.
    """

    level: int | None = None
    workspace_mib: int | None = None
    version_compatible: bool = False
    hardware_compatibility: str = "none"
    compute_capabilities: tuple[str, ...] = ()


class PlanRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What `trtserve build` is asked for: enough to ask again. `precision` empty: as exported."""

    model: str
    profiles: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    batches: tuple[int, ...] = ()
    split: bool = False
    precision: str = ""
    samples: str = ""
    fix: bool = False
    options: PlanOptions = PlanOptions()


class PlanPlace(msgspec.Struct, frozen=True):
    """Where the plan was put."""

    repository: str
    model: str
    version: int
    file: str


class PlanGpu(msgspec.Struct, frozen=True):
    """The GPU that the plan was built on. `driver` is the newest CUDA that its driver supports,
    `cuda` the one of the packages."""

    name: str
    compute_capability: str
    driver: str = ""
    cuda: str = ""


class PlanFinding(msgspec.Struct, frozen=True):
    """What was to say about the ONNX model when the plan was built from it."""

    code: str
    severity: str
    problem: str
    cure: str = ""
    where: str = ""


class PrecisionError(msgspec.Struct, frozen=True):
    """How far an output of the converted model is from the original's.

    `max_abs` and `relative` (in the L2 norm) are None where the converted model overflows.
    `argmax_agreement` is the share of rows with the same largest number; None where rows have
    only one. `samples` says what both were run with.
    """

    output: str
    max_abs: float | None
    relative: float | None
    argmax_agreement: float | None = None
    samples: str = ""


class NetworkTensor(msgspec.Struct, frozen=True):
    """A tensor of the network before it is built. -1: a size that requests choose."""

    datatype: str
    shape: tuple[int, ...]


class NetworkLayer(msgspec.Struct, frozen=True):
    """A layer of the network before it is built, with the names of its tensors."""

    name: str
    type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Network(msgspec.Struct, frozen=True):
    """The network as it was parsed, before the builder fused anything."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    layers: tuple[NetworkLayer, ...]
    tensors: dict[str, NetworkTensor]


class EngineReport(msgspec.Struct, frozen=True):
    """What the built engine says about itself, on a GPU that can load it.

    `layers` is the inspector's own JSON, which differs between versions of TensorRT;
    `scratch_bytes` are what a context needs, for each profile.
    """

    layers: dict[str, object]
    scratch_bytes: tuple[int, ...]
    aux_streams: int


class PlanManifest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything to know about a plan.

    `created` is ISO 8601, UTC. `gpu` is where it was built, and, but for TensorRT-RTX, what it
    was built for. `versions` are those of everything else that had a part in it. `engine` is
    None where no GPU could load the plan. `timing_cache` is that file's SHA-256 after the
    build; empty without one. With `user_allocation` a context has to be given its scratch
    memory.
    """

    format: int = FORMAT
    created: str
    request: PlanRequest
    place: PlanPlace
    plan_sha256: str
    plan_bytes: int
    onnx_file: str
    onnx_sha256: str
    fixes: tuple[str, ...] = ()
    findings: tuple[PlanFinding, ...] = ()
    precision_errors: tuple[PrecisionError, ...] = ()
    module: str
    module_version: str
    versions: dict[str, str] = {}
    gpu: PlanGpu | None = None
    profiles: tuple[PlanProfile, ...] = ()
    timing_cache: str = ""
    build_seconds: float
    user_allocation: bool = False
    network: Network
    engine: EngineReport | None = None


class _Format(msgspec.Struct, frozen=True):
    format: int = 0


def manifest_path(plan: Path) -> Path:
    """Where the manifest of a plan lies."""
    return plan.with_name(plan.name + MANIFEST_SUFFIX)


def read_manifest(plan: Path) -> PlanManifest | None:
    """The manifest beside a plan; None if there is none, as for plans of other tools.

    Raises ModelLoadError.
    """
    path = manifest_path(plan)
    try:
        return decode_manifest(path.read_bytes(), str(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModelLoadError(
            f"can not be read: {error.strerror}", where=str(path), cure="Let this user read it"
        ) from error


def decode_manifest(data: bytes, where: str) -> PlanManifest:
    """A manifest from its bytes. Raises ModelLoadError that names `where`."""
    again = "Build the plan again, or remove this file if the plan came without it"
    try:
        written = msgspec.json.decode(data, type=_Format).format
        if written > FORMAT:
            raise ModelLoadError(
                f"this manifest has format {written}, and only {FORMAT} is known here",
                where=where, cure="Update trtserve, or build the plan again",
            )
        return msgspec.json.decode(data, type=PlanManifest)
    except msgspec.DecodeError as error:
        raise ModelLoadError(
            f"this is not a plan's manifest: {error}", where=where, cure=again
        ) from error


def encode_manifest(manifest: PlanManifest) -> bytes:
    """A manifest's bytes, which people can read too."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
