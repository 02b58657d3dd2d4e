"""Everything short of serving: scan, parse, load, configure, and run once."""

from collections.abc import Callable, Iterator
from contextlib import closing
from math import prod
from pathlib import Path

import msgspec

from trtserve.device.interface import Device
from trtserve.engine.interface import Engine, Runtime, TensorMemory
from trtserve.errors import DeviceError, OperatorError, RequestError
from trtserve.model.finding import Finding
from trtserve.model.repository import ModelFolder, scan
from trtserve.model.spec import TensorSpec, VariantSpec
from trtserve.model.tensor import DATATYPES, Shape
from trtserve.model.version_folder import VersionFolder
from trtserve.worker.loader import load_version, served_suffixes
from trtserve.worker.warmup import known_buckets

EMPTY_BYTES_ELEMENT = 4
"""Bytes of an empty string on the wire: its length."""


class CheckedVariant(msgspec.Struct, frozen=True):
    """A variant that loads. `takes` are its inputs with the range of shapes; `max_batch` 0: not
    batched; `ran` the batches of zeros that it was run on: none where its shapes are open."""

    name: str
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    max_batch: int
    ran: tuple[str, ...]


class CheckedVersion(msgspec.Struct, frozen=True):
    """A version; it would be served if `ok`."""

    model: str
    version: int
    ok: bool
    variants: tuple[CheckedVariant, ...] = ()


class Checked(msgspec.Struct, frozen=True):
    """What a check found; `ok` if nothing is an error."""

    ok: bool
    findings: tuple[Finding, ...]
    versions: tuple[CheckedVersion, ...]


class Checker:
    """Checks repositories with the runtimes and the device that would serve them.

    `progress` is told what comes next, for people who wait.
    """

    def __init__(
        self, runtimes: tuple[Runtime, ...], device: Device, progress: Callable[[str], None]
    ) -> None:
        self._runtimes = runtimes
        self._device = device
        self._progress = progress
        self._findings: list[Finding] = []

    def check(self, root: Path) -> Checked:
        """Check one repository; whatever is wrong is a finding, nothing is raised."""
        repository = scan(root, served_suffixes(self._runtimes))
        self._findings = list(repository.findings)
        versions = tuple(
            self._check_version(model, version)
            for model in repository.models
            for version in model.versions
        )
        findings = tuple(self._findings)
        return Checked(all(f.severity != "error" for f in findings), findings, versions)

    def _check_version(self, model: ModelFolder, version: VersionFolder) -> CheckedVersion:
        failed = CheckedVersion(model.name, version.version, ok=False)
        if version.error or model.configuration is None:
            return failed  # the scan has said why
        self._progress(f"Loading {model.name} version {version.version}")
        try:
            spec, places = load_version(
                model.name, version, model.configuration, self._runtimes, self._device
            )
        except OperatorError as error:
            # Not every cause knows its file.
            where = error.where or str(version.path)
            self._findings.append(Finding("error", where, error.problem, error.cure))
            return failed
        variants, ok = [], True
        for (engine, index), variant in zip(places, spec.variants, strict=True):
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
        for engine in {id(engine): engine for engine, _ in places}.values():
            engine.close()
        return CheckedVersion(model.name, version.version, ok, tuple(variants))

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
            closing(engine.create_context(index)) as context,
        ):
            inputs = [
                TensorMemory(zeros.address, size, shape)
                for size, shape in zip(sizes, shapes, strict=True)
            ]
            context.enqueue(stream, inputs, [None] * len(variant.outputs))
            stream.synchronize()


def _known_shapes(variant: VariantSpec, model: ModelFolder) -> Iterator[tuple[Shape, ...]]:
    """The whole shapes that requests will surely have, each with one batch size."""
    warmups = model.configuration.warmups if model.configuration else ()
    for bucket, rows in known_buckets(variant, warmups):
        batch = (rows[0] if rows else 1,) if variant.max_batch else ()
        yield tuple((*batch, *shape) for shape in bucket)


def _checked(variant: VariantSpec, ran: list[str]) -> CheckedVariant:
    return CheckedVariant(
        variant.name,
        tuple(
            f"{tensor.name} {tensor.datatype}{limits}"
            for tensor, limits in zip(variant.inputs, variant.ranges, strict=True)
        ),
        tuple(map(_tensor_text, variant.outputs)),
        variant.max_batch,
        tuple(ran),
    )


def _tensor_text(tensor: TensorSpec) -> str:
    return f"{tensor.name} {tensor.datatype}{list(tensor.shape)}"


def _shapes_text(shapes: tuple[Shape, ...]) -> str:
    return ", ".join(str(list(shape)) for shape in shapes)
