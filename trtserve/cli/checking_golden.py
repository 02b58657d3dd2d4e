"""Golden cases through engines that are loaded here, without lanes."""

import ctypes
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

import msgspec

from trtserve.device.interface import Device
from trtserve.engine.interface import Engine, TensorMemory
from trtserve.errors import DeviceError, ModelLoadError, OperatorError
from trtserve.model.finding import Finding
from trtserve.model.golden import Golden, GoldenCase, read_golden
from trtserve.model.route import Route
from trtserve.model.spec import TensorSpec, VariantSpec, VersionSpec
from trtserve.model.tensor import Shape
from trtserve.worker.golden import check_case, routes


class CheckedCase(msgspec.Struct, frozen=True):
    """A golden case, and the variants that it was run through: none that is a plan."""

    name: str
    state: Literal["ok", "wrong", "not run"]
    variants: tuple[str, ...] = ()


class GoldenChecker:
    """Runs the golden cases of one version, whose first variants are `engines` with their
    indexes; what other variants would make of them is not known here."""

    def __init__(
        self, device: Device, spec: VersionSpec, engines: Sequence[tuple[Engine, int]]
    ) -> None:
        self._device = device
        self._spec = spec
        self._engines = engines
        self.findings: list[Finding] = []

    def check(self, version: Path) -> tuple[CheckedCase, ...]:
        """Check the cases in a version's folder; whatever is wrong becomes a finding."""
        try:
            golden = read_golden(version, self._spec)
        except OperatorError as error:
            self._tell(error)
            return ()
        return tuple(self._check(case, golden) for case in golden.cases)

    def _check(self, case: GoldenCase, golden: Golden) -> CheckedCase:
        try:
            found = routes(case, self._spec)
        except ModelLoadError as error:
            self._tell(error)
            return CheckedCase(case.path.name, "wrong")
        ran, wrong = [], False
        for route in found:
            if route.variant >= len(self._engines):
                continue
            ran.append(self._spec.variants[route.variant].name)
            try:
                check_case(case, golden.tolerances, self._spec, route, self._answer)
            except OperatorError as error:
                wrong = True
                self._tell(error)
            except DeviceError as error:
                wrong = True
                self._tell(case.error(f"variant {ran[-1]} fails on it: {error}", "Mend the model"))
        if not ran:
            return CheckedCase(case.path.name, "not run")
        return CheckedCase(case.path.name, "wrong" if wrong else "ok", tuple(ran))

    def _tell(self, error: OperatorError) -> None:
        self.findings.append(Finding("error", error.where, error.problem, error.cure))

    def _answer(self, route: Route, inputs: Sequence[bytes]) -> list[tuple[Shape, bytes]]:
        """Run one request by itself. Raises what the engine raises."""
        engine, index = self._engines[route.variant]
        variant = self._spec.variants[route.variant]
        batch = (route.rows,) if variant.max_batch else ()
        # The buffers outlive the run; an empty input has an address too.
        held = [ctypes.create_string_buffer(data, max(1, len(data))) for data in inputs]
        memories = [
            TensorMemory(ctypes.addressof(buffer), len(data), (*batch, *shape))
            for buffer, data, shape in zip(held, inputs, route.bucket, strict=True)
        ]
        with (
            closing(self._device.create_stream()) as stream,
            closing(engine.create_context(index, stream)) as context,
        ):
            outputs = context.enqueue(stream, memories, [None] * len(variant.outputs))
            stream.synchronize()
            return [(each.shape, ctypes.string_at(each.address, each.size)) for each in outputs]


def alike(variants: Iterable[VariantSpec], first: VariantSpec) -> tuple[VariantSpec, ...]:
    """Those that can be in one version with the first: the same names, datatypes and ranks."""
    return tuple(
        variant for variant in variants
        if _signature(variant.inputs) == _signature(first.inputs)
        and _signature(variant.outputs) == _signature(first.outputs)
    )


def _signature(tensors: Sequence[TensorSpec]) -> list[tuple[str, str, int]]:
    return [(tensor.name, tensor.datatype, len(tensor.shape)) for tensor in tensors]
