"""Everything short of serving: scan, parse, place, load, configure, and run once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from math import prod
from pathlib import Path

import msgspec

from trtserve.cli.checking_golden import CheckedCase, GoldenChecker, alike
from trtserve.cli.checking_plans import PlanChecker
from trtserve.device.interface import Device
from trtserve.engine.interface import Engine, Runtime, TensorMemory
from trtserve.errors import DeviceError, OperatorError, RequestError
from trtserve.model.finding import Finding
from trtserve.model.placement import CPU, place
from trtserve.model.plan_manifest import PLAN_SUFFIXES
from trtserve.model.repository import ModelFolder, scan
from trtserve.model.spec import TensorSpec, VariantSpec, VersionSpec
from trtserve.model.tensor import DATATYPES, Shape
from trtserve.model.version_folder import VersionFolder, without_plans
from trtserve.worker.loader import load_version, served_suffixes
from trtserve.worker.warmup import known_buckets

EMPTY_BYTES_ELEMENT = 4
"""Bytes of an empty string on the wire: its length."""


class CheckedVariant(msgspec.Struct, frozen=True):
    """A variant that loads. `takes` are its inputs with the range of shapes; `max_batch` 0: not
    batched; `ran` the batches of zeros that it was run on: none where its shapes are open, or
    where it is a plan that was not `loaded`."""

    name: str
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    max_batch: int
    ran: tuple[str, ...]
    loaded: bool = True


class CheckedPlace(msgspec.Struct, frozen=True):
    """A device that a version would live on, with at most `lanes` batches there at once; None:
    as many as the device has lanes."""

    device: str
    lanes: int | None


class CheckedVersion(msgspec.Struct, frozen=True):
    """A version; it would be served if `ok`, on all of `places`. `labels` are other names for
    it; `weight` is its share of the requests that name no version, None without a split. `golden`
    are its golden cases."""

    model: str
    version: int
    ok: bool
    places: tuple[CheckedPlace, ...]
    variants: tuple[CheckedVariant, ...] = ()
    labels: tuple[str, ...] = ()
    weight: int | None = None
    golden: tuple[CheckedCase, ...] = ()


class Checked(msgspec.Struct, frozen=True):
    """What a check found; `ok` if nothing is an error. `devices` are those that the daemon would
    have."""

    ok: bool
    devices: tuple[str, ...]
    findings: tuple[Finding, ...]
    versions: tuple[CheckedVersion, ...]


class Checker:
    """Checks repositories with the runtimes that would serve them.

    Models are loaded and run on `device`, whichever of the daemon's `devices` they would live
    on; plans that no runtime loads there are left to `plans`. `progress` is told what comes
    next, for people who wait. `settled`: the daemon will have these devices wherever it runs, so
    that a plan of a model which lives on the CPU is not served.
    """

    def __init__(
        self, runtimes: tuple[Runtime, ...], device: Device, devices: Sequence[str],
        progress: Callable[[str], None], plans: PlanChecker | None = None, *,
        settled: bool = False,
    ) -> None:
        self._runtimes = runtimes
        self._device = device
        self._devices = tuple(devices)
        self._progress = progress
        self._plans = plans or PlanChecker()
        self._settled = settled
        self._findings: list[Finding] = []

    def check(self, root: Path) -> Checked:
        """Check one repository; whatever is wrong is a finding, nothing is raised."""
        suffixes = dict.fromkeys((*served_suffixes(self._runtimes), *PLAN_SUFFIXES))
        repository = scan(root, tuple(suffixes))
        self._findings = list(repository.findings)
        versions = tuple(
            _named(model, self._check_version(model, version, places))
            for model in repository.models
            for places in [self._place(model)]
            for version in model.versions
        )
        findings = tuple(self._findings)
        ok = all(finding.severity != "error" for finding in findings)
        return Checked(ok, self._devices, findings, versions)

    def _place(self, model: ModelFolder) -> tuple[CheckedPlace, ...]:
        """Where a model would live."""
        if model.configuration is None:
            return ()
        places = []
        for device in self._devices:
            placed = place(model.configuration, self._devices, device)
            if placed is not None:
                places.append(CheckedPlace(device, placed.lanes))
                if placed.finding is not None and placed.finding not in self._findings:
                    self._findings.append(placed.finding)
        return tuple(places)

    def _check_version(
        self, model: ModelFolder, version: VersionFolder, places: tuple[CheckedPlace, ...]
    ) -> CheckedVersion:
        failed = CheckedVersion(model.name, version.version, ok=False, places=places)
        if version.error or model.configuration is None:
            return failed  # the scan has said why
        self._progress(f"Loading {model.name} version {version.version}")
        version, planned, ok = self._check_plans(version, places)
        variants = [_checked(variant, [], loaded=False) for variant in planned]
        if not version.files:
            golden: tuple[CheckedCase, ...] = ()
            if planned:
                spec = VersionSpec(model.name, version.version, "", alike(planned, planned[0]))
                golden, fits = self._check_golden(version, spec, ())
                ok = ok and fits
            return CheckedVersion(
                model.name, version.version, ok, places, tuple(variants), golden=golden
            )
        try:
            spec, engines = load_version(
                model.name, version, model.configuration, self._runtimes, self._device
            )
        except OperatorError as error:
            # Not every cause knows its file.
            where = error.where or str(version.path)
            self._findings.append(Finding("error", where, error.problem, error.cure))
            return failed
        for (engine, index), variant in zip(engines, spec.variants, strict=True):
            ran: list[str] = []
            try:
                for shapes in _known_shapes(variant, model):
                    self._run(engine, index, variant, shapes)
                    ran.append(_shapes_text(shapes))
            except (RequestError, DeviceError) as error:
                ok = False
                self._findings.append(Finding(
                    "error", str(version.path / variant.name),
                    f"loads, and does not run zeros of {_shapes_text(shapes)}: {error}",
                    "Run the file in its own runtime on such an input, and export it again",
                ))
            variants.append(_checked(variant, ran))
        whole = msgspec.structs.replace(
            spec, variants=(*spec.variants, *alike(planned, spec.variants[0]))
        )
        golden, right = self._check_golden(version, whole, engines)
        for engine in {id(engine): engine for engine, _ in engines}.values():
            engine.close()
        return CheckedVersion(
            model.name, version.version, ok and right, places, tuple(variants), golden=golden
        )

    def _check_golden(
        self, version: VersionFolder, spec: VersionSpec, engines: Sequence[tuple[Engine, int]]
    ) -> tuple[tuple[CheckedCase, ...], bool]:
        """A version's golden cases, and whether nothing is wrong with them. `engines` are its
        first variants'."""
        checker = GoldenChecker(self._device, spec, engines)
        cases = checker.check(version.path)
        self._findings += checker.findings
        return cases, not checker.findings

    def _check_plans(
        self, version: VersionFolder, places: tuple[CheckedPlace, ...]
    ) -> tuple[VersionFolder, tuple[VariantSpec, ...], bool]:
        """The version without the plans that are not loaded here, their variants, and whether
        they are good as far as is known."""
        loaded = served_suffixes(self._runtimes)
        if self._settled and all(place.device == CPU for place in places):
            before = version.findings  # the scan has told them
            version = without_plans(version)
            self._findings += version.findings[len(before):]
            plans = [file for file in version.files if not file.name.endswith(loaded)]
            self._findings += [
                Finding("error", str(plan), "a plan runs on GPUs only, and this version lives on "
                        "the CPU", "Serve it on a GPU, or put the .onnx file in its place")
                for plan in plans
            ]
            return replace(version, files=() if plans else version.files), (), not plans
        plans = [file for file in version.files if not file.name.endswith(loaded)]
        checked = [self._plans.check(plan) for plan in plans]
        findings = [finding for plan in checked for finding in plan.findings]
        self._findings += findings
        return (
            replace(version, files=tuple(file for file in version.files if file not in plans)),
            tuple(variant for plan in checked for variant in plan.variants),
            all(finding.severity != "error" for finding in findings),
        )

    def _run(
        self, engine: Engine, index: int, variant: VariantSpec, shapes: tuple[Shape, ...]
    ) -> None:
        """Run whole shapes of zeros once. Raises what the engine raises."""
        sizes = [
            prod(shape) * (DATATYPES[tensor.datatype].itemsize or EMPTY_BYTES_ELEMENT)
            for tensor, shape in zip(variant.inputs, shapes, strict=True)
        ]
        with (
            closing(self._device.allocate_staging(max(sizes, default=1))) as zeros,
            closing(self._device.create_stream()) as stream,
            closing(engine.create_context(index, stream)) as context,
        ):
            inputs = [
                TensorMemory(zeros.address, size, shape)
                for size, shape in zip(sizes, shapes, strict=True)
            ]
            context.enqueue(stream, inputs, [None] * len(variant.outputs))
            stream.synchronize()


