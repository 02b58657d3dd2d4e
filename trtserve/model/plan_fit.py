"""Whether a plan can run here, read from its manifest alone; and how to build it again. Pure."""

import shlex
from collections.abc import Iterator
from pathlib import PurePath

from trtserve.model.plan_manifest import PlanManifest, PlanPlace

TITLES = {
    "tensorrt": "TensorRT",
    "tensorrt_lean": "TensorRT's lean runtime",
    "tensorrt_rtx": "TensorRT-RTX",
}

_FAMILY = {"tensorrt": "tensorrt", "tensorrt_lean": "tensorrt", "tensorrt_rtx": "tensorrt_rtx"}
"""Modules that write and read the same plans."""

_NEXT_MAJOR = {8: 10, 10: 11}
"""Version-compatible plans of one major version run on this next one, and on no later one."""

_RTX_OWN_CHOICE = ("SM80", "SM86", "SM89")
_RTX_OWN_FIRST_LATER = (12, 0)
"""What TensorRT-RTX builds for if not told: these, and everything from here on."""


def check_manifest(
    manifest: PlanManifest,
    plan_sha256: str,
    *,
    module: str | None,
    version: str | None,
    compute_capability: str | None,
    gpu: str | None = None,
) -> list[str]:
    """Why a plan can not run with this runtime on this GPU; nothing if it can.

    `module` is the runtime's, such as `tensorrt`; `compute_capability` such as `9.0`; `gpu` the
    name that CUDA gives it. What is None is not known here, and not compared.
    """
    problems = []
    if plan_sha256 != manifest.plan_sha256:
        problems.append(
            f"the plan is not the one that its manifest describes: its SHA-256 is "
            f"{plan_sha256[:12]}..., not {manifest.plan_sha256[:12]}..."
        )
    if module is not None:
        problems += _runtime_problems(manifest, module, version)
    if compute_capability is not None:
        problems += _gpu_problems(manifest, compute_capability, gpu)
    return problems


def rebuild_command(manifest: PlanManifest, plan: str = "") -> str:
    """The command that builds the plan again, on the machine where it is to run.

    `plan` is where the plan lies now, ROOT/MODEL/VERSION/FILE, if that is known.
    """
    place, asked = _place(manifest, plan), manifest.request
    words = [
        "trtserve", "build", asked.model, "--repository", place.repository,
        "--name", place.model, "--version", str(place.version),
    ]
    for profile in asked.profiles:
        words += ["--profile", profile]
    if asked.sizes:
        words += ["--sizes", ",".join(asked.sizes)]
    if asked.batches:
        words += ["--batch", ",".join(map(str, asked.batches))]
    if asked.split:
        words.append("--split")
    if asked.precision:
        words += ["--precision", asked.precision]
    if asked.samples:
        words += ["--samples", asked.samples]
    if asked.fix:
        words.append("--fix")
    return shlex.join([*words, *_option_words(manifest), "--module", manifest.module, "--force"])


def _option_words(manifest: PlanManifest) -> Iterator[str]:
    options = manifest.request.options
    if options.level is not None:
        yield from ("--level", str(options.level))
    if options.workspace_mib is not None:
        yield from ("--workspace", str(options.workspace_mib))
    if options.version_compatible:
        yield "--version-compatible"
    if options.hardware_compatibility != "none":
        yield from ("--hardware-compatibility", options.hardware_compatibility)
    if options.compute_capabilities:
        yield from ("--compute-capability", ",".join(options.compute_capabilities))


def _place(manifest: PlanManifest, plan: str) -> PlanPlace:
    path = PurePath(plan)
    if len(path.parts) < 3 or not path.parts[-2].isdecimal():
        return manifest.place
    root, model, version, file = path.parents[2], *path.parts[-3:]
    return PlanPlace(str(root), model, int(version), file)


def _runtime_problems(
    manifest: PlanManifest, module: str, version: str | None
) -> Iterator[str]:
    here, built = TITLES.get(module, module), TITLES.get(manifest.module, manifest.module)
    if _FAMILY.get(module) != _FAMILY.get(manifest.module):
        yield f"it was built with {built}, and {here} is what runs here"
        return
    compatible = manifest.request.options.version_compatible
    if module == "tensorrt_lean" and not compatible:
        yield "the lean runtime runs version-compatible plans only, and it was not built as one"
    if version is None or version == manifest.module_version:
        return
    if not compatible:
        yield f"it was built with {built} {manifest.module_version}, and {version} runs here"
    elif not _runs_later(_numbers(manifest.module_version), _numbers(version)):
        yield (
            f"it was built version-compatible with {built} {manifest.module_version}, which "
            f"{version} does not run"
        )


def _runs_later(built: tuple[int, ...], here: tuple[int, ...]) -> bool:
    """Whether a version runs a version-compatible plan of another one."""
    return here >= built and (here[0] == built[0] or here[0] == _NEXT_MAJOR.get(built[0]))


def _gpu_problems(manifest: PlanManifest, capability: str, gpu: str | None) -> Iterator[str]:
    here = f"{gpu or 'this GPU'} has compute capability {capability}"
    if manifest.module == "tensorrt_rtx":
        names = manifest.request.options.compute_capabilities
        if not _rtx_runs(names, capability):
            wanted = ", ".join(names) or f"{', '.join(_RTX_OWN_CHOICE)}, SM120 and later"
            yield f"it was built for {wanted}, and {here}"
        return
    if manifest.gpu is None:
        return
    built, level = manifest.gpu, manifest.request.options.hardware_compatibility
    on = f"it was built on {built.name} (compute capability {built.compute_capability})"
    if level == "ampere_plus":
        if _numbers(capability) < (8, 0):
            yield f"it was built for compute capability 8.0 and later, and {here}"
    elif capability != built.compute_capability:
        yield f"{on}, and {here}"
    elif level == "none" and gpu is not None and gpu != built.name:
        yield f"{on}, and this is {gpu}"


def _rtx_runs(names: tuple[str, ...], capability: str) -> bool:
    name = "SM" + capability.replace(".", "")
    if names:
        return name in names
    return name in _RTX_OWN_CHOICE or _numbers(capability) >= _RTX_OWN_FIRST_LATER


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version, up to the first part that is none."""
    numbers: list[int] = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers) or (0,)
