"""Plans without the GPU that they are for: what their manifests say, and who could change them."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import msgspec

from trtserve.device.probe import CudaFacts
from trtserve.engine.tensorrt_variants import Profile, make_variants
from trtserve.errors import ModelLoadError
from trtserve.model.finding import Finding
from trtserve.model.plan_fit import TITLES, check_manifest, rebuild_command
from trtserve.model.plan_manifest import PlanManifest, read_manifest
from trtserve.model.plan_safety import (
    HOST_CODE_CURE,
    host_code_problem,
    places,
    writable_by_others,
    writable_cure,
)
from trtserve.model.spec import TensorSpec, VariantSpec

_RUNTIMES = {
    "tensorrt": ("tensorrt", "tensorrt_lean"),
    "tensorrt_rtx": ("tensorrt_rtx",),
}
"""What runs the plans of a module, the preferred one first."""

_NO_MANIFEST = "Build it with trtserve build, which writes one"


@dataclass(frozen=True, slots=True)
class CheckedPlan:
    """A plan that was not loaded. It would be served, as far as is known, if no finding is an
    error."""

    findings: tuple[Finding, ...]
    variants: tuple[VariantSpec, ...] = ()


def installed_runtimes() -> dict[str, str]:
    """The versions of TensorRT's modules that are installed. None of them is imported."""
    found = {}
    for module in TITLES:
        if find_spec(module) is not None:
            try:
                found[module] = metadata.version(module.replace("_", "-"))
            except metadata.PackageNotFoundError:
                found[module] = ""
    return found


class PlanChecker:
    """Checks plans for the GPUs and the runtimes that are here; without GPUs, only what holds
    everywhere."""

    def __init__(
        self, gpus: Sequence[CudaFacts] = (), runtimes: Mapping[str, str] | None = None
    ) -> None:
        self._gpus = tuple(gpus)
        self._runtimes = installed_runtimes() if runtimes is None else runtimes

    def check(self, plan: Path) -> CheckedPlan:
        """Check one plan; whatever is wrong is a finding, nothing is raised."""
        try:
            manifest = read_manifest(plan)
            findings = list(self._findings(plan, manifest))
        except ModelLoadError as error:
            return CheckedPlan((Finding.of(error),))
        except OSError as error:
            return CheckedPlan((Finding(
                "error", str(error.filename or plan), f"can not be read: {error.strerror}",
                "Let this user read it",
            ),))
        if manifest is None:
            return CheckedPlan(tuple(findings))
        specs, warnings = variants(plan, manifest)
        findings += [msgspec.structs.replace(warning, where=str(plan)) for warning in warnings]
        return CheckedPlan(tuple(findings), specs)

    def _findings(self, plan: Path, manifest: PlanManifest | None) -> Iterator[Finding]:
        user = os.geteuid()
        found = places(plan)
        problems = writable_by_others(found, user)
        if problems:
            yield Finding("error", str(plan), "; ".join(problems), writable_cure(found, user))
        if manifest is None:
            yield Finding(
                "warning", str(plan),
                "no manifest lies beside it, so only the GPU that it is for can tell what it "
                "takes", _NO_MANIFEST,
            )
            return
        host_code = host_code_problem(manifest, allowed=False)
        if host_code:
            yield Finding("error", str(plan), host_code, HOST_CODE_CURE)
        misfits = self._misfits(plan, manifest)
        if misfits:
            yield Finding("error", str(plan), "; ".join(misfits), (
                f"Build it again here: {rebuild_command(manifest, str(plan))}"
            ))
        elif not self._gpus:
            yield Finding("warning", str(plan), f"not loaded: {_made_for(manifest)}, and there "
                          "is no GPU here: a daemon on this machine can not serve it",
                          "Check it again on the machine that serves it")
        elif self._runtime(manifest) is None:
            title = TITLES.get(manifest.module, manifest.module)
            yield Finding(
                "error", str(plan), f"{title} is not installed here",
                f"Install {title} {manifest.module_version}",
            )

    def _misfits(self, plan: Path, manifest: PlanManifest) -> list[str]:
        """Why it does not run here, for each GPU, each reason once."""
        with plan.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        module = self._runtime(manifest)
        version = self._runtimes.get(module or "") or None
        # Without a GPU another version that is installed here says nothing about where it runs.
        known = module if self._gpus else None
        gpus: Sequence[CudaFacts | None] = self._gpus or (None,)
        return list(dict.fromkeys(
            problem for gpu in gpus for problem in check_manifest(
                manifest, sha256, module=known, version=version if known else None,
                compute_capability=gpu.compute_capability if gpu else None,
                gpu=gpu.name if gpu else None,
            )
        ))

    def _runtime(self, manifest: PlanManifest) -> str | None:
        """The module that would run it."""
        names = _RUNTIMES.get(manifest.module, ())
        return next((name for name in names if name in self._runtimes), None)


def variants(
    plan: Path, manifest: PlanManifest
) -> tuple[tuple[VariantSpec, ...], tuple[Finding, ...]]:
    """What a plan takes and gives, by its manifest, and what to know of it: what the daemon says
    when it has loaded the plan."""
    network = manifest.network
    inputs = tuple(_spec(manifest, name) for name in network.inputs)
    outputs = tuple(_spec(manifest, name) for name in network.outputs)
    profiles = [
        Profile(index, tuple(profile.shapes[spec.name] for spec in inputs))
        for index, profile in enumerate(manifest.profiles)
    ]
    made, warnings = make_variants(plan.name, inputs, outputs, profiles)
    return tuple(variant.spec for variant in made), warnings


def _spec(manifest: PlanManifest, name: str) -> TensorSpec:
    tensor = manifest.network.tensors[name]
    return TensorSpec(name, tensor.datatype, tensor.shape)


def _made_for(manifest: PlanManifest) -> str:
    title = TITLES.get(manifest.module, manifest.module)
    if manifest.module == "tensorrt_rtx" or manifest.gpu is None:
        names = ", ".join(manifest.request.options.compute_capabilities)
        where = names or "SM80, SM86, SM89, SM120 and later"
    else:
        where = f"{manifest.gpu.name} (compute capability {manifest.gpu.compute_capability})"
    return f"it is for {where} with {title} {manifest.module_version}"