def _named(model: ModelFolder, version: CheckedVersion) -> CheckedVersion:
    """With its labels and its weight."""
    if model.configuration is None:
        return version
    names = model.configuration.names
    return msgspec.structs.replace(
        version, labels=names.labels_of(version.version), weight=names.weight_of(version.version)
    )


def _known_shapes(variant: VariantSpec, model: ModelFolder) -> Iterator[tuple[Shape, ...]]:
    """The whole shapes that requests will surely have, each with one batch size."""
    warmups = model.configuration.warmups if model.configuration else ()
    for bucket, rows in known_buckets(variant, warmups):
        batch = (rows[0] if rows else 1,) if variant.max_batch else ()
        yield tuple((*batch, *shape) for shape in bucket)


def _checked(variant: VariantSpec, ran: list[str], *, loaded: bool = True) -> CheckedVariant:
    return CheckedVariant(
        variant.name,
        tuple(
            f"{tensor.name} {tensor.datatype}{limits}"
            for tensor, limits in zip(variant.inputs, variant.ranges, strict=True)
        ),
        tuple(map(_tensor_text, variant.outputs)),
        variant.max_batch,
        tuple(ran),
        loaded,
    )


def _tensor_text(tensor: TensorSpec) -> str:
    return f"{tensor.name} {tensor.datatype}{list(tensor.shape)}"


def _shapes_text(shapes: tuple[Shape, ...]) -> str:
    return ", ".join(str(list(shape)) for shape in shapes)
