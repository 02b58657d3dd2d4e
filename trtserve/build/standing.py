"""Plans that lie in a repository already, and are what a request would build."""

from collections.abc import Mapping
from pathlib import Path

from trtserve.build.engine_cache import PlanIdentity, file_sha256
from trtserve.build.module import RTX
from trtserve.errors import ModelLoadError
from trtserve.model.plan_manifest import PLAN_SUFFIXES, PlanManifest, read_manifest


def identity_of(manifest: PlanManifest) -> PlanIdentity:
    """What a plan was built from and how, by its manifest."""
    asked = manifest.request
    rewritten = asked.fix or asked.precision == "fp16"
    return PlanIdentity(
        onnx_sha256=manifest.onnx_sha256, fix=asked.fix, precision=asked.precision,
        profiles=manifest.profiles, options=asked.options, module=manifest.module,
        module_version=manifest.module_version,
        versions=manifest.versions if rewritten else {},
        gpu=None if manifest.module == RTX else manifest.gpu,
    )


def standing(folder: Path, wanted: Mapping[str, PlanIdentity]) -> dict[str, PlanManifest]:
    """The manifests of the wanted plans, by file, if all of them lie there whole as they would be
    built now; else none."""
    found = _manifests(folder, wanted)
    if len(found) < len(wanted):
        return {}
    for file, manifest in found.items():
        if identity_of(manifest).key != wanted[file].key:
            return {}
        if file_sha256(folder / file) != manifest.plan_sha256:
            return {}
    return found


def plan_files(folder: Path) -> set[str]:
    """The names of the plans in a version's folder, those that others have put there too."""
    try:
        return {entry.name for entry in folder.iterdir() if entry.name.endswith(PLAN_SUFFIXES)}
    except OSError:
        return set()


def made_from(folder: Path, model: str) -> bool:
    """Whether all plans in a version's folder were built from that ONNX file."""
    files = plan_files(folder)
    found = _manifests(folder, files)
    return bool(files) and len(found) == len(files) and all(
        manifest.request.model == model for manifest in found.values()
    )


def _manifests(folder: Path, files: Mapping[str, object] | set[str]) -> dict[str, PlanManifest]:
    """What lies beside those of the files that are there and have a manifest that can be read."""
    found = {}
    for file in files:
        try:
            manifest = read_manifest(folder / file) if (folder / file).is_file() else None
        except (OSError, ModelLoadError):
            continue
        if manifest is not None:
            found[file] = manifest
    return found
