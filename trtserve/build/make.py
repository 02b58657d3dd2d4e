"""The whole build: one ONNX file in, a version with its plans in the repository."""

import hashlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from trtserve.build.builder import BuildOrder, PlanBuilder
from trtserve.build.engine_cache import CachedPlan, EngineCache, PlanIdentity, file_sha256
from trtserve.build.graph import Graph, read_graph
from trtserve.build.messages import readable
from trtserve.build.module import is_rtx, module_name
from trtserve.build.plan_files import FinishedPlan, next_version, publish, refuse_existing
from trtserve.build.prepare import Preparation, Prepared, converter_versions, prepare
from trtserve.build.progress import Observer
from trtserve.build.standing import made_from, plan_files, standing
from trtserve.build.timing_cache import TimingCache, timing_cache_path
from trtserve.clock import unix_seconds
from trtserve.model.plan_fit import TITLES
from trtserve.model.plan_manifest import (
    PlanGpu,
    PlanManifest,
    PlanPlace,
    PlanProfile,
    PlanRequest,
    encode_manifest,
)

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Target:
    """Where the plans go. `version` None: the newest, if it holds what would be built, else the
    next free one. With `force` everything is built again, and plans that are there are replaced:
    without a version those of the newest, if they are of the same file."""

    repository: Path
    model: str
    version: int | None = None
    force: bool = False


class MadePlan(msgspec.Struct, frozen=True):
    """One plan in the repository. `seconds` are those that its build took, maybe long ago if it
    was `cached`; `unchanged`: it was there already."""

    file: str
    profiles: tuple[PlanProfile, ...]
    bytes: int
    sha256: str
    seconds: float
    cached: bool
    unchanged: bool = False


class Made(msgspec.Struct, frozen=True):
    """What came of a request. No plans: the findings have errors. `note` says why a version was
    added or replaced, where the operator has named none."""

    preparation: Preparation
    folder: str = ""
    plans: tuple[MadePlan, ...] = ()
    note: str = ""


class PlanMaker:
    """Makes plans with one module, for one GPU if that module builds for one."""

    def __init__(
        self, module: Any, gpu: PlanGpu | None, no_gpu: str, cache: EngineCache,
        observer: Observer,
    ) -> None:
        self._module = module
        self._gpu = gpu
        self._no_gpu = no_gpu
        self._cache = cache
        self._observer = observer

    def make(self, request: PlanRequest, target: Target) -> Made:
        """Build what was not built before, and put it into the repository.

        Raises OperatorError; the repository is then as it was.
        """
        timing = self._timing_cache()
        builder = PlanBuilder(self._module, self._gpu, self._no_gpu, timing, self._observer)
        builder.check(request.options)
        self._cache.open()
        with tempfile.TemporaryDirectory(prefix="trtserve-build-") as folder:
            work = _Work(
                self._module, self._cache, self._observer, request, target, Path(folder)
            )
            if not work.preparation.ok:
                return Made(work.preparation)
            wanted = dict(_files(request, target.model, work.preparation.profiles))
            identities = {
                file: self._identity(work, profiles) for file, profiles in wanted.items()
            }
            place, note = _place(target, identities, request.model)
            there = {} if target.force else standing(place, identities)
            if there:
                return Made(
                    work.preparation, str(place),
                    tuple(_standing(file, manifest) for file, manifest in there.items()),
                )
            plans = [
                self._plan(work, builder, identities[file], file, place) for file in wanted
            ]
        publish(
            place, [plan for plan, made in plans if not made.unchanged], replace=target.force
        )
        return Made(work.preparation, str(place), tuple(made for _, made in plans), note)

    def _timing_cache(self) -> TimingCache | None:
        if self._gpu is None or is_rtx(self._module):
            return None  # the latter times nothing while it builds
        return TimingCache(timing_cache_path(
            self._cache.folder, module_name(self._module), self._module.__version__, self._gpu
        ))

    def _plan(
        self, work: "_Work", builder: PlanBuilder, identity: PlanIdentity, file: str, folder: Path
    ) -> tuple[FinishedPlan, MadePlan]:
        """One plan, in the cache when it returns."""
        profiles = identity.profiles
        cached = None if work.target.force else self._cache.get(identity.key)
        unchanged = cached is not None and _same(folder / file, cached.manifest.plan_sha256)
        if not unchanged and not work.target.force:
            refuse_existing(folder, [file])  # before it takes minutes
        if cached is None:
            cached = self._build(work, builder, identity, folder / file)
        manifest = self._manifest(work, cached.manifest, profiles, folder / file)
        return (
            FinishedPlan(file, cached.path, encode_manifest(manifest)),
            MadePlan(
                file, profiles, manifest.plan_bytes, manifest.plan_sha256,
                manifest.build_seconds, cached.hit, unchanged,
            ),
        )

    def _identity(self, work: "_Work", profiles: tuple[PlanProfile, ...]) -> PlanIdentity:
        request = work.request
        rewritten = request.fix or request.precision == "fp16"
        return PlanIdentity(
            onnx_sha256=work.original.sha256, fix=request.fix, precision=request.precision,
            profiles=profiles, options=request.options, module=module_name(self._module),
            module_version=self._module.__version__,
            versions=converter_versions() if rewritten else {},
            gpu=None if is_rtx(self._module) else self._gpu,
        )

    def _build(
        self, work: "_Work", builder: PlanBuilder, identity: PlanIdentity, plan: Path
    ) -> CachedPlan:
        prepared = work.prepared
        self._observer.begin(plan.name)
        try:
            built = builder.build(BuildOrder(
                prepared.graph, identity.profiles, work.request.options, str(work.original.path)
            ))
        finally:
            self._observer.end()
        if built.warnings:
            self._observer.note(f"{TITLES[identity.module]} warns: {readable(built.warnings)}")
        manifest = PlanManifest(
            created=datetime.fromtimestamp(unix_seconds(), UTC).isoformat(timespec="seconds"),
            request=work.request,
            place=PlanPlace("", "", 0, ""),
            plan_sha256=hashlib.sha256(built.plan).hexdigest(),
            plan_bytes=built.plan.nbytes,
            onnx_file=work.original.path.name,
            onnx_sha256=work.original.sha256,
            module=identity.module,
            module_version=identity.module_version,
            versions=converter_versions(),
            gpu=self._gpu,
            profiles=identity.profiles,
            timing_cache=built.timing_cache,
            build_seconds=round(built.seconds, 3),
            user_allocation=built.user_allocation,
            network=built.network,
            engine=built.engine,
        )
        return self._cache.put(identity.key, built.plan, manifest)

    def _manifest(
        self, work: "_Work", built: PlanManifest, profiles: tuple[PlanProfile, ...], plan: Path
    ) -> PlanManifest:
        """The manifest for this request: the plan may be from an earlier one."""
        prepared = work.preparation
        return msgspec.structs.replace(
            built,
            request=work.request,
            place=PlanPlace(
                str(work.target.repository), work.target.model, int(plan.parent.name), plan.name
            ),
            onnx_file=work.original.path.name,
            profiles=profiles,
            fixes=prepared.fixes,
            findings=prepared.findings,
            precision_errors=prepared.precision_errors,
        )


