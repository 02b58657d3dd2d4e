"""Whether a plan may be loaded here, before any runtime looks at it."""

import hashlib
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trtserve.device.interface import Device
from trtserve.errors import ModelLoadError
from trtserve.model.plan_fit import check_manifest, rebuild_command
from trtserve.model.plan_manifest import PlanManifest
from trtserve.model.plan_safety import (
    HASH_CURE,
    HOST_CODE_CURE,
    hash_problem,
    host_code_problem,
    places,
    writable_by_others,
    writable_cure,
)

RTX = "tensorrt_rtx"

_RTX_HEAD = b"vtrt"
"""How plans of TensorRT-RTX begin."""

_UNKNOWN_REBUILD = (
    "Build it again for this GPU and this runtime: trtserve build MODEL.onnx --repository "
    "REPOSITORY"
)


@dataclass(frozen=True, slots=True)
class PlanRules:
    """Which plans may be loaded. A plan is a program, and runs with the daemon's rights.

    `writable`: also those that others can write. `host_code`: also those with code for the
    host's processor. `hashes`: only these, by their SHA-256; None: any.
    """

    writable: bool = False
    host_code: bool = False
    hashes: frozenset[str] | None = None


@contextmanager
def opened(path: str) -> Iterator[mmap.mmap]:
    """The plan's bytes, mapped: plans are large, and the runtime copies what it needs.

    Raises ModelLoadError.
    """
    try:
        with open(path, "rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise ModelLoadError("the file is empty", where=path, cure="Copy it again")
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise ModelLoadError(
            f"can not be read: {error.strerror}", where=path, cure="Let this user read it"
        ) from error
    try:
        yield data
    finally:
        data.close()


def family(head: bytes, manifest: PlanManifest | None) -> str:
    """The module that a plan was built with, `tensorrt` or `tensorrt_rtx`, by its first bytes
    where no manifest says so."""
    if manifest is not None:
        return manifest.module
    return RTX if head.startswith(_RTX_HEAD) else "tensorrt"


def rebuild_cure(path: str, manifest: PlanManifest | None) -> str:
    """How to build a plan again, here."""
    if manifest is None:
        return _UNKNOWN_REBUILD
    return f"Build it again here: {rebuild_command(manifest, path)}"


def check_plan(
    path: str, data: mmap.mmap, manifest: PlanManifest | None, rules: PlanRules,
    module: str, version: str, device: Device,
) -> None:
    """Raise ModelLoadError, with the cure, if the plan may not or can not run here."""
    def refuse(problem: str, cure: str) -> None:
        if problem:
            raise ModelLoadError(problem, where=path, cure=cure)

    if not rules.writable:
        found, user = places(Path(path)), os.geteuid()
        refuse("; ".join(writable_by_others(found, user)), writable_cure(found, user))
    refuse(host_code_problem(manifest, allowed=rules.host_code), HOST_CODE_CURE)
    if manifest is None and rules.hashes is None:
        return
    sha256 = hashlib.sha256(data).hexdigest()
    refuse(hash_problem(sha256, rules.hashes), HASH_CURE)
    if manifest is not None:
        problems = check_manifest(
            manifest, sha256, module=module, version=version,
            compute_capability=device.compute_capability or None, gpu=device.product or None,
        )
        refuse("; ".join(problems), rebuild_cure(path, manifest))
