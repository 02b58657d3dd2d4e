"""Checking a loaded version by its golden cases before it serves."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from trtserve.errors import RequestError
from trtserve.model.golden import (
    GoldenCase,
    Tolerances,
    arrange,
    as_expected,
    difference,
    read_golden,
)
from trtserve.model.route import Route, describe_variant, fit_variant
from trtserve.model.spec import VersionSpec
from trtserve.model.tensor import Shape, decode, encode

Answer: TypeAlias = Callable[[Route, Sequence[bytes]], Sequence[tuple[Shape, bytes]]]
"""Runs one request, given the bytes of its inputs, as a route says. Returns the whole shape and the
bytes of every output; raises what the run raises."""


def check_golden(folder: Path, spec: VersionSpec, answer: Answer) -> None:
    """Run the golden cases in a version's folder, if it has any, through every variant that
    takes their shapes.

    Raises ModelLoadError for an output beyond its tolerance, a case that no variant takes or
    that fails, and for files that are wrong; DeviceError when the device fails.
    """
    golden = read_golden(folder, spec)
    for case in golden.cases:
        for route in routes(case, spec):
            check_case(case, golden.tolerances, spec, route, answer)


def routes(case: GoldenCase, spec: VersionSpec) -> list[Route]:
    """How a case would run in each variant that takes it. Raises ModelLoadError if none does."""
    arrays = arrange(case, spec)
    shapes = [array.shape for array in arrays]
    fits = (fit_variant(variant, index, shapes) for index, variant in enumerate(spec.variants))
    found = [fit for fit in fits if fit is not None]
    if not found:
        takes = "; or ".join(map(describe_variant, spec.variants))
        came = ", ".join(
            f"{tensor.name} {list(shape)}"
            for tensor, shape in zip(spec.inputs, shapes, strict=True)
        )
        raise case.error(f"no variant takes {came}", f"The version takes {takes}")
    return found


def check_case(
    case: GoldenCase, tolerances: Tolerances, spec: VersionSpec, route: Route, answer: Answer
) -> None:
    """Run a case through one variant. Raises as check_golden does."""
    variant = spec.variants[route.variant]
    try:
        outputs = answer(route, [encode(array) for array in arrange(case, spec)])
    except RequestError as error:
        raise case.error(
            f"variant {variant.name} fails on it: {error}",
            "Mend the model, or the inputs of the case",
        ) from error
    for tensor, (shape, data) in zip(spec.outputs, outputs, strict=True):
        if tensor.name not in case.outputs:
            continue
        problem = difference(
            tensor.name, tensor.datatype, as_expected(case, tensor),
            decode(tensor.datatype, shape, data), tolerances.of(tensor.name),
        )
        if problem:
            raise case.error(
                f"variant {variant.name}: {problem}",
                "Serve the engine that the case was made with; or, if the change is meant, "
                "write the case again, or widen tolerances.json",
            )