def lint_only(request: PlanRequest, module: Any, observer: Observer) -> Preparation:
    """Everything that is known about a model without building it. Raises OperatorError.

    `module` is asked what its parser takes, unless it is None.
    """
    original = read_graph(Path(request.model))
    with tempfile.TemporaryDirectory(prefix="trtserve-build-") as folder:
        return prepare(original, request, module, Path(folder), observer).preparation


class _Work:
    """One request: its graph is only mended and converted if a plan really has to be built."""

    def __init__(
        self, module: Any, cache: EngineCache, observer: Observer, request: PlanRequest,
        target: Target, folder: Path,
    ) -> None:
        self._cache = cache
        self._observer = observer
        self._folder = folder
        self.request = request
        self.target = target
        self.original: Graph = read_graph(Path(request.model))
        self._key = _preparation_key(self.original, request)
        known = None if target.force else cache.get_preparation(self._key)
        self._preparation = msgspec.json.decode(known, type=Preparation) if known else None

    @property
    def preparation(self) -> Preparation:
        """What came of the request before any build; from the cache if it is there."""
        return self._preparation or self.prepared.preparation

    @cached_property
    def prepared(self) -> Prepared:
        """The same, with the graph."""
        found = prepare(self.original, self.request, None, self._folder, self._observer)
        if found.preparation.ok:
            self._cache.put_preparation(self._key, msgspec.json.encode(found.preparation))
        return found


def _files(
    request: PlanRequest, model: str, profiles: tuple[PlanProfile, ...]
) -> Iterator[tuple[str, tuple[PlanProfile, ...]]]:
    """Each plan's file name and profiles: all in one, or one each."""
    if not request.split:
        yield f"{model}.plan", profiles
        return
    seen: dict[str, int] = {}
    for profile in profiles:
        name = _UNSAFE.sub("_", profile.name).lstrip("._") or "profile"
        seen[name] = seen.get(name, 0) + 1
        yield f"{name}.plan" if seen[name] == 1 else f"{name}-{seen[name]}.plan", (profile,)


def _place(
    target: Target, wanted: Mapping[str, PlanIdentity], model: str
) -> tuple[Path, str]:
    """The folder of the version that the plans go to, and why, where nobody named one."""
    folder = target.repository / target.model
    if target.version is not None:
        return folder / str(target.version), ""
    following = next_version(folder)
    newest, added = folder / str(following - 1), folder / str(following)
    files = plan_files(newest)
    if not files:
        return added, ""
    if files == set(wanted):
        if target.force and made_from(newest, model):
            return newest, f"Version {newest.name} was replaced: its plans are of the same file."
        if not target.force and standing(newest, wanted):
            return newest, ""
    return added, (
        f"Version {added.name} is new: the plans of version {newest.name} are of another file, or "
        f"were built otherwise. --version {newest.name} --force replaces them."
    )


def _standing(file: str, manifest: PlanManifest) -> MadePlan:
    return MadePlan(
        file, manifest.profiles, manifest.plan_bytes, manifest.plan_sha256,
        manifest.build_seconds, cached=True, unchanged=True,
    )


def _same(plan: Path, sha256: str) -> bool:
    try:
        return file_sha256(plan) == sha256
    except FileNotFoundError:
        return False


def _preparation_key(graph: Graph, request: PlanRequest) -> str:
    """A hash over everything that has a say in a preparation."""
    samples = file_sha256(Path(request.samples)) if request.samples else ""
    asked = (
        request.profiles, request.sizes, request.batches, request.precision, samples, request.fix
    )
    text = msgspec.json.encode((graph.sha256, asked, sorted(converter_versions().items())))
    return hashlib.sha256(text).hexdigest()
